"""Token ids of texts, in which what a user wrote is never read as a control token.

A special token's string (``<|im_end|>``, ``</s>``) in a content is read as the characters that it is, by both models:
in plain prompts everything is content, in a rendered conversation the messages are, and the template's own control
tokens are tokens. A text without such strings has the ids that its tokenizer gives it.

A plain prompt that begins with the tokenizer's BOS has one, as in lm-eval: none is added to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from c2c.errors import RefusedError

EDGE = "\n"
"""Put before a part of a text, so that no tokenizer takes the part for the beginning of one and adds a blank."""


class Encoding(NamedTuple):
    """Tokens of a text.

    Args:
        ids: N token ids.
        offsets: First character of each and the one after its last; empty for a tokenizer without offsets.
        added: For each 1 if the tokenizer added it to the text, else 0.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    added: list[int]


_strings: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, re.Pattern[str]]] = WeakKeyDictionary()


def _control_strings(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """What finds the strings of the tokenizer's special tokens, longest first."""
    # The size of the vocabulary tells whether tokens were added since; (?!) matches nothing.
    size, pattern = _strings.get(tokenizer, (-1, re.compile("(?!)")))
    if size != len(tokenizer):
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        # Longest first, since a regular expression takes the first alternative that fits.
        longest = sorted((string for string in special if string.strip()), key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest)) or "(?!)")
        _strings[tokenizer] = len(tokenizer), pattern
    return pattern


def split_bos(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[bool, str]:
    """Whether a plain prompt begins with the tokenizer's BOS, and the prompt without it."""
    bos = tokenizer.bos_token
    return (True, text.removeprefix(bos)) if bos and text.startswith(bos) else (False, text)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    bos: bool = False,
    add_special_tokens: bool = True,
    control_tokens: bool = False,
) -> Encoding:
    """Tokens of a text that is content, with what the tokenizer adds to each text.

    Args:
        tokenizer: Of the model that reads it.
        text: Without a BOS; see `split_bos`.
        bos: Begin with the BOS, if the tokenizer has one, also where it adds none.
        add_special_tokens: Let the tokenizer add its special tokens.
        control_tokens: The text is a rendering: strings of control tokens are control tokens.

    Raises:
        RefusedError: If the text is not Unicode, or the tokenizer cannot read a control token's string as text.
    """
    # The tokenizer is asked to split special tokens only where the text holds the string of one.
    strings = [] if control_tokens else _control_strings(tokenizer).findall(text)
    encoding = _encode(tokenizer, text, add_special_tokens, split=bool(strings))
    _check_plain(
        tokenizer, strings, [token for token, mark in zip(encoding.ids, encoding.added, strict=True) if not mark]
    )
    # An empty offset: the BOS covers no character, so that no Receiver token is mapped to it by its place.
    bos_id = tokenizer.bos_token_id
    if bos and bos_id is not None and encoding.ids[:1] != [bos_id]:
        offsets = [(0, 0), *encoding.offsets] if encoding.offsets else []
        return Encoding([bos_id, *encoding.ids], offsets, [1, *encoding.added])
    return encoding


def encode_rendering(tokenizer: PreTrainedTokenizerBase, text: str, contents: Sequence[tuple[int, int]]) -> Encoding:
    """Tokens of a rendered conversation; nothing is added.

    Args:
        tokenizer: A fast one.
        text: What the chat template wrote.
        contents: First character of each content in it and the one after its last.

    Raises:
        RefusedError: As `encode`.
    """
    # Control strings within contents; those of the template itself stay control tokens.
    strings = [
        match.span()
        for match in _control_strings(tokenizer).finditer(text)
        if any(match.start() < end and match.end() > start for start, end in contents)
    ]
    if not strings:
        return _encode(tokenizer, text, False)
    # The rendering in pieces: template and contents, string, template and contents, string, ...
    edges = [0, *(edge for span in strings for edge in span), len(text)]
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for number, (start, end) in enumerate(pairwise(edges)):
        if start == end:
            continue
        # Every second part is the string of a control token.
        part = _encode_part(tokenizer, text[start:end], split=number % 2 == 1, first=start == 0)
        if number % 2:
            _check_plain(tokenizer, [text[start:end]], part.ids)
        ids += part.ids
        offsets += [(first + start, last + start) for first, last in part.offsets]
    return Encoding(ids, offsets, [0] * len(ids))


def _encode_part(tokenizer: PreTrainedTokenizerBase, text: str, *, split: bool, first: bool) -> Encoding:
    """Tokens of a part of a text, as they are within it."""
    # Many tokenizers put a blank before a text that begins; within a text there is none.
    before = "" if first else EDGE
    encoding = _encode(tokenizer, before + text, False, split=split)
    inside = [place for place, (_, end) in enumerate(encoding.offsets) if end > len(before)]
    if inside and encoding.offsets[inside[0]][0] < len(before):
        # The edge is one token with the part's first characters.
        return _encode(tokenizer, text, False, split=split)
    # Offsets within the part
    offsets = [(encoding.offsets[place][0] - len(before), encoding.offsets[place][1] - len(before)) for place in inside]
    return Encoding([encoding.ids[place] for place in inside], offsets, [0] * len(inside))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, added: bool, *, split: bool = False) -> Encoding:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RefusedError(
            "A text must be Unicode without lone surrogates", ascii(error.object[error.start]), "Correct the text"
        ) from error
    # Passed only where it is needed: some tokenizers take no such option.
    options = {"split_special_tokens": True} if split else {}
    encoded = tokenizer(
        text,
        add_special_tokens=added,
        return_special_tokens_mask=True,
        return_offsets_mapping=tokenizer.is_fast,
        **options,
    )
    offsets = encoded["offset_mapping"] if tokenizer.is_fast else []
    return Encoding(encoded["input_ids"], offsets, encoded["special_tokens_mask"])


def _check_plain(tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], ids: Sequence[int]) -> None:
    """Refuse a text whose tokenizer makes a control token of its string in any case."""
    for string in dict.fromkeys(strings):
        if tokenizer.convert_tokens_to_ids(string) in ids:
            raise RefusedError(
                "A content must hold no control token that its tokenizer cannot read as plain text",
                string,
                "Leave it out of the text, or write it another way",
            )
