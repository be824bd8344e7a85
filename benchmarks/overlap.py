"""Which training examples ask what a benchmark asks: equal texts, letter case, blanks and punctuation folded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from benchmarks.readers.base import Row
from c2c.storage.formats import read_json_lines

SIGNS = "+*/=<>^%×÷"
"""Punctuation that tells one question from another: 2 + 3 is not 2 * 3."""

_FOLDED = re.compile(rf"\w+|[{re.escape(SIGNS)}]|[-−](?=\s?\d)")


def fold(text: str) -> str:
    """The words and mathematical signs of a text, in small letters, one blank between them."""
    return " ".join(_FOLDED.findall(unicodedata.normalize("NFKC", text).casefold()))


def asked_in(files: Iterable[Path]) -> set[str]:
    """Folded questions of prepared benchmarks; those without a text of their own (key ``question``) have none."""
    texts: set[str] = set()
    for path in files:
        for _, row in read_json_lines(path, "Prepare it again"):
            texts.add(fold(str(row.get("question") or "")))
    return texts - {""}


def texts_of(row: Row) -> set[str]:
    """What a question or a conversation asks, folded: the question, or each user's turn and each line of it."""
    if "messages" not in row:
        return {fold(row["question"])} - {""}
    turns = [message["content"] for message in row["messages"] if message["role"] == "user"]
    return {fold(part) for turn in turns for part in (turn, *turn.split("\n"))} - {""}
