"""Token alignment: what the Sharer reads, and which of its tokens each Receiver token is fused with.

``first`` and ``longest`` are the reference's (``docs/reference-behaviour.md``, "Token alignment"): the Sharer reads the
Receiver's tokens, each decoded and re-encoded alone, and no longer its own tokens of the text. Under ``unaligned``,
the mode of the reference's main recipe, it reads the Receiver's token ids as they are. ``span`` is ours: each model
reads its own tokens of the same text, and each Receiver token takes the Sharer's cache at the Sharer token that covers
its last character.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from c2c.alignment.content import Encoding, encode, split_bos
from c2c.errors import RefusedError, check_choice
from c2c.types import TOKEN_ALIGNMENTS, UNALIGNED, KeyValue

UNMATCHED = -1


@dataclass(frozen=True)
class SharerInput:
    """What one Sharer reads for the Receiver's prompt.

    Args:
        input_ids: ``(B, M)`` int64, the Sharer's own tokens, left-padded.
        attention_mask: ``(B, M)``, 1 for tokens and 0 for pads.
        token_map: ``(B, n)`` int64 for the first n Receiver positions, pads included: the index into the Sharer's M
            positions whose cache is fused there, or -1 where nothing is fused. Positions from n on are not fused.
        zeroed: The Sharer does not run; its cache is zeros (the control `c2c_zeroed` and the recipe `adapter`).
        layers: The Sharer does not run; this is its cache of `input_ids`: S layers ``(B, Hs, M, Ds)``, on any device.
        sharer: The contract lines of the model that computed `layers`, which loaded Fusers compare with the Sharer that
            they were trained for. None if they are unknown.
        reencode: Turns Receiver ids ``(B, n)`` of a response that is fused too into as many Sharer ids; None where the
            two vocabularies agree.
        is_whole: Whether something is fused at each position of `token_map`. None: it is read from the map, which waits
            for a device.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_map: Tensor
    zeroed: bool = False
    layers: Sequence[KeyValue] | None = None
    reencode: Callable[[Tensor], Tensor] | None = None
    sharer: Mapping[str, Any] | None = None
    is_whole: bool | None = None

    @classmethod
    def of_receiver(cls, input_ids: Tensor, attention_mask: Tensor) -> SharerInput:
        """The Sharer reads the Receiver's own tokens, each ``(B, N)``, one for one."""
        batch, tokens = input_ids.shape
        # (N,) -> (B, N)
        token_map = torch.arange(tokens, device=input_ids.device).expand(batch, -1)
        return cls(input_ids, attention_mask, token_map, is_whole=True)

    def to(self, device: torch.device) -> SharerInput:
        """The same input on another device; `layers` stay where they are until they are fused."""
        # Only towards a GPU: the CPU would read what has not arrived.
        tensors = (self.input_ids, self.attention_mask, self.token_map)
        ids, mask, token_map = (tensor.to(device, non_blocking=device.type == "cuda") for tensor in tensors)
        return replace(self, input_ids=ids, attention_mask=mask, token_map=token_map)


@dataclass(frozen=True)
class AlignedPrompt:
    """One prompt as the Receiver reads it, and its prefix (all but the Receiver's last token) as the Sharer reads it.

    Args:
        receiver_ids: N token ids of the Receiver.
        sharer_ids: M token ids of the Sharer, none of which reaches past the prefix.
        token_map: For each of the N - 1 prefix tokens the index of its Sharer token, or -1 if it is not fused.
    """

    receiver_ids: list[int]
    sharer_ids: list[int]
    token_map: list[int]


class TokenAligner:
    """Aligns plain texts between the tokenizers of a Receiver and a Sharer.

    Args:
        receiver: The Receiver's tokenizer.
        sharer: The Sharer's tokenizer.
        alignment: ``span``, ``first``, ``longest`` or ``unaligned``. Under ``unaligned`` the Receiver's tokenizer reads
            for both models, private lines included; whether the Sharer has embeddings of all its ids is checked where
            the model is known (`c2c.models.pair.Pair.aligner`).

    Raises:
        RefusedError: If the alignment is unknown, or ``span`` is asked of a tokenizer without character offsets.
    """

    def __init__(
        self, receiver: PreTrainedTokenizerBase, sharer: PreTrainedTokenizerBase, alignment: str = "span"
    ) -> None:
        self.alignment = check_choice("A token alignment", alignment, TOKEN_ALIGNMENTS)
        self.receiver, self.sharer = receiver, receiver if alignment == UNALIGNED else sharer
        self.identical = _same_tokens(receiver, sharer)
        self._reencoded: dict[int, int] = {}
        if alignment == "span" and not self.identical:
            for tokenizer in (receiver, sharer):
                if not tokenizer.is_fast:
                    raise RefusedError(
                        "Tokenizers of the alignment span must give character offsets",
                        type(tokenizer).__name__,
                        "Load the fast tokenizer, or choose the alignment longest",
                    )

    def align(self, prompt: str, private: str = "", *, control_tokens: bool = False) -> AlignedPrompt:
        """Tokenise `prompt` for both models, special tokens as each tokenizer adds them, and map its prefix.

        Args:
            prompt: What both models read. Strings of control tokens in it are plain text; but where it begins with the
                Receiver's BOS, no other is added, and the Sharer reads its own. See `c2c.alignment.content`.
            private: What the Sharer alone reads before it, on lines of its own. Nothing of it is fused: the map points
                at tokens behind it, or at one that opens the Sharer's text.
            control_tokens: Strings of control tokens are control tokens: the prompt is a rendered conversation.

        Raises:
            RefusedError: If the prompt has fewer than two Receiver tokens, or none of its prefix has a Sharer token:
                there is nothing to fuse.
        """
        # 1. The Receiver: its own tokens of the text
        bos, text = split_bos(self.receiver, prompt)
        receiver = encode(self.receiver, text, bos=bos, control_tokens=control_tokens)
        ids = receiver.ids
        if len(ids) < 2:
            raise RefusedError("A prompt must have at least two tokens", prompt, "Write a longer prompt")
        # 2a. span: the Sharer's own tokens of the same text, with the private lines before it
        if self.alignment == "span" and not self.identical:
            sharer = encode(self.sharer, private_lines(private) + text, bos=bos, control_tokens=control_tokens)
            return self._align_spans(text, private_lines(private), receiver, sharer)
        # 2b. Otherwise the Receiver's tokens, re-encoded one for one, after the private lines
        if private:
            return self._align_after_private(receiver, encode(self.sharer, private_lines(private), bos=bos))
        prefix = ids[:-1]
        return AlignedPrompt(ids, [self.reencode_token(token) for token in prefix], list(range(len(prefix))))

    def _align_after_private(self, receiver: Encoding, private: Encoding) -> AlignedPrompt:
        """The Sharer's own tokens of the private lines, and behind them the Receiver's of the prompt, one for one."""
        # An EOS after the private lines would end the text before the prompt.
        opening, ids = _drop_closing_tokens(private), receiver.ids
        # What the Receiver's tokenizer put before the text (a BOS) takes the Sharer's token of the same role.
        first_word = receiver.added.index(0)
        reencoded = [self.reencode_token(token) for token in ids[first_word:-1]]
        token_map = [self._same_role(token, opening) for token in ids[:first_word]]
        token_map += range(len(opening), len(opening) + len(reencoded))
        return AlignedPrompt(ids, opening + reencoded, token_map[: len(ids) - 1])

    def _align_spans(self, prompt: str, before: str, receiver: Encoding, sharer: Encoding) -> AlignedPrompt:
        # 1. What the Sharer may read: its tokens that end within the prefix
        prefix = list(zip(receiver.ids, receiver.offsets, strict=True))[:-1]
        # Of a character that the last token shares with the prefix, the prefix holds some bytes alone.
        last_start, last_end = receiver.offsets[-1]
        whole = last_start if last_end > last_start else len(prompt)
        prefix_end = len(before) + min(whole, max(end for _, (_, end) in prefix))
        usable = [end <= prefix_end for _, end in sharer.offsets]
        limit = usable.index(False) if False in usable else len(usable)
        sharer_ids, offsets = sharer.ids[:limit], sharer.offsets[:limit]
        # 2. The map from prefix tokens to them
        # Each prefix token's last character, counted in the Sharer's text. A token without characters gets a
        # place too, which is not used.
        covering = _covering(_hide_private(offsets, before), [len(before) + end - 1 for _, (_, end) in prefix])
        token_map = [
            place if end > start else self._same_role(token, sharer_ids)
            for place, (token, (start, end)) in zip(covering, prefix, strict=True)
        ]
        if max(token_map) < 0:
            raise RefusedError(
                "At least one token of the prefix must have a Sharer token that ends within it",
                prompt,
                "Check that the Sharer's tokenizer is its own, or write a longer prompt",
            )
        return AlignedPrompt(receiver.ids, sharer_ids, token_map)

    def _same_role(self, token: int, sharer_ids: list[int]) -> int:
        # Tokens without characters, which no offset can map.
        for role in ("bos_token_id", "eos_token_id"):
            sharer_id = getattr(self.sharer, role)
            if token == getattr(self.receiver, role) and sharer_id in sharer_ids:
                return sharer_ids.index(sharer_id)
        return UNMATCHED

    def reencode(self, receiver_ids: Tensor) -> Tensor:
        """Sharer ids for Receiver ids, one for one, each ``(B, n)`` int64: how a Sharer reads a response as it grows.

        Tokens are re-encoded alone, as by `longest` where the alignment is `span`: what a Sharer's tokenizer makes of
        a text changes with the text after it, which is not written yet.
        """
        if self.identical:
            return receiver_ids
        ids = [[self.reencode_token(token) for token in row] for row in receiver_ids.tolist()]
        # The shape keeps (B, 0) for no token.
        return torch.tensor(ids, dtype=torch.long, device=receiver_ids.device).view(receiver_ids.shape)

    def reencode_token(self, token: int) -> int:
        """The Sharer's id for one Receiver id, as ``first`` and ``longest`` choose it."""
        if self.identical:
            return token
        if token not in self._reencoded:
            self._reencoded[token] = self._reencode_new(token)
        return self._reencoded[token]

    def _reencode_new(self, token: int) -> int:
        unknown = self.sharer.unk_token_id if self.sharer.unk_token_id is not None else 0
        if token in self.receiver.all_special_ids:
            return self._special(token, unknown)
        # Decoded alone: part of a character of several bytes becomes U+FFFD, as in the reference.
        text = self.receiver.decode([token], clean_up_tokenization_spaces=False)
        added = self.receiver.added_tokens_decoder.get(token)
        # An added token that is no control token may look like one of the Sharer's; its text is read as text.
        is_word = added is None or not added.special
        ids: list[int] = self.sharer.encode(text, add_special_tokens=False, split_special_tokens=is_word)
        if not ids:
            return unknown
        return (
            ids[0] if self.alignment == "first" else max(ids, key=lambda token_id: len(self.sharer.decode([token_id])))
        )

    def _special(self, token: int, unknown: int) -> int:
        # By role first, then by the same string in the Sharer's vocabulary.
        for role in ("unk", "bos", "eos", "pad"):
            receiver_id, sharer_id = (
                getattr(tokenizer, f"{role}_token_id") for tokenizer in (self.receiver, self.sharer)
            )
            if receiver_id == token and sharer_id is not None:
                return int(sharer_id)
        same_name = self.sharer.get_vocab().get(str(self.receiver.convert_ids_to_tokens(token)))
        return unknown if same_name is None else int(same_name)


def _same_tokens(receiver: PreTrainedTokenizerBase, sharer: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers give every text the same ids; False for slow ones, whose rules cannot be compared."""
    if receiver is sharer:
        return True
    if not (receiver.is_fast and sharer.is_fast) or receiver.get_vocab() != sharer.get_vocab():
        return False
    # Equal vocabularies split text differently under other merges or normalisers.
    return bool(receiver.backend_tokenizer.to_str() == sharer.backend_tokenizer.to_str())


def private_lines(private: str) -> str:
    """What the Sharer reads before a text that the Receiver reads without it."""
    return f"{private}\n" if private else ""


def _drop_closing_tokens(encoding: Encoding) -> list[int]:
    """Token ids up to the last one that is of the text itself."""
    # The last 0 of `added`, found from the right.
    return encoding.ids[: len(encoding.added) - encoding.added[::-1].index(0)]


def _hide_private(offsets: Sequence[tuple[int, int]], before: str) -> list[tuple[int, int]]:
    """Offsets, empty for tokens that hold private text, or only the line break after it."""
    # `before` ends with a line break, which some tokenizers join with the first word: such a token may be read.
    private = max(len(before) - 1, 0)
    return [(start, end) if start >= private and end > len(before) else (0, 0) for start, end in offsets]


def _covering(offsets: Sequence[tuple[int, int]], characters: Sequence[int]) -> list[int]:
    """For each character the last token that covers it, else the last one before it, else -1."""
    tokens = [index for index, (start, end) in enumerate(offsets) if end > start]
    # Starts never fall, so the last token that starts at or before a character covers it or ends before it.
    starts = [offsets[index][0] for index in tokens]
    return [tokens[after - 1] if (after := bisect_right(starts, character)) else UNMATCHED for character in characters]


def match_length(token_map: Sequence[int], length: int) -> list[int]:
    """Fit another text's token map to `length` Receiver tokens: cut at the left, or repeat it at the left.

    Raises:
        RefusedError: If the map is empty but tokens are asked for.
    """
    if not token_map and length:
        raise RefusedError("A text to read must have at least one token", token_map, "Pair it with a longer question")
    # Counted from the right: the last token of the one is that of the other.
    return [token_map[(index - length) % len(token_map)] for index in range(length)]


def with_reading_of(prompt: AlignedPrompt, donor: AlignedPrompt) -> AlignedPrompt:
    """`prompt`, for which the Sharer reads the text of `donor`.

    The tokens of `prompt` that are fused stay the same; they take the cache at the fused tokens of `donor`, cut at the
    left or repeated at the left.

    Raises:
        RefusedError: If `donor` has no fused token and `prompt` has one.
    """
    # Aligned at the right, where the question and the opening of the answer are.
    places = iter(match_length([at for at in donor.token_map if at >= 0], sum(at >= 0 for at in prompt.token_map)))
    token_map = [next(places) if at >= 0 else at for at in prompt.token_map]
    return replace(prompt, sharer_ids=donor.sharer_ids, token_map=token_map)


def left_pad(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of token ids as ``(B, N)`` int64 padded at the left with `pad`, and their mask ``(B, N)`` int64."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], dtype=torch.long)
    return ids, mask


def batch_readings(
    readings: Sequence[AlignedPrompt],
    pad: int,
    *,
    zeroed: bool = False,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> SharerInput:
    """Collate what the Sharer reads for each row; Receiver rows are taken to be left-padded to their longest.

    Args:
        readings: One aligned prefix a row; `token_map` counts in the row's own tokens.
        pad: The Sharer's pad id.
        zeroed: See `SharerInput`.
        reencode: See `SharerInput`; `TokenAligner.reencode` of the same two tokenizers.
    """
    # A Sharer that reads nothing gets one pad, since no model runs on (B, 0).
    ids, mask = left_pad([reading.sharer_ids or [pad] for reading in readings], pad)
    # Pads at the left move a row's tokens, and so the places that its map names.
    shifts = [ids.shape[1] - max(len(reading.sharer_ids), 1) for reading in readings]
    token_maps = [
        [index + shift if index >= 0 else UNMATCHED for index in reading.token_map]
        for reading, shift in zip(readings, shifts, strict=True)
    ]
    # (B, n), left-padded as the Receiver's rows are
    token_map, _ = left_pad(token_maps, UNMATCHED)
    is_whole = bool((token_map >= 0).all())
    return SharerInput(ids, mask, token_map, zeroed, reencode=reencode, is_whole=is_whole)
