"""Masks of sliding windows and chunks that are counted in tokens, for prompts with pads between tokens.

transformers counts a window or a chunk in columns, so pads between the sections of a batch take the place of tokens,
and a row would be answered otherwise than alone. Where that can happen the masks are built here instead. A model whose
positions themselves are columns (the ALiBi of MPT) can be helped by no mask, and is refused such prompts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.masking_utils import create_causal_mask

from c2c.errors import RefusedError

PATTERNS = {"full_attention", "sliding_attention", "chunked_attention"}
PADS, TOLERANCE = 64, 1e-2
"""Pads that a model's positions are tried with, and how much of a hidden state may change by their place."""

_column_counters: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def window_of(config: Any) -> int | None:
    """The sliding window of a model's layers in tokens, or None if all of them attend to everything before."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    none = kinds is not None and "sliding_attention" not in kinds and set(kinds) <= PATTERNS
    return None if none else getattr(text, "sliding_window", None)


def chunk_of(config: Any) -> int | None:
    """The chunk of a model's layers in tokens, none of which attends to one before its own; None if there is none."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    none = kinds is not None and "chunked_attention" not in kinds
    return None if none else getattr(text, "attention_chunk_size", None)


def reach_of(config: Any) -> int | None:
    """The longest text in tokens all of which each layer's last token attends to, or None if there is no limit."""
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
    limited, uncounted = reach is not None and columns > reach, not _takes_positions(model)
    if not (limited or uncounted) or not has_gaps(attention_mask):
        return False
    if uncounted and counts_columns(model):
        received = "a model that takes no positions and counts pads as tokens (as ALiBi by columns does)"
        raise _refused(model.config.get_text_config(), "no pads between its tokens", received)
    return limited


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
    before, after = tokens.cumsum(-1) > 0, tokens.flip(-1).cumsum(-1).flip(-1) > 0
    return bool((~tokens & before & after).any())


def _takes_positions(model: PreTrainedModel) -> bool:
    return "position_ids" in inspect.signature(model.base_model.forward).parameters


@torch.no_grad()
def counts_columns(model: PreTrainedModel) -> bool:
    """Whether what a model makes of a token changes with the pads between it and the token before.

    A model that is not told positions counts them itself: by the mask (Bloom) or by columns (MPT). It is tried once.
    """
    if model not in _column_counters:
        body, device = model.base_model, model.device
        mask = torch.tensor([[1] * 4 + [0] * PADS + [1] * 4], device=device)
        ids = mask.cumsum(-1) * mask
        last = [
            body(
                input_ids=row, attention_mask=marks, position_ids=(marks.cumsum(-1) - 1).clamp(min=0), use_cache=False
            )[0][0, -1].float()
            for row, marks in ((ids, mask), (ids[mask > 0][None], mask[mask > 0][None]))
        ]
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
    place = attention_mask.long().cumsum(-1)
    like = torch.empty((len(attention_mask), tokens, 0), dtype=model.dtype, device=attention_mask.device)

    def near(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return place[row, query] - place[row, key] < window

    def beside(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (place[row, query] - 1) // chunk == (place[row, key] - 1) // chunk

    known = {"config": config, "inputs_embeds": like, "attention_mask": attention_mask, "cache": cache}
    within = {"sliding_attention": near, "chunked_attention": beside}
    if kinds is None:
        return create_causal_mask(**known, and_mask_function=beside if chunk else near)
    return {
        kind: create_causal_mask(**known, and_mask_function=within[kind])
        if kind in within
        else create_causal_mask(**known, allow_is_causal_skip=False)
        for kind in dict.fromkeys(("full_attention", *(["sliding_attention"] if window else []), *kinds))
    }


@contextmanager
def counted_in_tokens(model: PreTrainedModel) -> Iterator[None]:
    """Inside, windows and chunks are counted in tokens in each of the model's runs that is given a mask ``(B, N)``."""

    def before(module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = named.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2:
            tokens = named["input_ids"].shape[1]
            named["attention_mask"] = masks_in_tokens(model, mask, tokens, named.get("cache"))
        return arguments, named

    handle = model.base_model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
