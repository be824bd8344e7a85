"""A prompt before any model reads it: its sections, and what must hold of its tensors and of what each Sharer reads.

Sections tile a prompt; each is fused with the Sharers that it selects (``docs/reference-behaviour.md``, "Prefill and
sections").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from c2c.alignment.tokens import SharerInput
from c2c.errors import NoRoomError, RefusedError, check_choice
from c2c.types import IGNORED, CacheShape

SIDES = ("front", "back")


class Section(NamedTuple):
    """Columns ``start`` to ``end`` of the prompt, and the numbers (from 0) of the Sharers that are fused there."""

    start: int
    end: int
    sharers: tuple[int, ...]


def generate_kv_cache_index(
    instruction_length: int, response_length: int, *, share: float = 1.0, side: str = "front"
) -> list[Tensor]:
    """Sections of a prompt: the first tokens are fused with the first Sharer, the others are not.

    Args:
        instruction_length: n, tokens that are fused; usually the prompt without its last token.
        response_length: m, tokens after them; at least 1.
        share: Fuse only ``int(n * share)`` of the n tokens.
        side: Which of them: those at the ``front`` or at the ``back``. Columns are counted, so rows of a batch that
            are padded to different degrees get different shares of their own tokens.

    Returns:
        ``(1, n, 2)`` int64 of ``[1, 0]`` and ``(1, m, 2)`` int64 of ``[-1, 0]``; each broadcasts over the batch. With
        a share below 1 the n tokens are two sections, one of ``[1, 0]`` and one of ``[-1, 0]``.

    Raises:
        RefusedError: If a length is not positive, the share is not in [0, 1], or the side is unknown.
    """
    for name, length in (("instruction_length", instruction_length), ("response_length", response_length)):
        if not isinstance(length, int) or length < 1:
            raise RefusedError(f"{name} must be at least 1", length, "Pass the number of tokens of that section")
    if not 0 <= share <= 1:
        raise RefusedError("The share of tokens that are fused must be in [0, 1]", share, "Choose 0.5 for a half")
    check_choice("The side that is fused", side, SIDES)
    fused = int(instruction_length * share)
    # [1, 0]: bit 0 of the mask is the first Sharer; -1 is no Sharer, where 0 would do too.
    parts = [(1, fused), (-1, instruction_length - fused)]
    if side == "back":
        parts.reverse()
    return [section_index(mask, length) for mask, length in (*parts, (-1, response_length)) if length]


def section_index(mask: int, length: int) -> Tensor:
    """One section, ``(1, length, 2)`` int64 of ``[mask, 0]``; the mask is a sum of ``1 << Sharer``, or -1 for none."""
    return torch.tensor([mask, 0]).expand(1, length, 2).clone()  # (2,) -> (1, length, 2)


def read_sections(
    kv_cache_index: Sequence[Tensor], input_ids: Tensor, sharers: int, *, include_response: bool = False
) -> list[Section]:
    """The sections that `kv_cache_index` describes.

    Args:
        kv_cache_index: One ``(B or 1, n, 2)`` integer tensor a section.
        input_ids: ``(B, N)`` int64 that the sections tile.
        sharers: How many Sharers there are.
        include_response: Let the last section be fused too: with the Sharers that it selects, or, where it selects
            none, with those of the fused section before it.

    Raises:
        RefusedError: If shapes are wrong, rows or tokens of a section disagree, a bit names no Sharer, the sections
            do not add up to N, or the last section selects a Sharer though the response is not fused.
    """
    # Columns and Sharers of each section
    _check_kinds(kv_cache_index, input_ids)
    if input_ids.dim() != 2 or not len(input_ids):
        raise RefusedError(
            "input_ids must be (B, N) with at least one row", tuple(input_ids.shape), "Pass a batch of prompts"
        )
    sections: list[Section] = []
    start = 0
    for number, index in enumerate(kv_cache_index):
        mask = _mask_of(index, number, input_ids.shape[0], sharers)
        end = start + index.shape[1]
        sections.append(Section(start, end, tuple(bit for bit in range(sharers) if mask > 0 and mask >> bit & 1)))
        start = end
    if start != input_ids.shape[1]:
        raise RefusedError(
            f"The sections must add up to the {input_ids.shape[1]} tokens of input_ids",
            [tuple(index.shape) for index in kv_cache_index],
            "Make the sections as long as the prompt, such as generate_kv_cache_index(N - 1, 1)",
        )
    # The last section is continued from; it is fused with the response alone
    if include_response and sections:
        chosen = next((section.sharers for section in reversed(sections) if section.sharers), ())
        if chosen and len(sections) == 1:
            raise RefusedError(
                "A response that is fused must come after a prefix",
                "one section",
                "Use generate_kv_cache_index(N - 1, 1)",
            )
        return [*sections[:-1], sections[-1]._replace(sharers=chosen)]
    if not sections or sections[-1].sharers:
        raise RefusedError(
            "The last section, which the Receiver continues from, must exist and must not be fused",
            f"{len(sections)} section(s), the last with Sharers {sections[-1].sharers if sections else ()}",
            "End with a section of [-1, 0] that holds at least the last prompt token",
        )
    return sections


def _check_kinds(kv_cache_index: Any, input_ids: Any) -> None:
    if not isinstance(input_ids, Tensor):
        raise RefusedError(
            "input_ids must be one tensor (B, N), of the Receiver's tokens",
            type(input_ids).__name__,
            "Pass the tokenizer's tensor (return_tensors='pt'); what a Sharer reads goes into sharer_inputs",
        )
    several = isinstance(kv_cache_index, Sequence) and not isinstance(kv_cache_index, str)
    odd = [type(index).__name__ for index in kv_cache_index if not isinstance(index, Tensor)] if several else []
    if not several or odd:
        raise RefusedError(
            "kv_cache_index must be a list of tensors, one a section",
            odd[0] if odd else type(kv_cache_index).__name__,
            "Build it with generate_kv_cache_index",
        )


def _mask_of(index: Tensor, number: int, batch: int, sharers: int) -> int:
    if index.dim() != 3 or index.shape[2] != 2 or index.shape[0] not in (1, batch) or index.shape[1] < 1:
        raise RefusedError(
            f"Section {number} of kv_cache_index must be ({batch} or 1, n, 2) with n >= 1",
            tuple(index.shape),
            "Build it with generate_kv_cache_index",
        )
    if index.is_floating_point() or index.dtype == torch.bool:
        raise RefusedError(
            f"Section {number} of kv_cache_index must hold whole numbers", str(index.dtype), "Use dtype torch.int64"
        )
    if bool((index[..., 1] != 0).any()):
        raise RefusedError(
            f"Section {number} of kv_cache_index must name the Receiver, model 0, as what is fused into",
            index[..., 1].unique().tolist(),
            "Set the second column to 0",
        )
    # All rows and tokens have one mask
    masks = index[..., 0].unique().tolist()
    if len(masks) > 1:
        raise RefusedError(
            f"All rows and tokens of section {number} must select the same Sharers",
            masks,
            "Start a new section where the selection changes; run rows that differ in separate batches",
        )
    if masks[0] < -1 or masks[0] >= 1 << sharers:
        raise RefusedError(
            f"The mask of section {number} must be -1, 0 or a bit mask of the {sharers} Sharer(s)",
            masks[0],
            f"Use -1 for no fusion, or a sum of powers of two below {1 << sharers}",
        )
    return int(masks[0])


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
    # Kinds and shapes
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
    # Values
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
        what: Words of the message that tell which text it is.

    Raises:
        RefusedError: With the positions that are needed.
    """
    room = getattr(config.get_text_config(), "max_position_embeddings", None)
    if room and needed > room:
        raise NoRoomError(f"What {name} reads {what}must fit into its {room} positions", needed, "Shorten the prompt")


def check_tensors(**tensors: Any) -> None:
    """Refuse what is given in place of a tensor; None stands for an argument that is left out.

    Raises:
        RefusedError: With the argument's name.
    """
    for name, value in tensors.items():
        if value is not None and not isinstance(value, Tensor):
            raise RefusedError(f"{name} must be a tensor", type(value).__name__, f"Pass torch.tensor({name})")


def check_inputs(inputs: Mapping[int, Any]) -> None:
    """Refuse what is given to a selected Sharer in place of a `SharerInput` of tensors.

    Raises:
        RefusedError: With the Sharer's number.
    """
    for sharer, sharer_input in inputs.items():
        if not isinstance(sharer_input, SharerInput):
            raise RefusedError(
                f"What Sharer {sharer + 1} reads must be a SharerInput",
                type(sharer_input).__name__,
                "Build it with c2c.alignment.tokens.batch_readings, or SharerInput.of_receiver",
            )
        name = f"input_ids, attention_mask and token_map of Sharer {sharer + 1}"
        for value in (sharer_input.input_ids, sharer_input.attention_mask, sharer_input.token_map):
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
    empty = (mask.sum(-1) == 0).nonzero().flatten().tolist()  # (B, N) -> numbers of rows
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
        sharer_input, name = inputs[sharer], f"Sharer {sharer + 1}"
        _check_map(sharer_input, name, *prefix.shape)
        if sharer_input.zeroed:
            continue
        check_mask(sharer_input.attention_mask, f"{name}'s attention_mask")
        if not own_tokens:
            check_rows(sharer_input.attention_mask, f"{name}'s attention_mask")
        _check_matches(sharer_input, name, prefix)
        # Either the Sharer reads the tokens, or its cache of them is given
        if sharer_input.layers is None:
            remedy = "Give it its own tokens: align them with sharer_inputs"
            _check_ids(sharer_input.input_ids, configs[sharer].get_text_config().vocab_size, name, remedy)
            check_room(name, int(sharer_input.attention_mask.sum(-1).max()), configs[sharer])
        else:
            _check_layers(sharer_input, name, shapes[sharer])


def _check_map(sharer_input: SharerInput, name: str, rows: int, fused: int) -> None:
    token_map = sharer_input.token_map
    if sharer_input.input_ids.dim() != 2 or not sharer_input.input_ids.numel() or token_map.dim() != 2:
        raise RefusedError(
            f"{name}'s input_ids must be (B, M) with at least one token, and its token map (B, n)",
            (tuple(sharer_input.input_ids.shape), tuple(token_map.shape)),
            "Build them with c2c.alignment.tokens.batch_readings",
        )
    # Kinds and shapes
    for what, numbers in (("input_ids", sharer_input.input_ids), ("token map", token_map)):
        _check_whole(numbers, f"{name}'s {what}", "Build it with c2c.alignment.tokens.batch_readings")
    tokens = sharer_input.input_ids.shape[1]
    if sharer_input.input_ids.shape != sharer_input.attention_mask.shape:
        raise RefusedError(
            f"{name}'s input_ids and attention_mask must have one shape",
            (tuple(sharer_input.input_ids.shape), tuple(sharer_input.attention_mask.shape)),
            "Build them with c2c.alignment.tokens.batch_readings",
        )
    if token_map.shape[0] != rows or token_map.shape[1] < fused or sharer_input.input_ids.shape[0] != rows:
        raise RefusedError(
            f"{name}'s token map must cover the {fused} fused tokens of {rows} rows",
            (tuple(token_map.shape), tuple(sharer_input.input_ids.shape)),
            "Align the whole prefix (c2c.alignment.tokens.batch_readings)",
        )
    # Values
    highest, lowest = int(token_map.max()), int(token_map.min())
    if highest >= tokens or lowest < -1:
        raise RefusedError(
            f"{name}'s token map must point at its {tokens} tokens, or be -1",
            highest if highest >= tokens else lowest,
            "Align the prompt that it reads (c2c.alignment.tokens.batch_readings)",
        )


def _check_matches(sharer_input: SharerInput, name: str, prefix: Tensor) -> None:
    """Refuse a map from a token of the Receiver to a pad of the Sharer."""
    # The mask of the Sharer's token at each fused position: (B, M) and (B, n) -> (B, n)
    here = sharer_input.token_map[:, : prefix.shape[1]]
    tokens = sharer_input.attention_mask.to(here.device).gather(1, here.clamp(min=0).long())
    # Pads of the Receiver may be mapped anywhere: nobody attends to them.
    pads = (prefix.to(here.device) != 0) & (here >= 0) & (tokens == 0)
    if bool(pads.any()):
        row, token = pads.nonzero()[0].tolist()
        raise RefusedError(
            f"{name}'s token map must point at tokens, not at pads",
            f"token {token} of row {row} is mapped to pad {int(here[row, token])}",
            "Build it with c2c.alignment.tokens.batch_readings, or map such tokens to -1",
        )


def _check_layers(sharer_input: SharerInput, name: str, shape: CacheShape) -> None:
    layers = sharer_input.layers or ()
    needed = (sharer_input.input_ids.shape[0], shape.heads, sharer_input.input_ids.shape[1], shape.head_dim)
    # (B, Hs, M, Ds) of every tensor, then one floating-point dtype, then finite numbers
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


def check_labels(labels: Tensor | None, input_ids: Tensor, last: Section, vocabulary: int) -> None:
    """Refuse labels ``(B, N)`` that do not fit the prompt, or supervise nothing in its last section.

    Raises:
        RefusedError: With what is wrong.
    """
    if labels is None:
        return
    if labels.shape != input_ids.shape:
        raise RefusedError(
            f"labels must be {tuple(input_ids.shape)}, as input_ids is", tuple(labels.shape), "Pass one label a token"
        )
    if labels.dtype != torch.int64 or bool(((labels != IGNORED) & ((labels < 0) | (labels >= vocabulary))).any()):
        raise RefusedError(
            f"labels must be whole numbers (int64) from 0 to {vocabulary - 1}, or {IGNORED} for no loss",
            f"{labels.dtype} from {labels.min().item()} to {labels.max().item()}",
            f"Copy input_ids, and set what is not to be learned to {IGNORED}",
        )
    # The first label of the section has no logit before it: the model predicts the next token.
    if not bool((labels[:, last.start + 1 : last.end] != IGNORED).any()):
        raise RefusedError(
            "Labels must name at least one token after the first of the last section",
            f"only {IGNORED} there",
            "Label the response, which the last section holds",
        )
