"""Masks of sliding windows that are counted in tokens, for prompts with pads between tokens.

transformers counts a window in columns, so pads between the sections of a batch take the place of tokens, and a row
would be answered otherwise than alone. Where that can happen the masks are built here instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.masking_utils import create_causal_mask

from c2c.errors import RefusedError

PATTERNS = {"full_attention", "sliding_attention"}


def window_of(config: Any) -> int | None:
    """The sliding window of a model's layers in tokens, or None if all of them attend to everything."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    return None if kinds is not None and set(kinds) <= {"full_attention"} else getattr(text, "sliding_window", None)


def splits_windows(config: Any, attention_mask: Tensor, columns: int) -> bool:
    """Whether a row has pads between its tokens, and a layer whose window is shorter than the text.

    Args:
        config: Of the model.
        attention_mask: ``(B, N)``, 1 for tokens and 0 for pads.
        columns: Those of the text at its longest, which may grow beyond N.
    """
    window = window_of(config)
    if window is None or columns <= window:
        return False
    tokens = attention_mask > 0
    before, after = tokens.cumsum(-1) > 0, tokens.flip(-1).cumsum(-1).flip(-1) > 0
    return bool((~tokens & before & after).any())


def masks_in_tokens(
    model: PreTrainedModel, attention_mask: Tensor, tokens: int, cache: Cache | None
) -> Tensor | dict[str, Tensor]:
    """What the model's layers may attend to, with windows that are counted in tokens.

    Args:
        model: A causal model with a sliding window.
        attention_mask: ``(B, past + tokens)``, 1 for tokens and 0 for pads.
        tokens: n new tokens.
        cache: Holds the ``past`` columns, all of them in each layer.

    Returns:
        A mask ``(B, 1, n, past + n)`` in the form that the model's attention takes, or one for each kind of its layers.

    Raises:
        RefusedError: If the model's attention takes no such masks.
    """
    config = model.config.get_text_config()
    kinds, window = getattr(config, "layer_types", None), window_of(config)
    assert window is not None
    if config._attn_implementation not in ("eager", "sdpa") or not PATTERNS.issuperset(kinds or ()):
        raise RefusedError(
            "Pads between tokens need a model without sliding windows, or masks that say what each token attends to",
            f"{config.model_type} with {config._attn_implementation}, layers {sorted(set(kinds or ()))}",
            'Load it with attn_implementation="sdpa", or run rows of different layout one by one',
        )
    place = attention_mask.long().cumsum(-1)
    like = torch.empty((len(attention_mask), tokens, 0), dtype=model.dtype, device=attention_mask.device)

    def near(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return place[row, query] - place[row, key] < window

    known = {"config": config, "inputs_embeds": like, "attention_mask": attention_mask, "cache": cache}
    sliding = create_causal_mask(**known, and_mask_function=near)
    if kinds is None:
        return sliding
    full = create_causal_mask(**known, allow_is_causal_skip=False)
    return {"full_attention": full, "sliding_attention": sliding}


@contextmanager
def counted_in_tokens(model: PreTrainedModel) -> Iterator[None]:
    """Inside, each of the model's runs that is given a mask ``(B, N)`` has windows that are counted in tokens."""

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
