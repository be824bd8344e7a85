"""Batches of questions: sorted by length, and no larger than a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from c2c.errors import RefusedError
from c2c.models.memory_meter import is_out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")
TOKEN_BUDGET = 4096
"""Tokens of a batch where no other number is given."""


def check_budget(token_budget: int) -> int:
    """Return the budget if it is one.

    Raises:
        RefusedError: If it is below 1.
    """
    if token_budget < 1:
        raise RefusedError("A token budget must be at least 1", token_budget, "Give a batch some 4096 tokens")
    return token_budget


def batches_of(
    items: Sequence[Item], lengths: Sequence[int], token_budget: int, rows: Sequence[int] | None = None
) -> list[list[Item]]:
    """Batches, the longest items first, in which rows times the longest row stay within the budget.

    An item beyond the budget is a batch of its own. Batches depend on nothing but the arguments, and those that remain
    of a longer list of batches are the same.

    Args:
        items: Questions, or other things to be batched.
        lengths: Tokens of each item.
        token_budget: Tokens of a batch, pads included.
        rows: Rows that each item takes; one if None.
    """
    check_budget(token_budget)
    item_rows = [1] * len(items) if rows is None else rows
    batches: list[list[Item]] = []
    width = filled = 0
    # The longest first: the first item of a batch is its width, and memory runs out at once, if at all.
    for place in sorted(range(len(items)), key=lambda place: (-lengths[place], place)):
        if batches and (filled + item_rows[place]) * width <= token_budget:
            batches[-1].append(items[place])
            filled += item_rows[place]
        else:
            batches.append([items[place]])
            width, filled = lengths[place], item_rows[place]
    return batches


def in_parts(run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result]:
    """Results of all items together or, where memory runs out, of each half on its own, and so on.

    Args:
        run: Gives one result an item.
        items: At least one.

    Raises:
        Exception: Whatever `run` raises, for want of memory too where it was given one item.
    """
    try:
        return run(items)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if len(items) == 1 or not is_out_of_memory(error):
            raise
    # After the handler: until then the error keeps the tensors of the run.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(items) // 2
    return [*in_parts(run, items[:half]), *in_parts(run, items[half:])]
