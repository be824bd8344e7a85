"""Invented persons and a bank of values by attribute, of which no split has those of another."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from c2c.errors import RefusedError

BANK = Path(__file__).parent / "values.tsv"
CONSONANTS, VOWELS = ("b", "br", "d", "dr", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "tr", "v"), "aeiou"
ENDINGS = {"first": ("", "n", "l", "ra", "s"), "last": ("ck", "ld", "lane", "mer", "nd", "rne", "sk", "th", "vin", "x")}
SHARES = {"test": 3, "unseen": 1, "train": 6}
"""Tenths of each attribute's values: those of the test, of a validation without training values, of training."""
OPTIONS = 4
MOST_ROWS = 30_000
"""About 70,000 family names exist, and a second validation set may need as many as the splits."""


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Refuse a split without rows, and more rows than there are names for.

    Args:
        sizes: Rows of the splits ``test``, ``train`` and ``validation``.

    Raises:
        RefusedError: If so.
    """
    if any(count < 1 for count in sizes.values()) or sum(sizes.values()) > MOST_ROWS:
        rule = f"test, train and validation must have a row or more each, and at most {MOST_ROWS} together"
        raise RefusedError(rule, dict(sizes), "Correct the sizes of the splits")


def bank(path: Path = BANK) -> dict[str, list[str]]:
    """Values by attribute; no value belongs to two attributes."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {attribute: values.split() for attribute, values in (line.split("\t") for line in lines)}


def split_values(values: Mapping[str, Sequence[str]], seed: int) -> dict[str, dict[str, list[str]]]:
    """Values by split and attribute; each split has at least four of each attribute.

    Raises:
        RefusedError: If an attribute has too few values.
    """
    chance = random.Random(f"values {seed}")
    parts: dict[str, dict[str, list[str]]] = {split: {} for split in SHARES}
    for attribute, words in values.items():
        shuffled = chance.sample(words, len(words))
        least = {split: max(4, len(words) * share // 10) for split, share in SHARES.items() if split != "train"}
        if len(words) < sum(least.values()) + 4:
            raise RefusedError(
                "An attribute must have values for test, validation and training",
                f"{attribute}: {len(words)}",
                "Add some",
            )
        start = 0
        for split, count in least.items():
            parts[split][attribute] = shuffled[start : start + count]
            start += count
        parts["train"][attribute] = shuffled[start:]
    return parts


def names(count: int, seed: int) -> Iterator[str]:
    """This number of persons with different family names, none of which contains a value."""
    chance = random.Random(f"names {seed}")
    reserved = {value.lower() for values in bank().values() for value in values}
    while count:
        first, last = _name(chance, "first"), _name(chance, "last")
        if reserved.isdisjoint({first.lower(), last.lower()}):
            reserved.add(last.lower())
            count -= 1
            yield f"{first} {last}"


def _name(chance: random.Random, part: str) -> str:
    stem = "".join(chance.choice(CONSONANTS) + chance.choice(VOWELS) for _ in range(2))
    return (stem + chance.choice(ENDINGS[part])).capitalize()
