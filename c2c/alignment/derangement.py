"""Controls in which the Sharer reads another question: `c2c_deranged` and `c2c_same_answer`. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from c2c.errors import RefusedError

TOLERANCE = 0.05
"""Share of a question's length up to which another question counts as equally near; at least one token."""


def derange(lengths: Sequence[int], golds: Sequence[str], seed: int) -> list[int]:
    """Give each question another one of the same benchmark, of about its length and with another gold answer.

    The result is a permutation without a fixed point; `nearest_permutation` says how near the lengths are.

    Args:
        lengths: Prompt length of each question in tokens.
        golds: Gold answer of each question.
        seed: Of the draw among near questions: that of the Fusers' training, so that the intervals over trainings
            contain the derangement's part of the variance.

    Returns:
        For each question the index of the one that the Sharer reads.

    Raises:
        RefusedError: If one gold answer is that of more than half the questions.
    """
    check_golds("deranged", golds)
    answers = _numbered(golds)
    return nearest_permutation(lengths, answers[:, None] != answers[None, :], seed)


def exchange_within_answers(lengths: Sequence[int], golds: Sequence[str], seed: int) -> list[int]:
    """Give each question another one of the same benchmark, of about its length and with the same gold answer.

    Args:
        lengths: As in `derange`.
        golds: As in `derange`.
        seed: As in `derange`.

    Returns:
        As `derange`: a permutation without a fixed point.

    Raises:
        RefusedError: If a gold answer is that of one question only.
    """
    check_golds("same_answer", golds)
    answers = _numbered(golds)
    allowed = answers[:, None] == answers[None, :]
    np.fill_diagonal(allowed, False)
    return nearest_permutation(lengths, allowed, seed)


OTHER_QUESTION = {"deranged": derange, "same_answer": exchange_within_answers}
"""How the Sharer's question is chosen in each control that reads another one."""


def check_golds(sharer_cache: str, golds: Sequence[str], benchmark: str = "") -> None:
    """Refuse gold answers among which a control finds no other question for one of them; needs no model.

    Args:
        sharer_cache: A key of `OTHER_QUESTION`; any other value reads no other question and is accepted.
        golds: Gold answer of each question of a benchmark.
        benchmark: Its id, for the message.

    Raises:
        RefusedError: If one gold answer is that of more than half the questions (``deranged``), or of one question only
            (``same_answer``).
    """
    counts, where = Counter(golds), f" of {benchmark}" if benchmark else ""
    if sharer_cache == "deranged" and 2 * (most := max(counts.values(), default=0)) > len(golds):
        raise RefusedError(
            f"A derangement{where} must have another gold answer for each question",
            f"{len(golds)} questions, the most frequent gold answer {most} times",
            "Take more questions, so that no gold answer is that of more than half of them",
        )
    if sharer_cache == "same_answer" and (alone := [gold for gold, count in counts.items() if count == 1]):
        raise RefusedError(
            f"For c2c_same_answer each gold answer{where} must be that of two questions or more",
            f"{len(alone)} of {len(counts)} gold answers with one question, such as {alone[0]!r}",
            "Ask this method on benchmarks with few gold answers, such as letters, or take more questions",
        )


def nearest_permutation(lengths: Sequence[int], allowed: NDArray[np.bool_], seed: int) -> list[int]:
    """Draw a permutation of questions within the allowed pairs in which partners have about the same length.

    Each pair costs its difference of lengths in tokens, plus a random number between 0 and `TOLERANCE` of the first
    question's length (at least one token); the cheapest permutation is taken. So each seed draws another one, and the
    mean difference of lengths exceeds the smallest possible mean by the mean of these tolerances at most.

    Args:
        lengths: Prompt length of each question in tokens.
        allowed: Which question may get which, ``(Q, Q)``; must have a permutation within it.
        seed: Of the random numbers.

    Returns:
        For each question the index of its partner.
    """
    # 1. The cost of giving question i the text of question j: (Q, Q)
    # Dry runs import this module for its constants.
    from scipy.optimize import linear_sum_assignment

    sizes = np.asarray(lengths, dtype=np.float64)
    cost = np.abs(sizes[:, None] - sizes[None, :])
    tolerances = np.maximum(TOLERANCE * sizes, 1.0)
    cost += np.random.default_rng(seed).uniform(0, 1, cost.shape) * tolerances[:, None]
    # Dearer than all allowed pairs together. Infinity would make scipy refuse the matrix with a message of its own.
    cost[~allowed] = (cost.max(initial=0.0) + 1) * (len(sizes) + 1)
    # 2. The cheapest permutation (the Hungarian method)
    _, columns = linear_sum_assignment(cost)
    return [int(column) for column in columns]


def _numbered(golds: Sequence[str]) -> NDArray[np.int64]:
    """A number for each gold answer, the same for equal ones: (Q,)."""
    return np.unique(np.asarray(golds, dtype=object).astype(str), return_inverse=True)[1]
