"""Records as answer frames: who answered which question rightly, by pair, benchmark, arm and token alignment.

An *arm* is a method together with the recipe of its fuser: `c2c`, `c2c_deranged`, `adapter`, `project`, ...
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from c2c.evaluation.schema import read_records
from c2c.evaluation.scoring import check_records, failed, mark
from c2c.stats import NO_SEED, Estimate, comparable, mean_with_interval, paired_difference
from paper import names

MAIN_ALIGNMENT = "span"
"""The token alignment of every table and claim that names no other."""
BASELINE = ""
"""The recipe and the alignment of a method without a fuser."""
IDENTICAL = "identical"
"""The recipe whose Sharer is the Receiver itself."""
MAIN_ARMS = ("receiver", "sharer", "routing", "t2t", "c2c", "c2c_deranged", "c2c_zeroed", "adapter")


class Pair(NamedTuple):
    """Id of a pair and of its two models."""

    name: str
    receiver: str
    sharer: str


def arm_name(recipe: str, method: str) -> str:
    """The arm of a record: a recipe other than `c2c` lends its name to the method."""
    if recipe in (BASELINE, "c2c"):
        return method
    return recipe if method == "c2c" else f"{recipe}_{method.removeprefix('c2c_')}"


def difference(left: pd.DataFrame | None, right: pd.DataFrame | None) -> Estimate | None:
    """Mean paired difference left - right, or None where the two cannot be compared."""
    if left is None or right is None or not comparable(left, right):
        return None
    return mean_with_interval(paired_difference(left, right))


class Answers:
    """Checked and marked records of one scale."""

    def __init__(self, records: pd.DataFrame) -> None:
        """Check and mark `records`.

        Raises:
            RefusedError: The records are refused by `check_records`.
        """
        check_records(records)
        arms = [arm_name(*key) for key in zip(records["recipe"], records["method"], strict=True)]
        self.marked = records.assign(arm=arms, correct=mark(records).astype(int), failed=failed(records))
        self.marked["seed"] = self.marked["seed"].fillna(NO_SEED).astype(int)
        keys = ["pair", "benchmark", "arm", "alignment"]
        self._groups = {key: group for key, group in self.marked.groupby(keys)}
        # The Sharer of the recipe identical is the Receiver; a pair is named by the two that it consists of.
        found = self.marked.sort_values("recipe", key=lambda column: column != IDENTICAL, kind="stable")
        rows = found[["pair", "receiver", "sharer"]].drop_duplicates().itertuples(index=False)
        pairs = {row.pair: Pair(*row) for row in rows}
        self.pairs = [pairs[name] for name in names.in_order("pairs", pairs)]
        self.benchmarks = names.in_order("benchmarks", self.marked["benchmark"])
        self.arms = names.in_order("arms", self.marked["arm"])
        self.scale = ", ".join(sorted(self.marked["scale"].unique()))

    @classmethod
    def read(cls, paths: list[Path]) -> Answers:
        """Answers from parquet files of records."""
        return cls(read_records(paths))

    def get(self, pair: str, benchmark: str, arm: str, alignment: str = MAIN_ALIGNMENT) -> pd.DataFrame | None:
        """Zeros and ones, questions as rows in sorted order, seeds as columns; None where the arm was never run."""
        group = self._group(pair, benchmark, arm, alignment)
        if group is None:
            return None
        return group.pivot(index="question_id", columns="seed", values="correct").sort_index()

    def failures(self, pair: str, benchmark: str, arm: str, alignment: str = MAIN_ALIGNMENT) -> int:
        """How many answers of the arm failed."""
        group = self._group(pair, benchmark, arm, alignment)
        return 0 if group is None else int(group["failed"].sum())

    def alignments(self, pair: str) -> list[str]:
        """Token alignments of the pair's fusers, the main one first."""
        found = set(self.marked.loc[self.marked["pair"] == pair, "alignment"]) - {BASELINE}
        return sorted(found, key=lambda name: (name != MAIN_ALIGNMENT, name))

    def chance(self, benchmark: str) -> float:
        """Accuracy of a guess among the options, or, for a free answer, among the gold answers of the subset."""
        rows = self.marked[self.marked["benchmark"] == benchmark].drop_duplicates("question_id")
        different = rows.groupby(rows["subset"].fillna(""))["gold"].transform("nunique")
        options = [
            n if choices is None else len(choices) for n, choices in zip(different, rows["choices"], strict=True)
        ]
        return float((1 / pd.Series(options)).mean())

    def _group(self, pair: str, benchmark: str, arm: str, alignment: str) -> pd.DataFrame | None:
        found = self._groups.get((pair, benchmark, arm, alignment))
        return self._groups.get((pair, benchmark, arm, BASELINE)) if found is None else found
