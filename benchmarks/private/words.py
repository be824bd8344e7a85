"""Single Chinese words and their English translations, which a Sharer that was trained on Chinese knows.

No word of the test, and no translation of one, occurs in a training or validation example.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from benchmarks.private.splits import Row, Sizes, cut, with_options
from c2c.testbed.tasks.bank import OPTIONS

LIST = Path(__file__).parent / "words.tsv"
QUESTION = "The English word for {chinese} is what?"


class Word(NamedTuple):
    """A Chinese word, its part of speech, and one English translation."""

    chinese: str
    kind: str
    english: str


def read_words(path: Path = LIST) -> list[Word]:
    """The words of the list, in its order."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [Word(*line.split("\t")) for line in lines]


def build_splits(sizes: Sizes, seed: int) -> dict[str, list[Row]]:
    """Questions of the splits ``test``, ``validation`` and ``train``; ``subset`` is the part of speech.

    Wrong options are translations of other words of the same split, and of the same part of speech if it has four.

    Raises:
        RefusedError: If the sizes ask for more words than the list has.
    """
    chance = random.Random(f"words {seed}")
    entries = read_words()
    parts = cut(chance.sample(entries, len(entries)), sizes, "words in words.tsv")
    return {split: [_question(word, part, chance) for word in part] for split, part in parts.items()}


def _question(word: Word, part: list[Word], chance: random.Random) -> Row:
    row = {
        "id": word.chinese,
        "subset": word.kind,
        "question": QUESTION.format(chinese=word.chinese),
        "value": word.english,
    }
    # Words of the same part of speech, if there are enough of them.
    translations = [item.english for item in part if item.kind == word.kind]
    if len(translations) < OPTIONS:
        translations = [item.english for item in part]
    return with_options(row, word.english, translations, chance)
