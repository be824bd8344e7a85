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
    # 1. The cost of giving question i the text of question j: (Q, Q)
    count = len(lengths)
    sizes = np.asarray(lengths, dtype=np.float64)
    _, answers = np.unique(np.asarray(golds, dtype=object).astype(str), return_inverse=True)
    forbidden = answers[:, None] == answers[None, :]  # covers each question itself
    cost = np.abs(sizes[:, None] - sizes[None, :])
    # Lengths are whole numbers: noise below 0.5 in all breaks ties and never outweighs a token.
    cost += np.random.default_rng(seed).uniform(0, 0.5 / max(count, 1), cost.shape)
    # Dearer than all allowed pairs together, so that one is taken only where nothing else is left. Infinity would
    # make scipy refuse the matrix with a message of its own.
    cost[forbidden] = (cost.max(initial=0.0) + 1) * (count + 1)
    # 2. The cheapest permutation (the Hungarian method)
    rows, columns = linear_sum_assignment(cost)
    if bool(forbidden[rows, columns].any()):
        raise RefusedError(
            "A derangement must have another gold answer for each question",
            f"{count} questions, the most frequent gold answer {int(np.bincount(answers).max(initial=0))} times",
            "Take more questions, so that no gold answer is that of more than half of them",
        )
    return [int(column) for column in columns]


def with_reading_of(prompt: AlignedPrompt, donor: AlignedPrompt) -> AlignedPrompt:
    """`prompt`, for which the Sharer reads the text of `donor`.

    The tokens of `prompt` that are fused stay the same; they take the cache at the fused tokens of `donor`, cut at the
    left or repeated at the left.

    Raises:
        RefusedError: If `donor` has no fused token and `prompt` has one.
    """
    # Aligned at the right, where the question and the opening of the answer are.
    places = iter(match_length([at for at in donor.token_map if at >= 0], sum(at >= 0 for at in prompt.token_map)))
    token_map = [next(places) if at >= 0 else at for at in prompt.token_map]
    return replace(prompt, sharer_ids=donor.sharer_ids, token_map=token_map)
