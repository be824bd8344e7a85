"""Which questions C2C, Receiver and Sharer answer rightly: the seven regions of three sets (paper Figure 7).

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pandas as pd

from c2c.errors import RefusedError
from c2c.stats import NO_SEED, is_graded


def regions(answers: Mapping[str, pd.DataFrame]) -> dict[tuple[str, ...], pd.DataFrame]:
    """Which questions each combination of methods answers rightly, and no other method.

    Args:
        answers: By method, 0 or 1 with questions as rows `(Q, S)`. A method without seeds stands beside every seed of
            the others, and of several with seeds those count that all have.

    Returns:
        By the methods that are right, in the order of `answers`: 1 for the questions in the region, else 0, `(Q, S)`.
        The empty combination is what nobody answers rightly. In each cell exactly one region has a 1.

    Raises:
        RefusedError: The questions differ, no seed is in common, or an answer got a part of a point.
    """
    frames = list(answers.values())
    index = frames[0].index
    if any(set(frame.index) != set(index) for frame in frames):
        raise RefusedError(
            "The methods of a Venn diagram must have answered the same questions",
            list(answers),
            "Generate the missing answers first",
        )
    if is_graded(*frames):
        raise RefusedError(
            "The answers in a Venn diagram must be right or wrong", "parts of a point", "Look at the gains instead"
        )
    seeded = [{int(seed) for seed in frame.columns} for frame in frames if list(frame.columns) != [NO_SEED]]
    seeds: list[int] = sorted(set.intersection(*seeded)) if seeded else [NO_SEED]
    if not seeds:
        raise RefusedError(
            "The methods of a Venn diagram must share training seeds", list(answers), "Train both with the same seeds"
        )
    right = {name: _on_seeds(frame.loc[index], seeds) for name, frame in answers.items()}
    found = {}
    for chosen in product((True, False), repeat=len(right)):
        inside = pd.DataFrame(1, index=index, columns=seeds)
        for wanted, frame in zip(chosen, right.values(), strict=True):
            inside *= frame if wanted else 1 - frame
        found[tuple(name for name, wanted in zip(right, chosen, strict=True) if wanted)] = inside
    return found


def _on_seeds(frame: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """`frame` with the columns `seeds`; its only column in the place of each where it has no seeds."""
    if list(frame.columns) == [NO_SEED]:
        return pd.concat([frame[NO_SEED]] * len(seeds), axis=1, keys=seeds).astype(int)
    return frame[seeds].astype(int)
