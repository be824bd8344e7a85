"""Two-digit arithmetic, the warning example: the Sharer can do it and the Receiver cannot, and yet a fuser learns it.

Its training set shows the operation itself, so what a fuser gains here may be adaptation alone; the recipe `adapter`
says how much. No pair of operands of the test, in either order, stands in a training or validation example.
"""

from __future__ import annotations

import random
from itertools import zip_longest

from benchmarks.private.splits import Row, Sizes, cut, with_options

QUESTION = "{left} {sign} {right} is what?"
SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
TENS, UNITS = range(10, 100), range(2, 10)
SPREAD = 10
"""Wrong options lie at most so far from the right one."""


def operands(operation: str) -> list[tuple[int, int]]:
    """All pairs of an operation: two numbers of two digits, or one times a number of one digit.

    The greater one is the first, so that no pair stands there in both orders and no difference is negative.
    """
    if operation == "multiply":
        return [(left, right) for left in TENS for right in UNITS]
    return [(left, right) for left in TENS for right in TENS if left >= right]


def result(operation: str, left: int, right: int) -> int:
    """What is right."""
    return {"add": left + right, "subtract": left - right, "multiply": left * right}[operation]


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


def _question(operation: str, left: int, right: int, chance: random.Random) -> Row:
    first, second = (left, right) if operation == "subtract" or chance.random() < 0.5 else (right, left)
    value = result(operation, left, right)
    near = [str(other) for other in range(max(value - SPREAD, 0), value + SPREAD + 1)]
    row = {
        "id": f"{operation}_{first}_{second}",
        "subset": operation,
        "question": QUESTION.format(left=first, sign=SIGNS[operation], right=second),
        "value": str(value),
    }
    return with_options(row, str(value), near, chance)
