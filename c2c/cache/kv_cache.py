"""Caches of transformers, whose classes no other module touches: read, written, converted, and filled by a prefill.

Fusing needs every token of a prompt, so a prompt is prefilled into a cache that keeps them all. The Receiver can then
continue from another form of it (`convert_cache`): limited to sliding windows, of a fixed size, or in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, QuantizedCache, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, QuantizedLayer, StaticLayer
from transformers.utils import is_hqq_available

from c2c.cache.rows import masks_in_tokens, rotations_of_lengths, rotations_of_positions, splits_windows
from c2c.errors import RefusedError, check_choice
from c2c.types import CACHE_FORMS, CacheShape, KeyValue

BITS = {"int8": 8, "int4": 4}
WITHIN_WINDOWS = ("sliding", "static")
"""Forms whose layers with a sliding window hold no more than the window."""


def positions_of(attention_mask: Tensor) -> Tensor:
    """Position of each token among the unmasked ones, ``(B, N)`` int64; masked tokens before the first get 0."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def empty_cache(config: Any) -> DynamicCache:
    """A cache that keeps every token, also in layers with a sliding window: there the mask alone limits attention.

    A layer that drops what left its window could not be aligned with the tokens of a prompt.
    """
    # transformers chooses the class of each layer; a window is given up, any other kind is for `cache_shape` to refuse.
    cache = DynamicCache(config=config)
    plain = [type(layer) is DynamicLayer or getattr(layer, "is_sliding", False) for layer in cache.layers]
    cache.layers = [GrowingLayer() if keeps else layer for keeps, layer in zip(plain, cache.layers, strict=True)]
    return cache


ROOM = 32
"""Tokens that a growing layer has room for when it is copied."""


class GrowingLayer(DynamicLayer):
    """A cache layer that is copied once in `ROOM` tokens while a text is written; transformers copies at each token."""

    _views: tuple[Tensor, ...] = ()
    _buffers: tuple[Tensor, ...] = ()

    def reset(self) -> None:
        """Drop all tokens, and the room for others."""
        self._views = self._buffers = ()
        super().reset()

    def offload(self) -> None:
        """Move keys and values to the CPU; the room for other tokens is given back."""
        self._views = self._buffers = ()
        super().offload()

    def __copy__(self) -> Self:
        # Two layers must not write into the same room.
        layer = type(self).__new__(type(self))
        layer.__dict__.update(self.__dict__, _views=(), _buffers=())
        return layer

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeyValue:
        """Append keys and values ``(B, H, n, D)``; returns all of them."""
        new, length = key_states.shape[2], self.get_seq_length()
        # A gradient needs the tensors as they were; a prompt is copied once anyway.
        if torch.is_grad_enabled() or not length or new > ROOM:
            return super().update(key_states, value_states, *args, **kwargs)
        # Room, unless the layer still holds what was written into it last: it may have been cut, or replaced
        assert self.keys is not None and self.values is not None
        views = (self.keys, self.values)
        is_own = len(self._views) == 2 and all(one is other for one, other in zip(self._views, views, strict=True))
        if not is_own or self._buffers[0].shape[2] < length + new:
            # (B, H, n, D) -> (B, H, n + new + ROOM, D)
            sizes = [(*states.shape[:2], length + new + ROOM, states.shape[3]) for states in views]
            self._buffers = tuple(states.new_empty(size) for states, size in zip(views, sizes, strict=True))
            for buffer, states in zip(self._buffers, views, strict=True):
                buffer[:, :, :length] = states
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, length : length + new] = states
        self.keys, self.values = self._views = tuple(buffer[:, :, : length + new] for buffer in self._buffers)
        return self.keys, self.values


def other_layers(config: Any) -> dict[int, str]:
    """Numbers of the layers whose cache is anything but keys and values of their own, and the classes that hold it.

    Raises:
        KeyError: If transformers knows no growing cache for a kind of layer, which the error names.
    """
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    layers = DynamicCache(config=config).layers
    return {number: type(layer).__name__ for number, layer in enumerate(layers) if type(layer) not in plain}


def layers_of(cache: Cache) -> list[KeyValue]:
    """Keys and values of each layer, each ``(B, H, N, D)``, of a cache in any form.

    Tensors of a dynamic cache are shared with it, not copied; integers are turned into the model's precision.

    Raises:
        RefusedError: If a layer holds anything but one tensor of keys and one of values, or has dropped tokens.
    """
    return [_read_layer(layer, number) for number, layer in enumerate(cache.layers)]


def layer_of(cache: Cache, number: int) -> KeyValue:
    """Keys and values of one layer; see `layers_of`."""
    return _read_layer(cache.layers[number], number)


def _read_layer(layer: Any, number: int) -> KeyValue:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor):
        raise _unreadable_layer(layer, number)
    if isinstance(layer, QuantizedLayer):
        # Older tokens are integers; the latest ones wait in full precision, in a tensor without axes if there are none.
        stored = (layer._dequantize(layer._quantized_keys), layer._dequantize(layer._quantized_values))
        recent = (keys, values) if keys.dim() == 4 else tuple(states[:, :, :0] for states in stored)
        keys, values = (torch.cat(parts, dim=2) for parts in zip(stored, recent, strict=True))
    if keys.dim() != 4:
        raise _unreadable_layer(layer, number)
    # A static layer is longer than its text, a sliding one shorter.
    length = int(layer.get_seq_length())
    if length > keys.shape[2]:
        raise RefusedError(
            "A cache that is fused must hold all its tokens",
            f"layer {number}: the last {keys.shape[2]} of {length}",
            "Read the prompt into an empty_cache(config), which keeps what leaves a sliding window",
        )
    # A view costs an operation; a growing layer is as long as its text.
    return (keys, values) if length == keys.shape[2] else (keys[:, :, :length], values[:, :, :length])


def _unreadable_layer(layer: Any, number: int) -> RefusedError:
    return RefusedError(
        "Each cache layer must hold keys and values of shape (B, H, N, D)",
        f"layer {number}: {type(layer).__name__}",
        "Use a model whose cache is per-layer keys and values",
    )


def set_layer(cache: Cache, layer: int, fused: KeyValue) -> None:
    """Replace keys and values of one layer, each ``(B, H, N, D)``, rounded to the dtype that the cache has."""
    slot: Any = cache.layers[layer]
    # Assigned, not copied into: the length may differ from what the layer held, and a view of it stays as it was.
    slot.keys, slot.values = fused[0].to(slot.keys.dtype), fused[1].to(slot.values.dtype)


def append_layers(cache: Cache, layers: Sequence[KeyValue]) -> Cache:
    """Add keys and values, each ``(B, H, N, D)``, to every layer of `cache`, which is returned."""
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache


def cache_of_layers(layers: Sequence[KeyValue], config: Any) -> Cache:
    """A cache for the model of `config` that holds the given keys and values, each ``(B, H, N, D)``, not copies."""
    cache = empty_cache(config)
    for slot, (keys, values) in zip(cache.layers, layers, strict=False):
        if not isinstance(slot, DynamicLayer):
            raise _unreadable_layer(slot, cache.layers.index(slot))
        # What the layer holds is never written to: it grows into tensors of its own.
        slot.lazy_initialization(keys, values)
        slot.keys, slot.values = keys, values
    return cache


def check_form(form: str, config: Any) -> str:
    """Return `form` if a model of `config` can continue from a cache that is held so.

    Raises:
        RefusedError: If the form is unknown, or is one of integers and hqq is missing or a layer has a sliding window.
    """
    check_choice("The form of a cache", form, CACHE_FORMS)
    if form in BITS:
        if not is_hqq_available():
            raise RefusedError(
                "The package hqq must be installed for an integer cache",
                form,
                "Install cache-to-cache[quantised], or choose dynamic",
            )
        # transformers' quantised layers keep every token, so a window would not be kept.
        if any(getattr(layer, "is_sliding", False) for layer in DynamicCache(config=config).layers):
            raise RefusedError(
                "A model with an integer cache must have full attention in every layer",
                f"{form} for {config.model_type}, which has sliding windows",
                "Choose sliding or static",
            )
    return form


def convert_cache(cache: Cache, form: str, config: Any, room: int) -> Cache:
    """The same keys and values in another form, for a model that continues from them.

    ``dynamic`` keeps every token; ``sliding`` drops what left the window of a sliding layer; ``static`` has a fixed
    size, as compiled models need; ``int8`` and ``int4`` keep integers with a scale for each half of a head's keys or
    values of a token (transformers' own QuantizedCache with hqq), which rounds them.

    Args:
        cache: All tokens so far; `cache` itself is returned for ``dynamic``.
        form: One of `c2c.types.CACHE_FORMS`.
        config: Of the model.
        room: Tokens that a static cache can hold.

    Raises:
        RefusedError: See `check_form`.
    """
    if check_form(form, config) == "dynamic":
        return cache
    layers = layers_of(cache)
    # A cache that is filled through `update` drops, pads or rounds as its class does after every step.
    if form == "sliding":
        return append_layers(DynamicCache(config=config), layers)
    if form == "static":
        return append_layers(StaticCache(config=config, max_cache_len=room), layers)
    # Integers, with a scale for each half of a head: D / 2 numbers.
    group = layers[0][0].shape[3] // 2
    # Groups run along D, so that a token's numbers do not depend on its neighbours, as batches and prefixes need.
    quantised = QuantizedCache("hqq", config, BITS[form], axis_key=1, axis_value=1, q_group_size=group)
    slots: list[Any] = quantised.layers
    for slot in slots:
        slot.quantizer = RowByRow(slot.quantizer)
    return append_layers(quantised, layers)


class FixedLayer(StaticLayer):
    """A cache layer of fixed size and address, which keeps every token; steps over it are given their own masks."""

    # transformers would build a mask of its own for a compiled step.
    is_compileable = False


def fixed_cache(layers: Sequence[KeyValue], rows: int, columns: int) -> Cache:
    """An empty cache of fixed size for `rows` texts of up to `columns` tokens, with the heads and dtype of `layers`."""
    slots: list[Any] = []
    for keys, values in layers:
        slots.append(FixedLayer(columns))
        # It reads sizes alone: (B, H, n, D) -> (rows, H, 0, D)
        slots[-1].lazy_initialization(*(states[:1, :, :0].expand(rows, -1, -1, -1) for states in (keys, values)))
    return Cache(layers=slots)


def fill_fixed(cache: Cache, layers: Sequence[KeyValue]) -> None:
    """Make a `fixed_cache` hold the keys and values of n tokens, ``(B, H, n, D)`` each, in place.

    Rows after the first B become copies of the last one, which has no pads only.
    """
    slots: list[Any] = cache.layers
    for slot, layer in zip(slots, layers, strict=True):
        rows, _, tokens, _ = layer[0].shape
        for buffer, states in zip((slot.keys, slot.values), layer, strict=True):
            buffer[:rows, :, :tokens] = states
            buffer[rows:, :, :tokens] = states[-1:]
            # What an earlier text left may be no number, which a mask of zeros would not hide.
            buffer[:, :, tokens:] = 0
        slot.cumulative_length.fill_(tokens)


class RowByRow:
    """hqq's quantiser without its search for better zero points.

    The search stops by the mean error of the whole tensor, so a row would be rounded otherwise in another batch.

    Args:
        quantizer: hqq's.
    """

    def __init__(self, quantizer: Any) -> None:
        self._quantizer = quantizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quantizer, name)

    def quantize(self, tensor: Tensor, **options: Any) -> Any:
        """Quantise as hqq does, with the zero points of the minimum and maximum."""
        return self._quantizer.quantize(tensor, optimize=False, **options)


class PresetLayer(GrowingLayer):
    """A cache layer that stores preset keys and values for the next tokens, whatever attention computes for them."""

    preset: KeyValue | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeyValue:
        """Append the preset, or what the attention computed where there is none; returns all keys and values."""
        layer = (key_states, value_states) if self.preset is None else self.preset
        # It serves one run: the tokens after it need a preset of their own.
        self.preset = None
        return super().update(*(states.to(key_states.dtype) for states in layer))


def cache_with_presets(layers: Sequence[KeyValue], config: Any) -> Cache:
    """A cache of the given keys and values, each ``(B, H, N, D)``, whose layers are `PresetLayer`."""
    cache = empty_cache(config)
    # Whatever kind transformers chose: the fused cache of the prompt has all tokens in every layer.
    cache.layers = [PresetLayer() for _ in cache.layers]
    return append_layers(cache, layers)


def set_presets(cache: Cache, layers: Sequence[KeyValue | None]) -> None:
    """Set what each layer of a `cache_with_presets` stores for the next tokens; None leaves it to the attention."""
    for slot, layer in zip(cache.layers, layers, strict=True):
        assert isinstance(slot, PresetLayer)
        slot.preset = layer


def prefill(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    position_ids: Tensor,
    cache: Cache | None = None,
    lengths: Tensor | None = None,
) -> Cache:
    """Run a model over tokens for their keys and values alone; no logits are computed.

    Args:
        model: A causal model; its body is run, its head is not.
        input_ids: ``(B, n)`` int64, the new tokens.
        attention_mask: ``(B, past + n)``, 1 for tokens and 0 for pads.
        position_ids: ``(B, n)`` int64, positions of the new tokens.
        cache: The cache of the earlier tokens, all of which it must hold; grown in place. A new one if None.
        lengths: ``(B,)`` int64, tokens of each row's whole text, where more of it is to be read later; see
            `c2c.cache.rows`.

    Returns:
        The cache with ``past + n`` tokens.
    """
    if cache is None:
        cache = empty_cache(model.config)
    # Windows are counted in tokens, and rotations chosen, for each row as if it were alone.
    masks: Any = attention_mask
    if splits_windows(model, attention_mask, attention_mask.shape[1]):
        masks = masks_in_tokens(model, attention_mask, input_ids.shape[1], cache)
    # The head is left out: B * n * V logits would be the largest tensor of a prefill, and nobody reads them.
    body = model.base_model
    with rotations_of_positions(model, position_ids) if lengths is None else rotations_of_lengths(model, lengths):
        body(
            input_ids=input_ids,
            attention_mask=masks,
            position_ids=position_ids,
            cache=cache,
            use_cache=True,
        )
    return cache


def zero_layers(shape: CacheShape, batch: int, tokens: int, like: Tensor) -> list[KeyValue]:
    """A cache of zeros, ``(batch, heads, tokens, head_dim)`` per layer, with dtype and device of `like`."""
    # Keys and values of one layer: (B, H, N, D).
    size = (batch, shape.heads, tokens, shape.head_dim)
    return [(like.new_zeros(size), like.new_zeros(size)) for _ in range(shape.layers)]


def take_tokens(layers: Sequence[KeyValue], index: Tensor) -> list[KeyValue]:
    """Pick cache positions per row: ``index`` is ``(B, n)`` int64 into the tokens axis; result ``(B, H, n, D)``."""

    def pick(states: Tensor) -> Tensor:
        # (B, n) -> (B, 1, n, 1) -> (B, H, n, D)
        expanded = index[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
        return torch.gather(states, 2, expanded)

    return [(pick(keys), pick(values)) for keys, values in layers]


def last_tokens(layers: Sequence[KeyValue], count: int) -> list[KeyValue]:
    """The last `count` tokens of each layer, each ``(B, H, count, D)``; views, not copies."""
    if all(keys.shape[2] == count for keys, _ in layers):
        return list(layers)
    return [(keys[:, :, keys.shape[2] - count :], values[:, :, values.shape[2] - count :]) for keys, values in layers]


def repeat_rows(cache: Cache, rows: Tensor, config: Any) -> Cache:
    """A new cache whose row i is row ``rows[i]`` of `cache`; `rows` is ``(B',)`` int64."""
    return cache_of_layers([(keys[rows], values[rows]) for keys, values in layers_of(cache)], config)
