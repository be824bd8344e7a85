"""Sections of a prompt: which tokens are fused, and with which Sharers (reference spec §2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from c2c.errors import RefusedError, check_choice

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
        share: Fuse only ``int(n * share)`` of the n tokens (reference spec §6.5).
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
    parts = [(1, fused), (-1, instruction_length - fused)]
    if side == "back":
        parts.reverse()
    return [section_index(mask, length) for mask, length in (*parts, (-1, response_length)) if length]


def section_index(mask: int, length: int) -> Tensor:
    """One section, ``(1, length, 2)`` int64 of ``[mask, 0]``; the mask is a sum of ``1 << Sharer``, or -1 for none."""
    return torch.tensor([mask, 0]).expand(1, length, 2).clone()


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
    odd = [type(each).__name__ for each in kv_cache_index if not isinstance(each, Tensor)] if several else []
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
