"""Each row of a batch is read as it would be alone, whatever transformers takes from the other rows or from columns.

*Windows and chunks.* transformers counts a sliding window or a chunk in columns, so pads between the sections of a
batch take the place of tokens. Where that can happen the masks are built here, counted in tokens. A model whose
positions themselves are columns (the ALiBi of MPT) can be helped by no mask, and is refused such prompts.

*Rotations.* Models of the rope type ``longrope`` (Phi-3) use other rotations for all tokens of a text that is longer
than a limit, and transformers takes the length from the longest row of one run. A prompt that is read section by
section would get both rotations, and a row of a batch its neighbour's; so each row's whole length is set here. Keys in
a cache cannot be rotated again: a text that would grow over the limit is refused. The other type that transformers
changes, ``dynamic``, does so only beyond ``max_position_embeddings``, where no text is read
(`c2c.fusion.prompt.check_room`). All others (``linear``, ``yarn``, ``llama3``, ...) are the same at every length.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationMixin, PreTrainedModel
from transformers.masking_utils import create_causal_mask

from c2c.errors import NoRoomError, RefusedError

PATTERNS = {"full_attention", "sliding_attention", "chunked_attention"}
PADS, TOLERANCE = 64, 1e-2
"""Pads that a model's positions are tried with, and how much of a hidden state may change by their place."""

_column_counters: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def window_of(config: Any) -> int | None:
    """The sliding window of a model's layers in tokens, or None if all of them attend to everything before."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    # A config may keep `sliding_window` though no layer has one. A kind that is not known here may have one.
    none = kinds is not None and "sliding_attention" not in kinds and set(kinds) <= PATTERNS
    return None if none else getattr(text, "sliding_window", None)


def chunk_of(config: Any) -> int | None:
    """Tokens of a chunk, in a model with layers that attend within their own chunk alone; None if no layer does."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    # As with windows: where the config lists the kinds of layers, the list decides.
    none = kinds is not None and "chunked_attention" not in kinds
    return None if none else getattr(text, "attention_chunk_size", None)


def reach_of(config: Any) -> int | None:
    """Tokens of the longest text of which the last token attends to all others in each layer; None without a limit."""
    return min((reach for reach in (window_of(config), chunk_of(config)) if reach), default=None)


def splits_windows(model: PreTrainedModel, attention_mask: Tensor, columns: int) -> bool:
    """Whether a row has pads between its tokens, and a layer whose window or chunk is shorter than the text.

    Args:
        model: A causal model.
        attention_mask: ``(B, N)``, 1 for tokens and 0 for pads.
        columns: Those of the text at its longest, which may grow beyond N.

    Raises:
        RefusedError: If a row has such pads and the model's positions are columns.
    """
    _check_columns(model.config, attention_mask, columns)
    reach = reach_of(model.config)
    exceeds_reach, counts_itself = reach is not None and columns > reach, not _takes_positions(model)
    # The mask is looked at last: on a device that means waiting for it.
    if not (exceeds_reach or counts_itself) or not has_gaps(attention_mask):
        return False
    if counts_itself and counts_columns(model):
        received = "a model that takes no positions and counts pads as tokens (as ALiBi by columns does)"
        raise _refused(model.config.get_text_config(), "no pads between its tokens", received)
    return exceeds_reach


def _check_columns(config: Any, attention_mask: Tensor, columns: int) -> None:
    """Refuse pads where a model counts columns in its own code, which no mask changes."""
    text = config.get_text_config()
    # Llama-4 scales the queries of some layers by their columns, from `floor_scale` on.
    scale = getattr(text, "floor_scale", None) if getattr(text, "attn_temperature_tuning", False) else None
    if scale and columns >= scale and bool((attention_mask.diff(dim=-1) > 0).any()):
        raise _refused(text, f"no pads before its tokens in {scale} columns and more", f"{columns} columns with pads")
    # The windows of GPT-Neo's local layers are masks of its own.
    local = getattr(text, "window_size", None) if "local" in (getattr(text, "attention_layers", None) or ()) else None
    if local and columns > local and has_gaps(attention_mask):
        raise _refused(text, f"no pads between its tokens beyond {local} columns", f"{columns} columns with such pads")


def _refused(text: Any, layout: str, received: str) -> RefusedError:
    return RefusedError(
        f"A row of a batch must have {layout} for {text.model_type}, which counts columns as positions",
        received,
        "Run rows of different layout one by one: a batch of one has no such pads",
    )


def has_gaps(attention_mask: Tensor) -> bool:
    """Whether a row of ``(B, N)`` has pads between its tokens."""
    tokens = attention_mask > 0
    # A gap is a pad with a token on both sides: (B, N) bool each.
    before, after = tokens.cumsum(-1) > 0, tokens.flip(-1).cumsum(-1).flip(-1) > 0
    return bool((~tokens & before & after).any())


def _takes_positions(model: PreTrainedModel) -> bool:
    # A model that takes positions is given them, so that only its windows can be miscounted.
    return "position_ids" in inspect.signature(model.base_model.forward).parameters


@torch.no_grad()
def counts_columns(model: PreTrainedModel) -> bool:
    """Whether a token's hidden state changes with the number of pads between it and the token before.

    A model that takes no positions counts them itself: by the mask (Bloom) or by columns (MPT). It is tested once.
    """
    if model not in _column_counters:
        # The same eight tokens with pads in their middle and without: (1, 8 + PADS) and (1, 8).
        body, device = model.base_model, model.device
        mask = torch.tensor([[1] * 4 + [0] * PADS + [1] * 4], device=device)
        ids = mask.cumsum(-1) * mask
        last = [
            body(
                input_ids=row, attention_mask=marks, position_ids=(marks.cumsum(-1) - 1).clamp(min=0), use_cache=False
            )[0][0, -1].float()
            for row, marks in ((ids, mask), (ids[mask > 0][None], mask[mask > 0][None]))
        ]
        # Rounding changes a state by less than TOLERANCE; a bias that is linear in the distance, by more.
        _column_counters[model] = bool((last[0] - last[1]).norm() > TOLERANCE * last[1].norm())
    return _column_counters[model]


def masks_in_tokens(
    model: PreTrainedModel, attention_mask: Tensor, tokens: int, cache: Cache | None
) -> Tensor | dict[str, Tensor]:
    """What the model's layers may attend to, with windows and chunks that are counted in tokens.

    Args:
        model: A causal model with a sliding window or with chunks.
        attention_mask: ``(B, past + tokens)``, 1 for tokens and 0 for pads.
        tokens: n new tokens.
        cache: Holds the ``past`` columns, all of them in each layer.

    Returns:
        A mask ``(B, 1, n, past + n)`` in the form that the model's attention takes, or one for each kind of its layers.

    Raises:
        RefusedError: If the model's attention takes no such masks.
    """
    config = model.config.get_text_config()
    kinds, window, chunk = getattr(config, "layer_types", None), window_of(config) or 0, chunk_of(config) or 0
    if config._attn_implementation not in ("eager", "sdpa") or not PATTERNS.issuperset(kinds or ()):
        raise RefusedError(
            "Pads between tokens must not be in windows of a model that takes no masks of what each token attends to",
            f"{config.model_type} with {config._attn_implementation}, layers {sorted(set(kinds or ()))}",
            'Load it with attn_implementation="sdpa", or run rows of different layout one by one',
        )
    # Number of each column's token in its row, from 1: (B, past + n).
    place = attention_mask.long().cumsum(-1)
    # `create_causal_mask` reads batch, tokens, dtype and device of the embeddings, never their numbers: (B, n, 0).
    like = torch.empty((len(attention_mask), tokens, 0), dtype=model.dtype, device=attention_mask.device)

    # transformers combines these with causality and pads; each is called with broadcast indices of the mask.
    def in_window(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return place[row, query] - place[row, key] < window

    def in_chunk(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (place[row, query] - 1) // chunk == (place[row, key] - 1) // chunk

    # One mask for each kind of layer, or a single one where the config names no kinds.
    options = {"config": config, "inputs_embeds": like, "attention_mask": attention_mask, "cache": cache}
    patterns = {"sliding_attention": in_window, "chunked_attention": in_chunk}
    if kinds is None:
        return create_causal_mask(**options, and_mask_function=in_chunk if chunk else in_window)
    return {
        kind: create_causal_mask(**options, and_mask_function=patterns[kind])
        if kind in patterns
        else create_causal_mask(**options, allow_is_causal_skip=False)
        for kind in dict.fromkeys(("full_attention", *(["sliding_attention"] if window else []), *kinds))
    }


def takes_masks(model: PreTrainedModel) -> bool:
    """Whether a model can be given positions and, in the form of sdpa, masks of what each token attends to."""
    config, code = model.config.get_text_config(), sys.modules[type(model.base_model).__module__]
    builds_own = not hasattr(code, "create_causal_mask") or getattr(config, "alibi", False)
    return not builds_own and config._attn_implementation == "sdpa" and _takes_positions(model)


class Reach(NamedTuple):
    """How far the layers of a model attend, in tokens.

    Args:
        kinds: Kinds of layers that have a mask of their own; empty if one mask serves all layers.
        window: Of the layers with a sliding window; 0 if there is none.
        chunk: Of the layers that attend within their own chunk; 0 if there is none.
    """

    kinds: tuple[str, ...]
    window: int
    chunk: int

    @classmethod
    def of(cls, config: Any) -> Reach:
        """Of a model's config; the kinds of layers are one where all of them attend to everything before."""
        kinds = getattr(config.get_text_config(), "layer_types", None) or ()
        has_limit = reach_of(config) is not None
        return cls(tuple(dict.fromkeys(kinds)) if has_limit else (), window_of(config) or 0, chunk_of(config) or 0)

    def masks_at(self, places: Tensor, column: Tensor) -> Any:
        """What the tokens of one column attend to, of a text that has a fixed number of columns.

        Args:
            places: ``(B, N)`` int64, number of each column's token in its row, from 1; 0 for pads.
            column: ``()`` or ``(1,)`` int64, on the device of `places`, so that no step waits for it.

        Returns:
            ``(B, 1, 1, N)`` bool, or one for each of `kinds`.
        """
        place = places.index_select(1, column.view(1))  # (B, 1)
        past = (places > 0) & (torch.arange(places.shape[1], device=places.device) <= column)  # (B, N)
        masks = {
            "full_attention": past,
            "sliding_attention": past & (place - places < self.window),
            "chunked_attention": past & ((place - 1) // max(self.chunk, 1) == (places - 1) // max(self.chunk, 1)),
        }
        # (B, N) -> (B, 1, 1, N)
        wide = {kind: mask[:, None, None] for kind, mask in masks.items()}
        if self.kinds:
            return {kind: wide[kind] for kind in ("full_attention", *self.kinds)}
        return wide["chunked_attention" if self.chunk else "sliding_attention" if self.window else "full_attention"]


def mask_of_steps(model: PreTrainedModel, attention_mask: Tensor, new_tokens: int) -> Tensor | None:
    """What each token that is written after a prompt may attend to, for all steps at once.

    transformers builds a mask anew at each step, and waits for the device to see whether it is needed.

    Args:
        model: A causal model.
        attention_mask: ``(B, N)``, 1 for tokens and 0 for pads.
        new_tokens: How many tokens are written at most.

    Returns:
        ``(B, 1, 1, N + new_tokens)`` bool, of which a step takes the columns so far; None for a model that must be
        given the mask ``(B, N)``: one with windows or chunks, with positions or masks of its own, or whose attention
        takes other masks.
    """
    if reach_of(model.config) is not None or not takes_masks(model):
        return None
    # (B, N) -> (B, 1, 1, N + new)
    return torch.nn.functional.pad(attention_mask > 0, (0, new_tokens), value=True)[:, None, None]


@contextmanager
def counted_in_tokens(model: PreTrainedModel) -> Iterator[None]:
    """Inside, windows and chunks are counted in tokens in each of the model's runs that is given a mask ``(B, N)``."""

    def before(module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = named.get("attention_mask")
        # A mask of four axes, or one for each kind of layer, is a caller's own.
        if isinstance(mask, Tensor) and mask.dim() == 2:
            tokens = named["input_ids"].shape[1]
            named["attention_mask"] = masks_in_tokens(model, mask, tokens, named.get("cache"))
        return arguments, named

    handle = model.base_model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


LENGTHS = "row_lengths"
"""Attribute of a rotary module that holds the length of each row, while there is one."""


def rotation_limit(config: Any) -> int | None:
    """The longest text, in tokens, that a model reads with its short rotations; None if all are the same."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    # One set of parameters, or one for each kind of layer.
    kinds = [parameters, *(parts for parts in parameters.values() if isinstance(parts, Mapping))]
    limits = [int(parts["original_max_position_embeddings"]) for parts in kinds if parts.get("rope_type") == "longrope"]
    return min(limits, default=None)


def rotations_change(config: Any, tokens: int) -> bool:
    """Whether the first tokens of a text of `tokens` are read otherwise than without the rest."""
    limit = rotation_limit(config)
    return limit is not None and tokens > limit


def check_rotations(name: str, config: Any, lengths: Tensor, final_lengths: Tensor) -> None:
    """Refuse a text that grows over the limit after its first tokens were read.

    Args:
        name: Of the model.
        config: Of the model.
        lengths: ``(B,)``, the tokens of each row that are in the cache or go into it together.
        final_lengths: ``(B,)``, the tokens of each row at the end, as far as they are read.

    Raises:
        NoRoomError: With the lengths of the first such row.
    """
    limit = rotation_limit(config)
    if limit is None:
        return
    crossing = (lengths <= limit) & (final_lengths > limit)
    if bool(crossing.any()):
        row = int(crossing.nonzero()[0])
        raise NoRoomError(
            f"What {name} reads must not grow over {limit} tokens after its cache was filled, since this model's "
            "rotary positions (longrope) of all tokens change there",
            f"{int(lengths[row])} tokens that grow to {int(final_lengths[row])}",
            "Ask for fewer new tokens, or give a prompt that is shorter or begins above the limit",
        )


@contextmanager
def rotations_of_lengths(model: nn.Module, lengths: Tensor) -> Iterator[None]:
    """Inside, the model reads each row as part of a text of its own length.

    Args:
        model: A causal model or its body.
        lengths: ``(B,)`` int64, tokens of each row's whole text.
    """
    modules = _rotaries(model)
    before = [getattr(module, LENGTHS, None) for module in modules]
    # Contexts nest (a prefill within generation): one hook a module, and the outer lengths come back.
    handles = [module.register_forward_hook(_by_row, with_kwargs=True) for module in modules if not _is_hooked(module)]
    try:
        for module in modules:
            setattr(module, LENGTHS, lengths)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, row_lengths in zip(modules, before, strict=True):
            setattr(module, LENGTHS, row_lengths)


def rotations_of_positions(model: nn.Module, position_ids: Tensor) -> Any:
    """As `rotations_of_lengths`, for texts that end at the last of their positions ``(B, n)``."""
    if rotation_limit(model.config) is None:
        return nullcontext()
    return rotations_of_lengths(model, position_ids.amax(-1) + 1)


@contextmanager
def rotations_in_generation(
    model: PreTrainedModel, attention_mask: Tensor, new_tokens: int, *, fused: bool
) -> Iterator[None]:
    """Inside, ``generate`` reads each row by its own length so far.

    Args:
        model: A causal model.
        attention_mask: ``(B, N)`` of the prompt.
        new_tokens: How many tokens are written at most; the last of them is not read.
        fused: ``generate`` is given a cache that must be continued from also where the text is longer than the limit:
            transformers would drop one of fewer tokens and read the text anew, without what was fused. Without a
            cache that is right, for a single row.

    Raises:
        NoRoomError: See `check_rotations`.
    """
    if rotation_limit(model.config) is None:
        yield
        return
    # A cache cannot be rotated again: no row may grow over the limit.
    if fused or len(attention_mask) > 1:
        lengths = attention_mask.sum(-1)
        check_rotations("the model", model.config, lengths, lengths + new_tokens - 1)
    modules = _rotaries(model)

    def before(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        positions, mask = named.get("position_ids"), named.get("attention_mask")
        # Positions end at the length of the text so far; without them the mask has as many tokens.
        lengths = None
        if isinstance(positions, Tensor) and positions.dim() == 2:
            lengths = positions.amax(-1) + 1
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            lengths = mask.sum(-1)
        for rotary in modules:
            setattr(rotary, LENGTHS, lengths)

    # The lengths are set before each forward pass, so the first ones are never read.
    with rotations_of_lengths(model, torch.zeros(0, dtype=torch.long)):
        handle = model.register_forward_pre_hook(before, with_kwargs=True)
        instance: Any = model
        # Phi-3's own method drops a cache at the limit.
        if fused:
            instance.prepare_inputs_for_generation = MethodType(GenerationMixin.prepare_inputs_for_generation, model)
        try:
            yield
        finally:
            handle.remove()
            if fused:
                del instance.prepare_inputs_for_generation


def _rotaries(model: nn.Module) -> list[nn.Module]:
    """The model's modules that compute rotations which change with the length."""

    def kinds(module: nn.Module) -> list[Any]:
        kind = getattr(module, "rope_type", None)
        return list(kind.values()) if isinstance(kind, Mapping) else [kind]

    return [module for module in model.modules() if "longrope" in kinds(module)]


def _is_hooked(module: nn.Module) -> bool:
    return _by_row in module._forward_hooks.values()


def _by_row(module: Any, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    """Cosines and sines of each row as in a text of its length, ``(B, n, D)`` each; a forward hook."""
    lengths = getattr(module, LENGTHS, None)
    positions = named.get("position_ids", arguments[1] if len(arguments) > 1 else None)
    if lengths is None or positions is None or positions.dim() != 2 or len(positions) not in (1, len(lengths)):
        return output
    hidden = arguments[0] if arguments else named["x"]
    options = {name: value for name, value in named.items() if name not in ("x", "position_ids")}
    limit = rotation_limit(module.config)
    assert limit is not None
    # (1 or B, n) -> (B, n)
    lengths, positions = lengths.to(positions.device), positions.expand(len(lengths), -1)
    # transformers looks at the highest position. One above the limit is added, or all of them are cut to below it:
    # only those of longer rows are, which take the other rotations.
    beyond = torch.cat([positions, positions.new_full((len(positions), 1), limit)], dim=1)
    long = [rotation[:, :-1] for rotation in module.forward(hidden, beyond, **options)]
    short = module.forward(hidden, positions.clamp(max=limit - 1), **options)
    # (B,) -> (B, 1, 1), over n and D
    is_long = (lengths > limit)[:, None, None]
    return tuple(torch.where(is_long, above, below) for above, below in zip(long, short, strict=True))
