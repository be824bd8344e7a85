"""The only module that touches transformers' cache classes: read them, write them, fill them without logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from c2c.errors import RefusedError
from c2c.types import CacheShape, KeyValue


def positions_of(attention_mask: Tensor) -> Tensor:
    """Position of each token among the unmasked ones, ``(B, N)`` int64; masked tokens before the first get 0."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def empty_cache(config: Any) -> DynamicCache:
    """A cache that keeps every token, also in layers with a sliding window: there the mask alone limits attention.

    A layer that drops what left its window could not be aligned with the tokens of a prompt.
    """
    cache = DynamicCache(config=config)
    cache.layers = [DynamicLayer() if getattr(layer, "is_sliding", False) else layer for layer in cache.layers]
    return cache


def layers_of(cache: Cache) -> list[KeyValue]:
    """Keys and values of each layer, each ``(B, H, N, D)``; tensors are shared with `cache`, not copied.

    Raises:
        RefusedError: If a layer holds anything but one tensor of keys and one of values.
    """
    found: list[KeyValue] = []
    for number, layer in enumerate(cache.layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not isinstance(keys, Tensor) or not isinstance(values, Tensor) or keys.dim() != 4:
            raise RefusedError(
                "Each cache layer must hold keys and values of shape (B, H, N, D)",
                f"layer {number}: {type(layer).__name__}",
                "Use a model whose cache is per-layer keys and values",
            )
        found.append((keys, values))
    return found


def set_layer(cache: Cache, layer: int, fused: KeyValue) -> None:
    """Replace keys and values of one layer, each ``(B, H, N, D)``, rounded to the dtype that the cache has."""
    slot: Any = cache.layers[layer]
    slot.keys, slot.values = fused[0].to(slot.keys.dtype), fused[1].to(slot.values.dtype)


def cache_of(layers: Sequence[KeyValue], config: Any) -> DynamicCache:
    """A cache for the model of `config` that holds the given keys and values, each ``(B, H, N, D)``."""
    cache = empty_cache(config)
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache


def prefill(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, cache: Cache | None = None
) -> Cache:
    """Run a model over tokens for their keys and values alone: no vocabulary logits are computed.

    Args:
        model: A causal model; its body is run, its head is not.
        input_ids: ``(B, n)`` int64, the new tokens.
        attention_mask: ``(B, past + n)``, 1 for tokens and 0 for pads.
        position_ids: ``(B, n)`` int64, positions of the new tokens.
        cache: What was read before; grown in place. A new one if None.

    Returns:
        The cache with ``past + n`` tokens.
    """
    if cache is None:
        cache = empty_cache(model.config)
    body = model.base_model
    body(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        cache=cache,
        use_cache=True,
    )
    return cache


def zeros(shape: CacheShape, batch: int, tokens: int, like: Tensor) -> list[KeyValue]:
    """A cache of zeros, ``(batch, heads, tokens, head_dim)`` per layer, with dtype and device of `like`."""
    size = (batch, shape.heads, tokens, shape.head_dim)
    return [(like.new_zeros(size), like.new_zeros(size)) for _ in range(shape.layers)]


def take_tokens(layers: Sequence[KeyValue], index: Tensor) -> list[KeyValue]:
    """Pick cache positions per row: ``index`` is ``(B, n)`` int64 into the tokens axis; result ``(B, H, n, D)``."""

    def pick(states: Tensor) -> Tensor:
        expanded = index[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
        return torch.gather(states, 2, expanded)

    return [(pick(keys), pick(values)) for keys, values in layers]


def repeat_rows(cache: Cache, rows: Tensor, config: Any) -> DynamicCache:
    """A new cache whose row i is row ``rows[i]`` of `cache`; `rows` is ``(B',)`` int64."""
    return cache_of([(keys[rows], values[rows]) for keys, values in layers_of(cache)], config)
