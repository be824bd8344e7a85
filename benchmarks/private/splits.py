"""Functions of all three benchmarks: sizes, splits, and four options of which one is right."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from c2c.errors import RefusedError
from c2c.testbed.tasks.bank import OPTIONS
from c2c.types import LETTERS

Row = dict[str, Any]
Sizes = Mapping[str, int]
"""Rows of the splits ``test``, ``train`` and ``validation``."""


def with_options(row: Row, right: str, values: Sequence[str], chance: random.Random) -> Row:
    """Add ``options``, the right one and three of `values`, and ``answer``, its letter."""
    wrong = [value for value in dict.fromkeys(values) if value != right]
    options = [right, *chance.sample(wrong, OPTIONS - 1)]
    chance.shuffle(options)
    return row | {"options": options, "answer": LETTERS[options.index(right)]}


def cut(items: Sequence[Any], sizes: Sizes, what: str) -> dict[str, list[Any]]:
    """The splits ``test``, ``validation`` and ``train``, one after the other, so that they share no item.

    A training split may be smaller than its size in `sizes`: it gets the remaining items.

    Raises:
        RefusedError: If nothing is left to train on.
    """
    held_out = sizes["test"] + sizes["validation"]
    if len(items) <= held_out:
        raise RefusedError(f"Some {what} must be left for training", f"{held_out} of {len(items)}", "Lower test in gap")
    bounds = {"test": (0, sizes["test"]), "validation": (sizes["test"], held_out)}
    bounds["train"] = (held_out, held_out + sizes["train"])
    return {split: list(items[start:end]) for split, (start, end) in bounds.items()}
