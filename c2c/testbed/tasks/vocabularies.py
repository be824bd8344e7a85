"""Vocabularies of models: the words that are one token in all of them, and the lengths of values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from c2c.errors import RefusedError

FILE = "tokenizer.json"
WORD = re.compile("[a-z]{3,}")
MARKS = "\u0120\u2581"
"""How vocabularies write the space before a word: byte-level BPE, SentencePiece."""


@dataclass(frozen=True)
class Vocabularies:
    """The tokenizers of several models; without any, every text has the length of every other."""

    tokenizers: tuple[Tokenizer, ...] = ()

    @classmethod
    def load(cls, folders: Iterable[Path]) -> Vocabularies:
        """The tokenizers in folders of models.

        Raises:
            RefusedError: If a folder has no fast tokenizer.
        """
        return cls(tuple(_tokenizer(folder / FILE) for folder in folders))

    def words(self) -> list[str]:
        """Lower-case words of three or more letters that are one token after a space in all vocabularies, sorted."""
        if not self.tokenizers:
            return []
        smallest = min(self.tokenizers, key=lambda tokenizer: tokenizer.get_vocab_size())
        words = sorted({word for token in smallest.get_vocab() if WORD.fullmatch(word := token.lstrip(MARKS))})
        for tokenizer in self.tokenizers:
            codes = tokenizer.encode_batch([f" {word}" for word in words], add_special_tokens=False)
            # An unknown word is one token too, which is decoded to another text.
            words = [
                word
                for word, code in zip(words, codes, strict=True)
                if len(code.ids) == 1 and tokenizer.decode(code.ids).strip() == word
            ]
        return words

    def equal(self, values: Sequence[str], placeholder: str) -> list[str]:
        """Those of `values` that have, after a space, as many tokens as the placeholder in all vocabularies."""
        for tokenizer in self.tokenizers:
            length = len(tokenizer.encode(placeholder, add_special_tokens=False).ids)
            codes = tokenizer.encode_batch([f" {value}" for value in values], add_special_tokens=False)
            values = [value for value, code in zip(values, codes, strict=True) if len(code.ids) == length]
        return list(values)


def _tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise RefusedError(
            f"A folder of --tokenizers must hold {FILE}",
            str(path.parent),
            "Name folders of models with fast tokenizers",
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
