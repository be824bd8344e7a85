"""Two-digit arithmetic, a benchmark that shows a pitfall: only the Sharer can calculate, but a Fuser can learn it.

Its training set shows the operation itself, so that a gain may be adaptation alone; the recipe `adapter` measures how
much of it is. No pair of operands of the test, in either order, occurs in a training or validation example.
"""

from __future__ import annotations

import random
from itertools import zip_longest

from benchmarks.private.splits import Row, Sizes, cut, with_options

QUESTION = "{first} {sign} {second} is what?"
SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
TENS, UNITS = range(10, 100), range(2, 10)
SPREAD = 10
"""Greatest distance of a wrong option from the right one."""


def operands(operation: str) -> list[tuple[int, int]]:
    """All pairs of an operation: two numbers of two digits, or one times a number of one digit.

    The greater one is the first, so that no pair occurs in both orders and no difference is negative.
    """
    if operation == "multiply":
        return [(a, b) for a in TENS for b in UNITS]
    return [(a, b) for a in TENS for b in TENS if a >= b]


def result(operation: str, a: int, b: int) -> int:
    """The value of ``a + b``, ``a - b`` or ``a * b``."""
    return {"add": a + b, "subtract": a - b, "multiply": a * b}[operation]


def build_splits(sizes: Sizes, seed: int) -> dict[str, list[Row]]:
    """Questions of the splits ``test``, ``validation`` and ``train``, the operations in turn; ``subset`` names it.

    Raises:
        RefusedError: If the sizes ask for more pairs of operands than there are.
    """
    chance = random.Random(f"operands {seed}")
    shuffled = []
    for operation in SIGNS:
        pairs = operands(operation)
        shuffled.append([(operation, *pair) for pair in chance.sample(pairs, len(pairs))])
    in_turn = [item for group in zip_longest(*shuffled) for item in group if item is not None]
    return {
        split: [_question(*item, chance) for item in part]
        for split, part in cut(in_turn, sizes, "pairs of operands").items()
    }


def _question(operation: str, a: int, b: int, chance: random.Random) -> Row:
    first, second = (a, b) if operation == "subtract" or chance.random() < 0.5 else (b, a)
    value = result(operation, a, b)
    neighbours = [str(number) for number in range(max(value - SPREAD, 0), value + SPREAD + 1)]
    row = {
        "id": f"{operation}_{first}_{second}",
        "subset": operation,
        "question": QUESTION.format(first=first, sign=SIGNS[operation], second=second),
        "value": str(value),
    }
    return with_options(row, str(value), neighbours, chance)
