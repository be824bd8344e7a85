"""One batch of aligned prompts, whatever their sections (design §4; reference spec §2.2, §4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.alignment.chat import AlignedChat, ChatSection
from c2c.alignment.tokens import UNMATCHED, AlignedPrompt, SharerInput, batch_readings
from c2c.errors import RefusedError

FUSED, NOT_FUSED = 1, -1


class ChatBatch(NamedTuple):
    """Arguments of `RosettaModel.forward` and `generate` for one Sharer.

    Args:
        kv_cache_index: One ``(1, n, 2)`` int64 tensor a section.
        input_ids: ``(B, N)`` int64 with pads at the left of each section.
        attention_mask: ``(B, N)`` int64, 0 for pads; positions are counted from it, so that pads take none.
        sharer_input: What the Sharer reads; its token map covers all columns but the last section's.
    """

    kv_cache_index: list[Tensor]
    input_ids: Tensor
    attention_mask: Tensor
    sharer_input: SharerInput

    def to(self, device: torch.device) -> ChatBatch:
        """The same batch there; of the sections, only the shape and one number each are read."""
        ids, mask = self.input_ids.to(device), self.attention_mask.to(device)
        return ChatBatch(self.kv_cache_index, ids, mask, self.sharer_input.to(device))


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
    fused = [place for place, at in enumerate(prompt.token_map) if at != UNMATCHED]
    end = fused[-1] + 1 if fused else 1
    sections = (ChatSection(0, end, "message"), ChatSection(end, tokens, "template"))
    return AlignedChat(prompt.receiver_ids, prompt.sharer_ids, prompt.token_map, sections)


def collate_chats(
    chats: Sequence[AlignedPrompt],
    receiver_pad: int,
    sharer_pad: int,
    zeroed: bool = False,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> ChatBatch:
    """Lay out rows section by section, from the right: each section is as wide as the widest row's.

    The kinds of sections alternate up to the last one, which is never fused, so sections that stand equally far from
    the end are of one kind; a row with fewer turns has sections of pads alone at its left. The Sharer reads each row
    as `up_to_fused` leaves it.

    Args:
        chats: B conversations or plain prompts.
        receiver_pad: The Receiver's pad id.
        sharer_pad: The Sharer's pad id.
        zeroed: See `SharerInput`.
        reencode: See `SharerInput`.

    Raises:
        RefusedError: If there is no row.
    """
    if not chats:
        raise RefusedError("A batch must have at least one conversation", list(chats), "Pass one")
    rows = [sections_of(chat) for chat in chats]
    count = max(len(row) for row in rows)
    filled = [(ChatSection(0, 0, "template"),) * (count - len(row)) + row for row in rows]
    widths = [max(section.end - section.start for section in column) for column in zip(*filled, strict=True)]
    masks = [FUSED if (count - 1 - number) % 2 else NOT_FUSED for number in range(count)]
    columns = sum(widths[:-1])

    def laid(row: int, values: Sequence[int], pad: int) -> list[int]:
        return _lay_out(values, filled[row], widths, pad)

    readings = [
        AlignedPrompt(
            chat.receiver_ids,
            up_to_fused(chat).sharer_ids,
            laid(row, [*chat.token_map, UNMATCHED], UNMATCHED)[:columns],
        )
        for row, chat in enumerate(chats)
    ]
    return ChatBatch(
        [torch.tensor([mask, 0]).expand(1, width, 2).clone() for mask, width in zip(masks, widths, strict=True)],
        torch.tensor([laid(row, chat.receiver_ids, receiver_pad) for row, chat in enumerate(chats)]),
        torch.tensor([laid(row, [1] * len(chat.receiver_ids), 0) for row, chat in enumerate(chats)]),
        batch_readings(readings, sharer_pad, zeroed=zeroed, reencode=reencode),
    )


def _lay_out(values: Sequence[int], sections: Sequence[ChatSection], widths: Sequence[int], pad: int) -> list[int]:
    """A row's values section by section, each after as many pads as the section is narrower than its column."""
    laid: list[int] = []
    for section, width in zip(sections, widths, strict=True):
        part = values[section.start : section.end]
        laid += [*[pad] * (width - len(part)), *part]
    return laid
