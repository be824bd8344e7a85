"""Penalties on tokens that stand in the text already, in rows of which the first columns may be pads.

transformers' own repetition penalty takes pads for text: where the pad token is also the end token, a padded row would
end later than the same row alone. It has no presence and frequency penalties.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor


class WithoutPads(LogitsProcessor):
    """A processor that reads only which tokens a row has, with its pads replaced by the last prompt token.

    Args:
        processor: Of transformers; how often a token occurs must not matter to it.
        attention_mask: ``(B, N)`` of the prompt, whose last column is a token in every row.
    """

    def __init__(self, processor: LogitsProcessor, attention_mask: Tensor) -> None:
        self.processor, self.pads = processor, attention_mask == 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` ``(B, N + new)``, `scores` ``(B, V)``."""
        prompt = self.pads.shape[1]
        # The last prompt token is in every row anyway, so that putting it in place of pads adds no token to the set.
        tokens = input_ids.clone()
        tokens[:, :prompt] = torch.where(self.pads, input_ids[:, prompt - 1 : prompt], input_ids[:, :prompt])
        return self.processor(tokens, scores)


class CountPenalty(LogitsProcessor):
    """Lowers the score of each token by ``presence`` if it occurs and by ``frequency`` for each time that it does.

    Prompt and new text count; pads do not.

    Args:
        attention_mask: ``(B, N)`` of the prompt.
        presence: In logits.
        frequency: In logits.
    """

    def __init__(self, attention_mask: Tensor, presence: float = 0.0, frequency: float = 0.0) -> None:
        self.mask, self.presence, self.frequency = attention_mask, presence, frequency

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` ``(B, N + new)``, `scores` ``(B, V)``."""
        # Pads count 0, prompt and new tokens 1: (B, N + new).
        ones = torch.ones_like(input_ids, dtype=scores.dtype)
        ones[:, : self.mask.shape[1]] = self.mask.to(scores.dtype)
        # How often each token occurs in a row: (B, V)
        counts = torch.zeros_like(scores).scatter_add_(1, input_ids, ones)
        return scores - self.presence * (counts > 0).to(scores.dtype) - self.frequency * counts


def penalties_of(options: Mapping[str, float], attention_mask: Tensor) -> list[LogitsProcessor]:
    """Processors for ``presence_penalty``, ``frequency_penalty`` and ``repetition_penalty``, in the reference's order.

    Args:
        options: Penalties by their names.
        attention_mask: ``(B, N)`` of the prompt.
    """
    # Additive penalties come first, so that the repetition penalty scales what they left.
    presence, frequency = options.get("presence_penalty", 0.0), options.get("frequency_penalty", 0.0)
    processors: list[LogitsProcessor] = (
        [CountPenalty(attention_mask, presence, frequency)] if presence or frequency else []
    )
    repetition = options.get("repetition_penalty", 1.0)
    if repetition != 1.0:
        processors.append(WithoutPads(RepetitionPenaltyLogitsProcessor(repetition), attention_mask))
    return processors
