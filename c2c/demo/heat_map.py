"""How much each Fuser adds at each token: gate times dynamic weight, by layer and token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from c2c.fuser.layer import Fuser
from c2c.fuser.stack import FuserStack
from c2c.types import HALVES, Half, KeyValue

Row = list[float | None]
"""A number in [0, 1] for each token; None where the token has no Sharer token, or the layer is not fused."""


class FuserCall(NamedTuple):
    """What a Fuser read: keys and values ``(1, Hs, n, Ds)`` of the Sharer and ``(1, Ht, n, Dt)`` of the Receiver."""

    fuser: Fuser
    sharer: KeyValue
    receiver: KeyValue


@dataclass(frozen=True)
class HeatMap:
    """Gate times weight of one fused prompt, the mean over heads.

    Args:
        tokens: The fused part of the prompt, each token of the Receiver as text.
        rows: For keys and for values, a row for each Receiver layer.
        linked_layers: Receiver layers that have a Fuser.
        closed_layers: Those of them that the user closed.
    """

    tokens: list[str]
    rows: dict[Half, list[Row]]
    linked_layers: tuple[int, ...]
    closed_layers: tuple[int, ...] = field(default=())


@contextmanager
def recorded_calls(stack: FuserStack) -> Iterator[list[FuserCall]]:
    """Inside, each call of a Fuser adds what it reads to the list; the weights are computed later, off the clock."""
    calls: list[FuserCall] = []

    def record(module: nn.Module, inputs: tuple[KeyValue, ...]) -> None:
        assert isinstance(module, Fuser)
        calls.append(FuserCall(module, inputs[0], inputs[1]))

    hooks = [fuser.register_forward_pre_hook(record) for fuser in stack.all_fusers()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def heat_map(
    stack: FuserStack, calls: Sequence[FuserCall], token_map: Tensor, tokens: Sequence[str], closed: Sequence[int]
) -> HeatMap:
    """The heat map of a prompt that was fused in one section, in a loop over its layers.

    Args:
        stack: The Fusers, restricted as they were in the calls.
        calls: Of `recorded_calls`; the first of them fuse the prompt, one for each active layer in their order.
        token_map: ``(1, n)`` of the Sharer's input.
        tokens: Those of the Receiver's prompt, n or more.
        closed: Layers that the user closed.
    """
    # 1. Each active layer with its call
    active = [layer for layer in sorted(stack.links) if stack.is_active(layer)]
    columns = calls[0].receiver[0].shape[2] if calls else token_map.shape[1]
    matched = (token_map[0, :columns] >= 0).tolist()
    rows: dict[Half, list[Row]] = {half: [[None] * columns for _ in range(stack.receiver.layers)] for half in HALVES}
    # 2. Gate times weight: (1, Ht, n, 1) -> (n,)
    for layer, call in zip(active, calls, strict=False):
        weights = call.fuser.dynamic_weights(call.sharer, call.receiver) if call.fuser.weighted else None
        for place, half in enumerate(HALVES):
            gate = float(stack.is_open(layer, half))
            numbers = [1.0] * columns if weights is None else weights[place].float().mean(1)[0, :, 0].tolist()
            rows[half][layer] = [
                gate * number if is_matched else None for number, is_matched in zip(numbers, matched, strict=True)
            ]
    return HeatMap(list(tokens[:columns]), rows, tuple(sorted(stack.links)), tuple(sorted(closed)))


def message_bytes(stack: FuserStack, token_map: Tensor, element_size: int) -> int:
    """Bytes of the Sharer's cache that the open Fusers read: keys or values of a layer, at the tokens that are mapped.

    Args:
        stack: The Fusers, restricted as they answer.
        token_map: ``(1, n)`` of the Sharer's input.
        element_size: Bytes of a number in the Sharer's cache.
    """
    halves = {(stack.links[layer].sharer_layer, half) for layer, names in stack.open_halves().items() for half in names}
    tokens = {place for place in token_map[0].tolist() if place >= 0}
    return len(halves) * len(tokens) * stack.sharer.heads * stack.sharer.head_dim * element_size
