"""One batch of aligned prompts, whatever their sections.

See ``docs/reference-behaviour.md``, "Prefill and sections" and "Chat alignment".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from c2c.alignment.chat import AlignedChat, ChatSection
from c2c.alignment.tokens import UNMATCHED, AlignedPrompt, SharerInput, batch_readings
from c2c.errors import RefusedError
from c2c.fusion.prompt import section_index

NOT_FUSED = -1

Reencode = Callable[[Tensor], Tensor] | None
Row = AlignedPrompt | Sequence[AlignedPrompt]
"""One conversation or plain prompt, aligned with one Sharer, or with each of several."""


class ChatBatch(NamedTuple):
    """Arguments of `RosettaModel.forward` and `generate`.

    Args:
        kv_cache_index: One ``(1, n, 2)`` int64 tensor a section.
        input_ids: ``(B, N)`` int64 with pads at the left of each section.
        attention_mask: ``(B, N)`` int64, 0 for pads; positions are counted from it, so that pads take none.
        sharer_inputs: What each Sharer reads; its token map covers all columns but the last section's.
    """

    kv_cache_index: list[Tensor]
    input_ids: Tensor
    attention_mask: Tensor
    sharer_inputs: list[SharerInput]

    @property
    def sharer_input(self) -> SharerInput:
        """What the only Sharer reads."""
        (only,) = self.sharer_inputs
        return only

    def to(self, device: torch.device) -> ChatBatch:
        """The same batch on another device; of `kv_cache_index` only shapes and one number a section are ever read."""
        ids, mask = self.input_ids.to(device), self.attention_mask.to(device)
        return ChatBatch(
            self.kv_cache_index, ids, mask, [sharer_input.to(device) for sharer_input in self.sharer_inputs]
        )


def sections_of(prompt: AlignedPrompt) -> tuple[ChatSection, ...]:
    """A conversation's sections; of plain text the prefix is one message, and its last token what is continued."""
    if isinstance(prompt, AlignedChat):
        return prompt.sections
    tokens = len(prompt.receiver_ids)
    return ChatSection(0, tokens - 1, "message"), ChatSection(tokens - 1, tokens, "template")


def up_to_fused(prompt: AlignedPrompt) -> AlignedPrompt:
    """The same prompt, of which the Sharer reads no further than the last token that is fused, or its first.

    Nothing attends to more of it. Where the response is fused, the Sharer then reads the Receiver's last section, with
    the opening of the answer: after its own it would read two.
    """
    return replace(prompt, sharer_ids=prompt.sharer_ids[: max([0, *prompt.token_map]) + 1])


def in_two_sections(prompt: AlignedPrompt) -> AlignedChat:
    """The same prompt as one section up to the last token that is fused, and the rest as the one that is continued.

    Args:
        prompt: Of N >= 2 tokens. Where none is fused, the first is a section of its own.
    """
    tokens = len(prompt.receiver_ids)
    # Tokens in between that are not fused stay in the section: the map leaves them as they are.
    fused = [place for place, at in enumerate(prompt.token_map) if at != UNMATCHED]
    end = fused[-1] + 1 if fused else 1
    sections = (ChatSection(0, end, "message"), ChatSection(end, tokens, "template"))
    return AlignedChat(prompt.receiver_ids, prompt.sharer_ids, prompt.token_map, sections)


def collate_chats(
    chats: Sequence[Row],
    receiver_pad: int,
    sharer_pad: int | Sequence[int],
    zeroed: bool = False,
    reencode: Reencode | Sequence[Reencode] = None,
    *,
    mask: int | None = None,
) -> ChatBatch:
    """Lay out rows section by section, from the right: each section is as wide as the widest row's.

    The kinds of sections alternate up to the last one, which is never fused, so sections that stand equally far from
    the end are of one kind; a row with fewer turns has sections of pads alone at its left. The Sharer reads each row
    as `up_to_fused` leaves it.

    Args:
        chats: B conversations or plain prompts; with S Sharers each of them is a list of S, one alignment a Sharer.
        receiver_pad: The Receiver's pad id.
        sharer_pad: The Sharer's pad id, or that of each Sharer.
        zeroed: See `SharerInput`; holds for every Sharer.
        reencode: See `SharerInput`; for several Sharers one each.
        mask: Which Sharers are fused into the messages: a sum of ``1 << number``, 0 for none; all of them if None.

    Raises:
        RefusedError: If there is no row, rows are not aligned with the same number of Sharers, the alignments of a row
            are not of one and the same prompt, or the mask names a Sharer that is not there.
    """
    # Rows, each of one alignment a Sharer, and their sections
    aligned = [[chat] if isinstance(chat, AlignedPrompt) else list(chat) for chat in chats]
    sharers = _sharers(aligned)
    rows = [sections_of(row[0]) for row in aligned]
    count = max(len(row) for row in rows)
    # Columns: a row with fewer sections has empty ones at its left
    padded_rows = [(ChatSection(0, 0, "template"),) * (count - len(row)) + row for row in rows]
    widths = [max(section.end - section.start for section in column) for column in zip(*padded_rows, strict=True)]
    # Messages are fused, templates are not; they alternate
    message_mask = _checked_mask(mask, sharers)
    masks = [message_mask if (count - 1 - number) % 2 else NOT_FUSED for number in range(count)]
    columns = sum(widths[:-1])

    def columns_of(row: int, values: Sequence[int], pad: int) -> list[int]:
        return lay_out(values, padded_rows[row], widths, pad)

    def reading(row: int, chat: AlignedPrompt) -> AlignedPrompt:
        # The map has no entry for the last token, which no one is fused with.
        token_map = columns_of(row, [*chat.token_map, UNMATCHED], UNMATCHED)[:columns]
        return AlignedPrompt(chat.receiver_ids, up_to_fused(chat).sharer_ids, token_map)

    # One input a Sharer
    pads = _list_of("pad id", sharer_pad, sharers)
    encoders = _list_of("reencode", reencode, sharers)
    return ChatBatch(
        [section_index(bits, width) for bits, width in zip(masks, widths, strict=True)],
        torch.tensor([columns_of(row, prompts[0].receiver_ids, receiver_pad) for row, prompts in enumerate(aligned)]),
        torch.tensor([columns_of(row, [1] * len(prompts[0].receiver_ids), 0) for row, prompts in enumerate(aligned)]),
        [
            batch_readings(
                [reading(row, prompts[sharer]) for row, prompts in enumerate(aligned)],
                pads[sharer],
                zeroed=zeroed,
                reencode=encoders[sharer],
            )
            for sharer in range(sharers)
        ],
    )


def _sharers(aligned: Sequence[Sequence[AlignedPrompt]]) -> int:
    """How many Sharers all rows are aligned with."""
    if not aligned:
        raise RefusedError("A batch must have at least one conversation", list(aligned), "Pass one")
    counts = sorted({len(row) for row in aligned})
    if len(counts) > 1 or not counts[0]:
        raise RefusedError(
            "Each conversation must be aligned with the same number of Sharers, at least one",
            counts,
            "Align each conversation with every Sharer",
        )
    for number, row in enumerate(aligned):
        # One row of the batch serves all Sharers, so they must agree on what it is.
        reference = (row[0].receiver_ids, sections_of(row[0]))
        if any((prompt.receiver_ids, sections_of(prompt)) != reference for prompt in row[1:]):
            raise RefusedError(
                "The alignments of a conversation must have the Receiver's tokens and sections in common",
                f"conversation {number}",
                "Align the same messages, with the same options, with every Sharer",
            )
    return counts[0]


def _checked_mask(mask: int | None, sharers: int) -> int:
    everyone = (1 << sharers) - 1
    if mask is None:
        return everyone
    if not isinstance(mask, int) or isinstance(mask, bool) or not 0 <= mask <= everyone:
        raise RefusedError(
            f"The mask of the messages must be a bit mask of the {sharers} Sharer(s)", mask, f"Use 0 to {everyone}"
        )
    return mask


def _list_of(name: str, values: Any, sharers: int) -> list[Any]:
    """One value a Sharer; a value that is no sequence is the only Sharer's, and None is everyone's."""
    listed = list(values) if isinstance(values, Sequence) else [values] * (sharers if values is None else 1)
    if len(listed) != sharers:
        raise RefusedError(f"There must be one {name} for each of the {sharers} Sharer(s)", len(listed), "Pass a list")
    return listed


def lay_out(values: Sequence[int], sections: Sequence[ChatSection], widths: Sequence[int], pad: int) -> list[int]:
    """A row's values section by section, each after as many pads as the section is narrower than its column.

    Args:
        values: One a token of the row.
        sections: Of the row.
        widths: Columns of each section.
        pad: Fills them.

    Returns:
        As many values as `widths` add up to.
    """
    columns: list[int] = []
    for section, width in zip(sections, widths, strict=True):
        part = values[section.start : section.end]
        # Pads at the left of each section, so that the ends of all rows meet at its boundary.
        columns += [*[pad] * (width - len(part)), *part]
    return columns
