"""The control of deranged messages: the Sharer reads another question (method `c2c_deranged`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from c2c.alignment.tokens import AlignedPrompt, match_length
from c2c.errors import RefusedError


def derange(lengths: Sequence[int], golds: Sequence[str], seed: int) -> list[int]:
    """Give each question another one of the same benchmark, as near in length as can be.

    The assignment is a permutation without a fixed point in which no question gets one with its own gold answer; of
    all such it has the smallest sum of length differences, ties broken at random.

    Args:
        lengths: Prompt length of each question in tokens.
        golds: Gold answer of each question.
        seed: Breaks ties.

    Returns:
        For each question the index of the one that the Sharer reads.

    Raises:
        RefusedError: If there is no such permutation, because one gold answer is that of more than half the questions.
    """
    count = len(lengths)
    sizes = np.asarray(lengths, dtype=np.float64)
    _, answers = np.unique(np.asarray(golds, dtype=object).astype(str), return_inverse=True)
    forbidden = answers[:, None] == answers[None, :]  # covers each question itself
    cost = np.abs(sizes[:, None] - sizes[None, :])
    cost += np.random.default_rng(seed).uniform(0, 0.5 / max(count, 1), cost.shape)
    cost[forbidden] = (cost.max(initial=0.0) + 1) * (count + 1)
    rows, columns = linear_sum_assignment(cost)
    if bool(forbidden[rows, columns].any()):
        raise RefusedError(
            "A derangement must have another gold answer for each question",
            f"{count} questions, the most frequent gold answer {int(np.bincount(answers).max(initial=0))} times",
            "Take more questions, so that no gold answer is that of more than half of them",
        )
    return [int(column) for column in columns]


def with_reading_of(own: AlignedPrompt, other: AlignedPrompt) -> AlignedPrompt:
    """A prompt for which the Sharer reads another one's text.

    Exactly the tokens that are fused of `own` are fused; they take the cache of the other's, cut at the left or
    repeated at the left.
    """
    places = iter(match_length([at for at in other.token_map if at >= 0], sum(at >= 0 for at in own.token_map)))
    token_map = [next(places) if at >= 0 else at for at in own.token_map]
    return replace(own, sharer_ids=other.sharer_ids, token_map=token_map)
