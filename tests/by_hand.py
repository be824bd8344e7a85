"""The formulas of the spec (§1.3, §2.3) with transformers and the Fusers alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from c2c import RosettaModel


def by_hand(
    model: RosettaModel, ids: torch.Tensor, parts: Sequence[tuple[int, int]]
) -> tuple[torch.Tensor, DynamicCache]:
    """Logits of the last of the (mask, tokens) sections, and the Receiver's cache after it."""
    caches = [DynamicCache(config=each.config) for each in model.model_list]
    start = 0
    for mask, tokens in parts:
        end = start + tokens
        output, *_ = (
            each(input_ids=ids[:, start:end], cache=cache, use_cache=True)
            for each, cache in zip(model.model_list, caches, strict=True)
        )
        if mask > 0:
            fuse_section(model, caches, mask, slice(start, end))
        start = end
    return output.logits, caches[0]


def fuse_section(model: RosettaModel, caches: Sequence[DynamicCache], mask: int, section: slice) -> None:
    """Overwrite the Receiver's keys and values of a section, rounded to what the cache holds."""
    for layer, states in enumerate(caches[0].layers):
        own = (states.keys[:, :, section].clone(), states.values[:, :, section].clone())
        changes = [torch.zeros_like(each, dtype=torch.float32) for each in own]
        for number, stack in enumerate(model.stacks):
            if not mask >> number & 1:
                continue
            read = caches[number + 1].layers[stack.links[layer].sharer_layer]
            theirs = (read.keys[:, :, section], read.values[:, :, section])
            if model.fusion == "sequential":
                now = (states.keys[:, :, section], states.values[:, :, section])
                states.keys[:, :, section], states.values[:, :, section] = stack.fuser_of(layer)(theirs, now)
            else:
                fused = stack.fuser_of(layer)(theirs, own)
                changes = [total + (new - old) for total, new, old in zip(changes, fused, own, strict=True)]
        if model.fusion == "parallel":
            states.keys[:, :, section], states.values[:, :, section] = (
                old + change for old, change in zip(own, changes, strict=True)
            )
