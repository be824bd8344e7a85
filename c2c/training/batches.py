"""Batches of training examples.

Each section of the prompt is left-padded and the response right-padded, so that all rows of a batch share one boundary
before the response, and masks and positions are right for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from c2c.alignment.tokens import SharerInput, left_pad
from c2c.fusion.batch import collate_chats
from c2c.models.pair import Pair
from c2c.training.examples import Example
from c2c.types import IGNORED, KeyValue


@dataclass(frozen=True)
class Batch:
    """Arguments of `RosettaModel.forward`: B rows of N columns, of which `supervised` tokens have a loss.

    `prefix` is what the Receiver holds of the first columns, where it has read them before.
    """

    kv_cache_index: list[Tensor]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sharer_input: SharerInput
    supervised: int
    prefix: list[KeyValue] | None = None

    @property
    def tokens(self) -> int:
        """The Receiver's tokens, pads left out."""
        return int(self.attention_mask.sum())

    def pinned(self) -> Batch:
        """The same batch in memory from which a GPU copies on its own."""
        ids, mask, labels = (tensor.pin_memory() for tensor in (self.input_ids, self.attention_mask, self.labels))
        names = ("input_ids", "attention_mask", "token_map")
        sharer = replace(self.sharer_input, **{name: getattr(self.sharer_input, name).pin_memory() for name in names})
        return replace(self, input_ids=ids, attention_mask=mask, labels=labels, sharer_input=sharer)

    @property
    def response_columns(self) -> int:
        """Width of the last section: what the Receiver continues from, and the responses."""
        return int(self.kv_cache_index[-1].shape[1])


def collate(
    examples: Sequence[Example],
    pair: Pair,
    *,
    zeroed: bool = False,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """One batch; see the module's text for its layout.

    Args:
        examples: B of them, plain and conversations in any mixture.
        pair: Gives the pad ids.
        zeroed: The Sharer's cache is zeros (recipe `adapter`).
        reencode: How the Sharer reads a response that is fused; see `SharerInput`.
    """
    # The prompts of all rows, section by section, left-padded.
    prompts = collate_chats(
        [example.prompt for example in examples], pair.receiver.pad, pair.sharer.pad, zeroed, reencode
    )
    # Responses behind them, right-padded: (B, R); only they are supervised.
    responses, response_mask = _right_pad([example.response_ids for example in examples], pair.receiver.pad)
    prompt_labels = torch.full_like(prompts.input_ids, IGNORED)
    labels = torch.cat([prompt_labels, responses.masked_fill(response_mask == 0, IGNORED)], dim=1)
    last = prompts.kv_cache_index[-1]
    # The last section goes on through the response: (1, 1, 2) -> (1, L + R, 2)
    response_index = last[:, :1].expand(1, last.shape[1] + responses.shape[1], 2)
    return Batch(
        kv_cache_index=[*prompts.kv_cache_index[:-1], response_index],
        input_ids=torch.cat([prompts.input_ids, responses], dim=1),
        attention_mask=torch.cat([prompts.attention_mask, response_mask], dim=1),
        labels=labels,
        sharer_input=prompts.sharer_input,
        supervised=int((labels != IGNORED).sum()),
    )


def _right_pad(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    # Reversed, left-padded and reversed again: (B, R)
    ids, mask = left_pad([row[::-1] for row in rows], pad)
    return ids.flip(1), mask.flip(1)
