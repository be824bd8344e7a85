"""What must hold before any model reads a prompt: shapes, token ids, and what each Sharer is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from c2c.alignment.tokens import SharerInput
from c2c.errors import NoRoomError, RefusedError
from c2c.types import CacheShape


def check_prompt(input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, config: PreTrainedConfig) -> None:
    """Refuse a prompt whose tensors do not belong together.

    Args:
        input_ids: ``(B, N)`` integers in [0, vocabulary).
        attention_mask: ``(B, N)``, 1 for tokens and 0 for pads; each row has a token.
        position_ids: ``(B, N)`` integers of at least 0.
        config: Of the Receiver, whose vocabulary and positions limit the prompt.

    Raises:
        RefusedError: If a shape, dtype or value is wrong.
    """
    _check_whole(input_ids, "input_ids", "Pass the tokenizer's input_ids")
    check_tensors(attention_mask=attention_mask, position_ids=position_ids)
    for name, tensor in (("attention_mask", attention_mask), ("position_ids", position_ids)):
        if tensor.shape != input_ids.shape:
            raise RefusedError(
                f"{name} must be {tuple(input_ids.shape)}, as input_ids is",
                tuple(tensor.shape),
                "Pass one value a token of the whole prompt",
            )
    _check_whole(position_ids, "position_ids", "Count tokens from 0, or leave them out")
    check_mask(attention_mask, "attention_mask")
    check_rows(attention_mask, "attention_mask")
    _check_ids(input_ids, config.get_text_config().vocab_size, "The Receiver", "Use the Receiver's own tokenizer")
    if int(position_ids.min()) < 0:
        raise RefusedError("position_ids must be at least 0", int(position_ids.min()), "Count tokens from 0")
    check_room("the Receiver", int(position_ids.max()) + 1, config)


def check_room(name: str, needed: int, config: PreTrainedConfig, what: str = "") -> None:
    """Refuse a text that is longer than what a model has positions for.

    Args:
        name: Of the model.
        needed: Positions.
        config: Of the model.
        what: Said of the text.

    Raises:
        RefusedError: With the positions that are needed.
    """
    room = getattr(config.get_text_config(), "max_position_embeddings", None)
    if room and needed > room:
        raise NoRoomError(f"What {name} reads {what}must fit into its {room} positions", needed, "Shorten the prompt")


def check_tensors(**given: Any) -> None:
    """Refuse what is given in place of a tensor; None stands for an argument that is left out.

    Raises:
        RefusedError: With the argument's name.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, Tensor):
            raise RefusedError(f"{name} must be a tensor", type(value).__name__, f"Pass torch.tensor({name})")


def check_inputs(given: Mapping[int, Any]) -> None:
    """Refuse what is given to a selected Sharer in place of a `SharerInput` of tensors.

    Raises:
        RefusedError: With the Sharer's number.
    """
    for sharer, each in given.items():
        if not isinstance(each, SharerInput):
            raise RefusedError(
                f"What Sharer {sharer + 1} reads must be a SharerInput",
                type(each).__name__,
                "Build it with c2c.alignment.tokens.batch_readings, or SharerInput.of_receiver",
            )
        name = f"input_ids, attention_mask and token_map of Sharer {sharer + 1}"
        for value in (each.input_ids, each.attention_mask, each.token_map):
            if not isinstance(value, Tensor):
                raise RefusedError(f"{name} must be tensors", type(value).__name__, "Pass torch.tensor(...)")


def check_mask(mask: Tensor, name: str) -> None:
    """Refuse a mask ``(B, N)`` that holds anything but 0 and 1.

    Raises:
        RefusedError: With the first such value.
    """
    if not bool(((mask == 0) | (mask == 1)).all()):
        odd = mask[(mask != 0) & (mask != 1)]
        raise RefusedError(f"{name} must hold 1 for tokens and 0 for pads", float(odd[0]), "Pass a mask, not a bias")


def check_rows(mask: Tensor, name: str) -> None:
    """Refuse a mask ``(B, N)`` that hides a whole row.

    Raises:
        RefusedError: With the rows.
    """
    empty = (mask.sum(-1) == 0).nonzero().flatten().tolist()
    if empty:
        raise RefusedError(f"Each row of {name} must have a token", f"row(s) {empty} of zeros", "Leave such rows out")


def _check_whole(numbers: Tensor, name: str, remedy: str) -> None:
    if numbers.dtype not in (torch.int64, torch.int32):
        raise RefusedError(f"{name} must be whole numbers", str(numbers.dtype), remedy)


def _check_ids(ids: Tensor, vocabulary: int, who: str, remedy: str) -> None:
    unknown = ids[(ids < 0) | (ids >= vocabulary)]
    if unknown.numel():
        raise RefusedError(f"{who} must be given tokens 0 to {vocabulary - 1}", int(unknown[0]), remedy)


def check_readings(
    selected: Iterable[int],
    inputs: Mapping[int, SharerInput],
    configs: Sequence[PreTrainedConfig],
    shapes: Sequence[CacheShape],
    prefix: Tensor,
    *,
    own_tokens: bool = False,
) -> None:
    """Refuse what the selected Sharers are to read if it does not fit them or the prompt.

    Args:
        selected: Numbers of Sharers, from 0.
        inputs: What each of them reads.
        configs: Of each Sharer, whose vocabulary and positions limit what it reads.
        shapes: Cache sizes of each Sharer.
        prefix: The Receiver's mask ``(B, n)`` up to the end of the last fused section of the prefix.
        own_tokens: They read the Receiver's tokens up to there, of which a row may have none yet.

    Raises:
        RefusedError: If a token map, an id, a mask or a given cache does not fit.
    """
    for sharer in selected:
        given, name = inputs[sharer], f"Sharer {sharer + 1}"
        _check_map(given, name, *prefix.shape)
        if given.zeroed:
            continue
        check_mask(given.attention_mask, f"{name}'s attention_mask")
        if not own_tokens:
            check_rows(given.attention_mask, f"{name}'s attention_mask")
        _check_matches(given, name, prefix)
        if given.layers is None:
            remedy = "Give it its own tokens: align them with sharer_inputs"
            _check_ids(given.input_ids, configs[sharer].get_text_config().vocab_size, name, remedy)
            check_room(name, int(given.attention_mask.sum(-1).max()), configs[sharer])
        else:
            _check_layers(given, name, shapes[sharer])


def _check_map(given: SharerInput, name: str, rows: int, fused: int) -> None:
    token_map = given.token_map
    if given.input_ids.dim() != 2 or not given.input_ids.numel() or token_map.dim() != 2:
        raise RefusedError(
            f"{name}'s input_ids must be (B, M) with at least one token, and its token map (B, n)",
            (tuple(given.input_ids.shape), tuple(token_map.shape)),
            "Build them with c2c.alignment.tokens.batch_readings",
        )
    for what, numbers in (("input_ids", given.input_ids), ("token map", token_map)):
        _check_whole(numbers, f"{name}'s {what}", "Build it with c2c.alignment.tokens.batch_readings")
    tokens = given.input_ids.shape[1]
    if given.input_ids.shape != given.attention_mask.shape:
        raise RefusedError(
            f"{name}'s input_ids and attention_mask must have one shape",
            (tuple(given.input_ids.shape), tuple(given.attention_mask.shape)),
            "Build them with c2c.alignment.tokens.batch_readings",
        )
    if token_map.shape[0] != rows or token_map.shape[1] < fused or given.input_ids.shape[0] != rows:
        raise RefusedError(
            f"{name}'s token map must cover the {fused} fused tokens of {rows} rows",
            (tuple(token_map.shape), tuple(given.input_ids.shape)),
            "Align the whole prefix (c2c.alignment.tokens.batch_readings)",
        )
    highest, lowest = int(token_map.max()), int(token_map.min())
    if highest >= tokens or lowest < -1:
        raise RefusedError(
            f"{name}'s token map must point at its {tokens} tokens, or be -1",
            highest if highest >= tokens else lowest,
            "Align the prompt that it reads (c2c.alignment.tokens.batch_readings)",
        )


def _check_matches(given: SharerInput, name: str, prefix: Tensor) -> None:
    """Refuse a map from a token of the Receiver to a pad of the Sharer."""
    here = given.token_map[:, : prefix.shape[1]]
    read = given.attention_mask.to(here.device).gather(1, here.clamp(min=0).long())
    pads = (prefix.to(here.device) != 0) & (here >= 0) & (read == 0)
    if bool(pads.any()):
        row, token = pads.nonzero()[0].tolist()
        raise RefusedError(
            f"{name}'s token map must point at tokens, not at pads",
            f"token {token} of row {row} is mapped to pad {int(here[row, token])}",
            "Build it with c2c.alignment.tokens.batch_readings, or map such tokens to -1",
        )


def _check_layers(given: SharerInput, name: str, shape: CacheShape) -> None:
    layers = given.layers or ()
    needed = (given.input_ids.shape[0], shape.heads, given.input_ids.shape[1], shape.head_dim)
    wrong = [tuple(states.shape) for layer in layers for states in layer if tuple(states.shape) != needed]
    if len(layers) != shape.layers or wrong:
        raise RefusedError(
            f"{name}'s cache must have {shape.layers} layers of keys and values {needed}",
            f"{len(layers)} layers" if len(layers) != shape.layers else wrong[0],
            "Give the cache of the model that the Fusers were made for, with the tokens that it has read",
        )
    kinds = sorted({str(states.dtype) for layer in layers for states in layer})
    if len(kinds) > 1 or not layers[0][0].is_floating_point():
        raise RefusedError(
            f"{name}'s cache must hold floating-point numbers of one precision",
            ", ".join(kinds),
            "Turn quantised keys and values back first (c2c.cache.kv_cache.layers_of)",
        )
    if not all(bool(torch.isfinite(states).all()) for layer in layers for states in layer):
        raise RefusedError(f"{name}'s cache must be finite", "NaN or infinity", "Read the prompt again")
