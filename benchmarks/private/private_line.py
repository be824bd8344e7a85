"""The private line: a fact about an invented person, which the Sharer alone reads before the question.

Persons and values are split before any fact is drawn: no person and no value of the test occurs in a training
or validation example, so that a Fuser can learn to transfer a value, but not which one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.private.splits import Row, Sizes, with_options
from c2c.testbed.tasks.bank import bank, names, split_values

FACT = "{person}'s {attribute} is {value}."
QUESTION = "{person}'s {attribute} is what?"


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
