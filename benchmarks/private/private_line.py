"""The private line: a fact about an invented person, which the Sharer alone reads before the question.

Persons and values are split before any fact is drawn: no person and no value of the test occurs in a training
or validation example, so that a Fuser can learn to transfer a value, but not which one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.private.splits import Row, Sizes, with_options
from c2c.errors import RefusedError

BANK = Path(__file__).parent / "values.tsv"
FACT = "{person}'s {attribute} is {value}."
QUESTION = "{person}'s {attribute} is what?"

CONSONANTS, VOWELS = ("b", "br", "d", "dr", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "tr", "v"), "aeiou"
ENDINGS = {"first": ("", "n", "l", "ra", "s"), "last": ("ck", "ld", "lane", "mer", "nd", "rne", "sk", "th", "vin", "x")}
SHARES = {"test": 3, "unseen": 1, "train": 6}
"""Tenths of each attribute's values: those of the test, of a validation without training values, of training."""


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


def build_splits(sizes: Sizes, seed: int) -> dict[str, list[Row]]:
    """Questions of the splits ``test``, ``train``, ``validation`` (values of training) and ``unseen`` (other values).

    Each has ``id``, ``subset`` (its attribute), ``question``, ``private``, ``options``, ``answer``, ``value``,
    ``person`` and ``attribute``.
    """
    values = split_values(bank(), seed)
    counts = {
        "test": sizes["test"],
        "train": sizes["train"],
        "validation": sizes["validation"],
        "unseen": sizes["validation"],
    }
    people = names(sum(counts.values()), seed)
    splits = {}
    for split, count in counts.items():
        chance = random.Random(f"facts {split} {seed}")
        candidates = values["train" if split == "validation" else split]
        splits[split] = [_fact(next(people), candidates, chance) for _ in range(count)]
    return splits


def _fact(person: str, values: Mapping[str, Sequence[str]], chance: random.Random) -> Row:
    pairs = [(attribute, value) for attribute, candidates in values.items() for value in candidates]
    attribute, value = chance.choice(pairs)
    parts: dict[str, Any] = {"person": person, "attribute": attribute, "value": value}
    row = {
        "id": f"{person}.{attribute}".lower().replace(" ", "_"),
        "subset": attribute,
        "question": QUESTION.format(**parts),
        "private": FACT.format(**parts),
    }
    return with_options(row | parts, value, values[attribute], chance)
