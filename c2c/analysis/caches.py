"""The caches of a question's fused tokens: the Receiver's, the Sharer's, and the fused one, at the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.cache import kv_cache
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import FusedReader
from c2c.fusion.fuse import align
from c2c.fusion.prompt import Section
from c2c.types import KeyValue


class PrefixCaches(NamedTuple):
    """Keys and values of the prefixes of a batch.

    Args:
        receiver: T layers ``(B, Ht, n, Dt)``, before fusion.
        sharer: S layers ``(B, Hs, n, Ds)``: for each Receiver token the Sharer's token that it is fused with.
        fused: T layers ``(B, Ht, n, Dt)``.
        counted: ``(B, n)`` bool: tokens that are fused; pads and tokens without a Sharer token are not.
    """

    receiver: list[KeyValue]
    sharer: Sequence[KeyValue]
    fused: list[KeyValue]
    counted: Tensor


@torch.no_grad()
def read_caches(reader: FusedReader, questions: Sequence[Question]) -> PrefixCaches:
    """Let both models read a batch of questions, and fuse.

    Args:
        reader: Chooses what the Sharer reads: these questions, others, or nothing.
        questions: The batch; of a deranged reader only questions that it was prepared for.
    """
    (index, ids, mask, [sharer_input]), _ = reader.layout(questions)
    model = reader.model
    prefix = Section(0, ids.shape[1] - index[-1].shape[1], (0,))
    # Both caches of the prefix, and which of its tokens are fused.
    reading = align(model.read_sharer(0, sharer_input), sharer_input.token_map).columns(prefix)
    receiver = kv_cache.layers_of(model.read_receiver(ids, mask, kv_cache.positions_of(mask), None, prefix))
    # Neither pads nor tokens without a Sharer token: (B, n)
    counted = mask[:, : prefix.end] > 0
    if reading.matched is not None:
        counted = counted & reading.matched.to(counted.device)
    return PrefixCaches(receiver, reading.layers, model.fuse_tokens(receiver, {0: reading}), counted)


def token_rows(states: Tensor, counted: Tensor) -> Tensor:
    """Keys or values ``(B, H, n, D)`` as a matrix of counted tokens, their heads side by side, ``(m, H * D)``."""
    # (B, H, n, D) -> (B, n, H * D) -> (m, H * D)
    return states.transpose(1, 2).flatten(2)[counted.to(states.device)]
