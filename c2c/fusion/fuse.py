"""Fuse the caches of some tokens: one Sharer after the other, or each with the Receiver's own cache.

See ``docs/reference-behaviour.md``, "Several Sharers".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

from c2c.cache import kv_cache
from c2c.fuser.grouped import StackedLayers
from c2c.fuser.stack import FuserStack
from c2c.fusion.prompt import Section
from c2c.types import KeyValue


class PickedLayers(Sequence[KeyValue]):
    """A Sharer's layers at some tokens; each is picked when it is read, so that not all are held at once.

    Args:
        layers: S layers ``(B, Hs, M, Ds)``.
        places: ``(B, n)`` int64 into the M tokens.
    """

    def __init__(self, layers: Sequence[KeyValue], places: Tensor) -> None:
        self.layers, self.places = layers, places

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, number: int) -> KeyValue: ...
    @overload
    def __getitem__(self, number: slice) -> list[KeyValue]: ...
    def __getitem__(self, number: int | slice) -> KeyValue | list[KeyValue]:
        """Keys and values ``(B, Hs, n, Ds)`` of one layer, or of several."""
        if isinstance(number, slice):
            return kv_cache.take_tokens(self.layers[number], self.places)
        return kv_cache.take_tokens([self.layers[number]], self.places)[0]

    def columns(self, start: int, end: int) -> PickedLayers:
        """The layers at columns ``start`` to ``end`` of `places`."""
        return PickedLayers(self.layers, self.places[:, start:end])


class Aligned(NamedTuple):
    """What a Sharer's cache holds for some Receiver tokens.

    Args:
        layers: S layers of keys and values ``(B, Hs, n, Ds)``, one token for each of the n Receiver tokens.
        matched: ``(B, n)`` bool: where the Receiver token has a Sharer token; elsewhere nothing is fused. None if
            each has one.
    """

    layers: Sequence[KeyValue]
    matched: Tensor | None

    def columns(self, section: Section) -> Aligned:
        """The tokens of one section."""
        # Layers (B, Hs, n, Ds) and map (B, n) are cut at the same columns.
        here = slice(section.start, section.end)
        matched = None if self.matched is None else self.matched[:, here]
        if isinstance(self.layers, StackedLayers | PickedLayers):
            return Aligned(self.layers.columns(section.start, section.end), matched)
        return Aligned([(keys[:, :, here], values[:, :, here]) for keys, values in self.layers], matched)


def align(
    layers: Sequence[KeyValue], token_map: Tensor, *, is_whole: bool | None = None, stacked: bool = False
) -> Aligned:
    """Pick from a Sharer's cache what each Receiver token is fused with.

    Args:
        layers: S layers ``(B, Hs, M, Ds)``.
        token_map: ``(B, n)`` int64 into the M tokens, or -1.
        is_whole: As `SharerInput` has it.
        stacked: Whether all layers are picked at once, into one tensor, for Fusers that run together.
    """
    # None spares `torch.where` over all layers, the usual case of plain prompts.
    if is_whole is None:
        is_whole = bool((token_map >= 0).all())
    matched = None if is_whole else token_map >= 0
    # A cache that is given may lie on a device of its own. Unmatched tokens take token 0's, which is not used.
    token_map = token_map.to(layers[0][0].device)
    index = token_map.clamp(min=0)
    if stacked and len({(states.shape, states.dtype) for layer in layers for states in layer}) == 1:
        states = StackedLayers.of(layers).states
        # (B, n) -> (1, 1, B, 1, n, 1) -> (S, 2, B, Hs, n, Ds)
        places = index[None, None, :, None, :, None].expand(*states.shape[:4], -1, states.shape[5])
        return Aligned(StackedLayers(torch.gather(states, 4, places)), matched)
    return Aligned(PickedLayers(layers, index), matched)


def fuse_tokens(
    stacks: Mapping[int, FuserStack], fusion: str, receiver: list[KeyValue], aligned: Mapping[int, Aligned]
) -> list[KeyValue]:
    """Fuse the Receiver's keys and values of some tokens with those of each Sharer.

    Args:
        stacks: The Fusers of each Sharer.
        fusion: ``sequential`` or ``parallel``.
        receiver: T layers of the Receiver's keys and values ``(B, Ht, n, Dt)``.
        aligned: For each Sharer that is fused, in order, its cache at the same n tokens.

    Returns:
        T layers ``(B, Ht, n, Dt)``; layers that nothing was fused with are the tensors of `receiver`.
    """
    if fusion == "sequential" or len(aligned) == 1:
        # sequential: each Fuser reads what the one before it left, in the precision of the cache
        fused = receiver
        for sharer, of_sharer in aligned.items():
            fused = _fuse_sharer(stacks[sharer], of_sharer, fused, receiver[0][0].dtype)
        return fused
    # parallel: each Fuser reads the unfused states; the changes of all are added up
    by_sharer = [_fuse_sharer(stacks[sharer], of_sharer, receiver) for sharer, of_sharer in aligned.items()]
    return [_add_changes(of_layer, old) for *of_layer, old in zip(*by_sharer, receiver, strict=True)]


def _fuse_sharer(
    stack: FuserStack, aligned: Aligned, receiver: list[KeyValue], dtype: torch.dtype | None = None
) -> list[KeyValue]:
    """Fuse with one Sharer; tokens that no Sharer token is matched with keep the Receiver's states."""
    # The Sharer may run on another device and in another precision; the Receiver's count.
    place = receiver[0][0].device, receiver[0][0].dtype
    layers = aligned.layers
    if isinstance(layers, StackedLayers):
        return stack(layers.to(*place), receiver, aligned.matched, dtype)
    return stack([(keys.to(*place), values.to(*place)) for keys, values in layers], receiver, aligned.matched, dtype)


def _add_changes(fused: Sequence[KeyValue], receiver: KeyValue) -> KeyValue:
    """One layer's own states plus the sum of the changes by each Sharer's Fuser, in the precision of the Fusers.

    The sum is rounded once, where the cache takes it.
    """
    # A layer without a Fuser is the very tuple of the Receiver.
    changes = [layer for layer in fused if layer is not receiver]
    if not changes:
        return receiver
    # receiver + sum over Sharers of (fused - receiver), for keys and for values
    keys, values = (
        old + sum(new - old for new in half) for half, old in zip(zip(*changes, strict=True), receiver, strict=True)
    )
    return keys, values


def join_tokens(earlier: KeyValue, later: KeyValue) -> KeyValue:
    """Keys and values of earlier and later tokens, each ``(B, H, n, D)``, in the precision of the earlier."""
    # The fused states are rounded here, to the precision of the cache: (B, H, n1, D) and (B, H, n2, D)
    keys, values = (torch.cat([old, new.to(old.dtype)], dim=2) for old, new in zip(earlier, later, strict=True))
    return keys, values
