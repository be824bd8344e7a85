"""Options and their scores as arrays: questions with equally many options at a time, not one question at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class OptionBlock:
    """Questions with one number of options, N questions of K options.

    Attributes:
        rows: (N,) int, their places among the records.
        texts: (N, K) object, the options.
        scores: (N, K) float64, the sum of the log-probabilities of each option's tokens, in nats.
        gold: (N,) object, the gold answers.
    """

    rows: np.ndarray
    texts: np.ndarray
    scores: np.ndarray
    gold: np.ndarray

    @property
    def is_gold(self) -> np.ndarray:
        """(N, K) bool: whether an option reads like the gold answer."""
        return self.texts == self.gold[:, None]


def lengths(texts: np.ndarray) -> np.ndarray:
    """Characters of each text, as float64 in the shape of `texts`."""
    return np.frompyfunc(len, 1, 1)(texts).astype(float)


def option_blocks(records: pd.DataFrame) -> Iterator[OptionBlock]:
    """Records as blocks; each must have as many `choice_scores` as `choices`, and at least one."""
    texts, scores, gold = (records[name].to_numpy(object) for name in ("choices", "choice_scores", "gold"))
    counts = option_counts(records)
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        # N lists of K -> (N, K)
        block = np.fromiter(chain.from_iterable(texts[rows]), object, len(rows) * count).reshape(-1, count)
        numbers = np.fromiter(chain.from_iterable(scores[rows]), float, len(rows) * count).reshape(-1, count)
        yield OptionBlock(rows, block, numbers, gold[rows])


def option_counts(records: pd.DataFrame, column: str = "choices") -> np.ndarray:
    """(len(records),) int: entries of a list column in each record; 0 where there is no list."""
    return np.fromiter((0 if entry is None else len(entry) for entry in records[column]), int, len(records))
