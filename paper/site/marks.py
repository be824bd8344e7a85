"""Who answered which question correctly under which training, as the pages hold it: a row for each of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from c2c.stats import NO_SEED

ROW = ["seed", "question"]
RIGHT, WRONG, PART, FAILED, MISSING = "1", "0", "p", "f", "-"
"""The signs of a mark: right, wrong, a part of a point, a failed question (which is wrong), never asked."""
ALL_SEEDS = "all"


class MessageOutcome(NamedTuple):
    """What a message did to one answer."""

    id: str
    title: str
    meaning: str


OUTCOMES = (
    MessageOutcome(
        "right_message",
        "right only with the right message",
        "wrong without a message, right with its own, wrong with that of another question",
    ),
    MessageOutcome(
        "any_message", "right with any message", "wrong without a message, right with its own and with another's"
    ),
    MessageOutcome("harmed", "harmed", "right without a message, wrong with its own"),
    MessageOutcome(
        "wrong_message", "right only with a wrong message", "wrong without and with its own, right with another's"
    ),
    MessageOutcome("right_anyway", "right without a message too", "right without a message and with its own"),
    MessageOutcome(
        "wrong_anyway", "wrong with and without messages", "wrong without a message, with its own and another's"
    ),
)
"""Every answer has one of them; its number here is its sign in the data."""
_OUTCOME_OF = {
    # Right without a message, with its own, with another question's.
    (False, True, False): 0,
    (False, True, True): 1,
    (True, False, False): 2,
    (True, False, True): 2,
    (False, False, True): 3,
    (True, True, False): 4,
    (True, True, True): 4,
    (False, False, False): 5,
}


class Trio(NamedTuple):
    """Three arms whose answers to a question tell what a message did."""

    matched: str
    deranged: str
    alone: str


class Marks:
    """The marks of all arms of a cell.

    Attributes:
        rows: Seed and question of each row, seeds first; `NO_SEED` where nothing was trained.
        signs: A column of signs for each arm, on the rows.
    """

    def __init__(self, signs: pd.DataFrame) -> None:
        self.signs = signs.sort_index().fillna(MISSING)
        self.rows: list[tuple[int, str]] = list(self.signs.index)

    @classmethod
    def of_frames(cls, credits: Mapping[str, pd.DataFrame], failures: Mapping[str, pd.DataFrame]) -> Marks:
        """Marks of answers with common questions.

        Args:
            credits: Credits `(Q, S)` of each arm; an arm without a training is a row of every seed.
            failures: Whether each answer failed, in the same form.
        """
        seeds = sorted({int(seed) for frame in credits.values() for seed in frame if seed != NO_SEED}) or [NO_SEED]
        columns = {}
        for arm, frame in credits.items():
            signs = _signs(frame).mask(failures[arm].reindex_like(frame).fillna(False).astype(bool), FAILED)
            if list(frame.columns) == [NO_SEED]:
                signs = pd.DataFrame({seed: signs[NO_SEED] for seed in seeds})
            # (Q, S) -> (S * Q,)
            columns[arm] = signs.T.stack().rename_axis(ROW)
        return cls(pd.DataFrame(columns))

    @property
    def seeds(self) -> list[int]:
        """Training seeds of the rows."""
        return sorted({seed for seed, _ in self.rows})

    def text(self, arm: str) -> str:
        """The marks of an arm, a sign for each row."""
        return "".join(self.signs[arm])

    def counts(self, of: str, against: str) -> dict[str, list[int]]:
        """Questions of the 2×2 table of two arms: both right, the first alone, the second alone, neither.

        Returns:
            By seed, and under `ALL_SEEDS` their sum; of rows that both arms were asked. Empty where answers are graded.
        """
        pair = self.signs[[of, against]]
        pair = pair[(pair != MISSING).all(axis=1)]
        if (pair == PART).to_numpy().any():
            return {}
        first, second = (pair[arm].to_numpy() == RIGHT for arm in (of, against))
        cells = np.stack([first & second, first & ~second, ~first & second, ~first & ~second], axis=1)
        seeds = pair.index.get_level_values(0)
        by_seed = {str(seed): cells[seeds == seed].sum(axis=0).tolist() for seed in sorted(set(seeds))}
        return {ALL_SEEDS: cells.sum(axis=0).tolist(), **by_seed}

    def outcomes(self, trio: Trio) -> str:
        """The number of each row's outcome in `OUTCOMES`; `MISSING` where one of the three was not asked."""
        columns = [self.signs[arm].to_numpy() for arm in (trio.alone, trio.matched, trio.deranged)]
        return "".join(
            MISSING if MISSING in signs or PART in signs else str(_OUTCOME_OF[tuple(sign == RIGHT for sign in signs)])
            for signs in zip(*columns, strict=True)
        )

    def tally(self, trio: Trio) -> dict[str, dict[str, int]]:
        """How many rows have each outcome, by seed and under `ALL_SEEDS` in all."""
        outcomes = self.outcomes(trio)
        groups = {ALL_SEEDS: outcomes} | {
            str(seed): "".join(sign for sign, row in zip(outcomes, self.rows, strict=True) if row[0] == seed)
            for seed in self.seeds
        }
        return {
            seed: {outcome.id: signs.count(str(number)) for number, outcome in enumerate(OUTCOMES)}
            for seed, signs in groups.items()
        }


def trios(arms: Iterable[str], alone: str = "receiver") -> list[Trio]:
    """The arms with a message that were also asked with another question's message."""
    names = list(arms)
    return [
        Trio(arm, deranged, alone)
        for arm in names
        if alone in names and (deranged := deranged_arm(arm)) != arm and deranged in names
    ]


def deranged_arm(arm: str) -> str:
    """The id of the same arm with another question's message: ``c2c@longest`` becomes ``c2c_deranged@longest``."""
    name, mark, detail = arm.partition("@")
    return f"{name}_deranged{mark}{detail}"


def _signs(credits: pd.DataFrame) -> pd.DataFrame:
    signs = pd.DataFrame(PART, index=credits.index, columns=credits.columns)
    return signs.mask(credits == 1, RIGHT).mask(credits == 0, WRONG)
