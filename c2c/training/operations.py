"""Floating-point operations of training examples, counted from weights and tokens. Imports no torch.

A weight costs 2 operations for each token that it reads, 4 where a gradient also passes through it, and 6 where it
learns (Kaplan et al., arXiv 2001.08361, section 2.1). Embeddings count as weights that are read; the products of
queries with keys, and of attention with values, are left out. The plan and ``python -m benchmarks.speed`` count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

FORWARD, THROUGH, TRAINED = 2, 4, 6
"""Operations of a weight and token: it reads; a gradient passes through it too; it learns."""


@dataclass(frozen=True)
class ExampleOperations:
    """Operations of one training example.

    Args:
        reading: What the frozen models compute of the prompt. It depends on no Fuser, so that trainings can share it.
        learning: What the Fusers compute of the prompt, and the Receiver of the answer.
    """

    reading: float
    learning: float

    @property
    def total(self) -> float:
        """Operations of the example in a training that shares nothing."""
        return self.reading + self.learning


def example_operations(
    prompt: float, answer: float, receiver: float, sharer: float, fusers: float, *, recomputed: bool = False
) -> ExampleOperations:
    """Operations of an example of Fuser training: ``p (2 S + 2 R + 6 F) + a 4 R``.

    The Receiver reads the prompt without a gradient, because its own states of the prompt do not depend on the Fusers;
    the gradient of the answer's loss passes through it to the fused cache.

    Args:
        prompt: Tokens of the prompt, all of which are fused.
        answer: Tokens of the supervised answer.
        receiver: Weights of the Receiver.
        sharer: Weights of the Sharer; 0 for one whose cache is zeros, because it does not run.
        fusers: Weights of the Fusers of all layers.
        recomputed: Whether the Fusers compute again in the backward pass.
    """
    operations = TRAINED + (FORWARD if recomputed else 0)
    return ExampleOperations(
        FORWARD * prompt * (sharer + receiver), operations * prompt * fusers + THROUGH * answer * receiver
    )
