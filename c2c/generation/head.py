"""Hooks at a model's head, the last linear layer, which turns hidden states into logits of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


@contextmanager
def hook_head(model: PreTrainedModel, transform: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, the model's head reads `transform` of the hidden states ``(B, n, hidden)``."""

    def before(module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (transform(arguments[0]), *arguments[1:])

    # A hook before the head, so that any model is served without knowing its class or patching its forward.
    head: Any = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def logits_at(model: PreTrainedModel, places: Tensor) -> AbstractContextManager[None]:
    """Inside, the model computes logits at some tokens only: ``(1, K, V)``, row by row.

    A vocabulary may have 150,000 tokens, so the head costs more than many layers. What the model does to its logits
    after the head, such as a soft cap, it does to these too.

    Args:
        model: A causal model.
        places: ``(B, n)`` bool with K true, over the tokens that the model is run on. On a CPU, no device is waited
            for.
    """
    # Rows and columns of the K places: as many as are true, which only the values tell
    places = places.nonzero().T

    def pick(hidden_states: Tensor) -> Tensor:
        # (B, n, hidden) -> (1, K, hidden)
        rows, columns = places.to(hidden_states.device, non_blocking=True)
        return hidden_states[rows, columns][None]

    return hook_head(model, pick)
