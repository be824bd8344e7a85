"""Rotary positions that change with the length of a text: each row is read by its own, whole length.

Models of the rope type ``longrope`` (Phi-3) rotate every token of a text otherwise once it is longer than a limit.
transformers takes the length from the longest row of what one run is given. A prompt that is read section by section
would get both rotations, and a row of a batch its neighbour's; so the lengths are told here. What is in a cache cannot
be rotated anew: a text that would grow over the limit is refused.

The other type that transformers changes, ``dynamic``, does so only beyond ``max_position_embeddings``, where no text is
read (`c2c.fusion.prompt.check_room`). All others (``linear``, ``yarn``, ``llama3``, ...) are the same at every length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel

from c2c.errors import NoRoomError

LENGTHS = "row_lengths"
"""Attribute of a rotary module that holds the length of each row, while there is one."""


def limit_of(config: Any) -> int | None:
    """The longest text, in tokens, that a model reads with its short rotations; None if all are the same."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters, *(each for each in parameters.values() if isinstance(each, Mapping))]
    limits = [int(each["original_max_position_embeddings"]) for each in kinds if each.get("rope_type") == "longrope"]
    return min(limits, default=None)


def changes(config: Any, tokens: int) -> bool:
    """Whether the first tokens of a text of `tokens` are read otherwise than without the rest."""
    limit = limit_of(config)
    return limit is not None and tokens > limit


def check_growth(name: str, config: Any, read: Tensor, needed: Tensor) -> None:
    """Refuse a text that grows over the limit after its first tokens were read.

    Args:
        name: Of the model.
        config: Of the model.
        read: ``(B,)``, the tokens of each row that are in the cache or go into it together.
        needed: ``(B,)``, the tokens at the end, as far as they are read.

    Raises:
        NoRoomError: With the lengths of the first such row.
    """
    limit = limit_of(config)
    if limit is None:
        return
    crossing = (read <= limit) & (needed > limit)
    if bool(crossing.any()):
        row = int(crossing.nonzero()[0])
        raise NoRoomError(
            f"What {name} reads must not grow over {limit} tokens after its cache was filled, since this model's "
            "rotary positions (longrope) of all tokens change there",
            f"{int(read[row])} tokens that grow to {int(needed[row])}",
            "Ask for fewer new tokens, or give a prompt that is shorter or begins above the limit",
        )


@contextmanager
def of_lengths(model: nn.Module, lengths: Tensor) -> Iterator[None]:
    """Inside, the model reads each row as part of a text of its own length.

    Args:
        model: A causal model or its body.
        lengths: ``(B,)`` int64, tokens of each row's whole text.
    """
    modules = _rotaries(model)
    before = [getattr(module, LENGTHS, None) for module in modules]
    handles = [module.register_forward_hook(_by_row, with_kwargs=True) for module in modules if not _is_hooked(module)]
    try:
        for module in modules:
            setattr(module, LENGTHS, lengths)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, former in zip(modules, before, strict=True):
            setattr(module, LENGTHS, former)


def of_positions(model: nn.Module, position_ids: Tensor) -> Any:
    """As `of_lengths`, for texts that end at the last of their positions ``(B, n)``."""
    if limit_of(model.config) is None:
        return nullcontext()
    return of_lengths(model, position_ids.amax(-1) + 1)


@contextmanager
def in_generation(model: PreTrainedModel, attention_mask: Tensor, new_tokens: int, *, fused: bool) -> Iterator[None]:
    """Inside, ``generate`` reads each row by its own length so far.

    Args:
        model: A causal model.
        attention_mask: ``(B, N)`` of the prompt.
        new_tokens: How many tokens are written at most; the last of them is not read.
        fused: ``generate`` is given a cache that must be continued from also where the text is longer than the limit:
            transformers would drop one of fewer tokens and read the text anew, without what was fused. Without a
            cache that is right, for a single row.

    Raises:
        NoRoomError: See `check_growth`.
    """
    if limit_of(model.config) is None:
        yield
        return
    if fused or len(attention_mask) > 1:
        read = attention_mask.sum(-1)
        check_growth("the model", model.config, read, read + new_tokens - 1)
    modules = _rotaries(model)

    def before(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        positions, mask = named.get("position_ids"), named.get("attention_mask")
        lengths = None
        if isinstance(positions, Tensor) and positions.dim() == 2:
            lengths = positions.amax(-1) + 1
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            lengths = mask.sum(-1)
        for rotary in modules:
            setattr(rotary, LENGTHS, lengths)

    with of_lengths(model, torch.zeros(0, dtype=torch.long)):
        handle = model.register_forward_pre_hook(before, with_kwargs=True)
        own: Any = model
        if fused:
            own.prepare_inputs_for_generation = MethodType(GenerationMixin.prepare_inputs_for_generation, model)
        try:
            yield
        finally:
            handle.remove()
            if fused:
                del own.prepare_inputs_for_generation


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
    limit = limit_of(module.config)
    assert limit is not None
    lengths, positions = lengths.to(positions.device), positions.expand(len(lengths), -1)
    # transformers looks at the highest position. One above the limit is added, or all of them are cut to below it:
    # only those of longer rows are, which take the other rotations.
    beyond = torch.cat([positions, positions.new_full((len(positions), 1), limit)], dim=1)
    long = [each[:, :-1] for each in module.forward(hidden, beyond, **options)]
    short = module.forward(hidden, positions.clamp(max=limit - 1), **options)
    chosen = (lengths > limit)[:, None, None]
    return tuple(torch.where(chosen, above, below) for above, below in zip(long, short, strict=True))
