"""Records as answer frames: who answered which question correctly, by pair, benchmark, arm and token alignment.

An *arm* is a method together with the recipe of its fuser: `c2c`, `c2c_deranged`, `adapter`, `project`, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from c2c.evaluation.protocol import CORRECTED, RELEASED_TASK
from c2c.evaluation.schema import TOGETHER, read_records
from c2c.evaluation.scoring import check_records, failed, gold_margin, mark
from c2c.stats import NO_SEED, Estimate, comparable, mean_with_interval, paired_difference
from paper.reading import names
from paper.reading.alignments import MAIN_ALIGNMENT, UNTRAINED, main_alignments

BASELINE = UNTRAINED
"""The recipe and the alignment of a method without a fuser."""
AT_STEP = "@"
"""Between a recipe and the step of the training at which its fuser was kept, before the last: ``c2c@50``.

So a fuser on its way is an arm of its own in every record and comparison, and records need no other column.
"""
IDENTICAL = "identical"
"""The recipe whose Sharer is the Receiver itself."""
SINGLE_METHOD = "receiver"
"""What a Receiver that was itself trained is asked as; its recipe names the arm."""
MAIN_ARMS = ("receiver", "sharer", "routing", "t2t", "c2c", "c2c_deranged", "c2c_zeroed", "adapter")
RECORD_COLUMNS = [
    *("scale", "pair", "receiver", "sharer", "alignment", "seed"),
    *("benchmark", "subset", "question_id", "gold", "tokens_in"),
]
"""Columns of records that answers keep."""


class PairIds(NamedTuple):
    """Id of a pair, or of a group of Sharers, and of its models."""

    name: str
    receiver: str
    sharer: str

    @property
    def is_group(self) -> bool:
        """Whether there are several Sharers, of which each has a pair of its own too."""
        return TOGETHER in self.sharer

    @property
    def sharers(self) -> list[str]:
        """The Sharers of a group, in the order in which they are fused."""
        return self.sharer.split(TOGETHER)


def arm_name(recipe: str, method: str) -> str:
    """The arm of a record: a recipe other than `c2c` lends its name to the method, and each its step if it has one."""
    recipe, mark, step = recipe.partition(AT_STEP)
    if recipe not in (BASELINE, "c2c"):
        method = recipe if method in ("c2c", SINGLE_METHOD) else f"{recipe}_{method.removeprefix('c2c_')}"
    return f"{method}{mark}{step}"


def _remark_on_split(records: pd.DataFrame) -> list[str]:
    """That C-Eval was asked on its validation split, where the protocol would have asked its test split."""
    is_ceval = records["benchmark"].map(names.benchmark_of) == "ceval"
    if not records.loc[is_ceval, "question_id"].astype(str).str.startswith("val-").any():
        return []
    return ["C-Eval is asked on its validation split: the keys of its test split are withheld in the public release."]


def difference(of: pd.DataFrame | None, against: pd.DataFrame | None) -> Estimate | None:
    """Mean paired difference of - against, or None where the two cannot be compared; exactly 0 of an arm and itself."""
    if of is None or against is None or not comparable(of, against):
        return None
    if of is against:
        return Estimate(0.0, 0.0, 0.0, len(of), of.shape[1])
    return mean_with_interval(paired_difference(of, against))


class Answers:
    """Checked and marked records of one scale.

    Attributes:
        all_pairs: Everything that was asked under an id of its own.
        groups: Those with several Sharers.
        pairs: Those with one Sharer that are rows of the tables of all pairs.
        benchmarks: What was asked.
        arms: What was run for `pairs`.
        main_alignments: The token alignment of each pair's fusers that tables and claims show where they name none.
        remarks: Notes that the records cannot contain, such as where weights came from.
    """

    def __init__(self, records: pd.DataFrame, protocol: str = CORRECTED, remarks: Sequence[str] = ()) -> None:
        """Check and mark `records`; with `protocol: paper` as the reference does.

        Comparisons are paired, so that a failed question counts as wrong here in either protocol.

        Args:
            records: Of one scale.
            protocol: By which answers are marked.
            remarks: What a reader of any number of these must know and the records do not hold.

        Raises:
            RefusedError: The records are refused by `check_records`.
        """
        check_records(records)
        self.remarks = [*remarks, *_remark_on_split(records)]
        arms = [arm_name(*key) for key in zip(records["recipe"], records["method"], strict=True)]
        options = [None if choices is None else len(choices) for choices in records["choices"]]
        self.marked = records[RECORD_COLUMNS].assign(
            arm=arms,
            options=options,
            correct=mark(records, protocol),
            failed=failed(records),
            margin=gold_margin(records),
        )
        self.marked["seed"] = self.marked["seed"].fillna(NO_SEED).astype(int)
        keys = ["pair", "benchmark", "arm", "alignment"]
        self.main_alignments = main_alignments(self.marked)
        self._groups = {key: group for key, group in self.marked.groupby(keys)}
        self._frames: dict[tuple[str, ...], pd.DataFrame] = {}
        # The Sharer of the recipe identical is the Receiver; a pair is named by the two that it consists of.
        is_identical = self.marked["arm"].str.startswith(IDENTICAL)
        models = pd.concat([self.marked[is_identical], self.marked[~is_identical]])[
            ["pair", "receiver", "sharer"]
        ].drop_duplicates()
        pairs = {row.pair: PairIds(*row) for row in models.itertuples(index=False)}
        self.all_pairs = [pairs[name] for name in names.in_order("pairs", pairs)]
        self.groups = [pair for pair in self.all_pairs if pair.is_group]
        self.pairs = [pair for pair in self.all_pairs if not (pair.is_group or names.has_own_tables(pair.name))]
        self.benchmarks = names.in_order("benchmarks", self.marked["benchmark"])
        main = self.marked["pair"].isin([pair.name for pair in self.pairs])
        self.arms = names.in_order("arms", {arm for arm in self.marked.loc[main, "arm"] if AT_STEP not in arm})
        self.scale = ", ".join(sorted(self.marked["scale"].unique()))

    @classmethod
    def load(cls, paths: list[Path], protocol: str = CORRECTED) -> Answers:
        """Answers from parquet files of records."""
        return cls(read_records(paths), protocol)

    def get(self, pair: str, benchmark: str, arm: str, alignment: str | None = None) -> pd.DataFrame | None:
        """Credits from 0 to 1, questions as rows in order, seeds as columns; None where the arm was never run.

        Without an `alignment` it is that of the pair's main one; a method without a fuser has none.
        """
        group = self._group(pair, benchmark, arm, alignment)
        if group is None:
            return None
        key = (pair, benchmark, arm, str(group["alignment"].iloc[0]))
        if key not in self._frames:
            self._frames[key] = group.pivot(index="question_id", columns="seed", values="correct").sort_index()
        return self._frames[key]

    def margins(self, pair: str, benchmark: str, arm: str, alignment: str | None = None) -> pd.DataFrame | None:
        """Nats by which the gold option is likelier than the others (`gold_margin`), as `get` gives credits.

        None where the arm was never run, or where the benchmark's options are not weighed.
        """
        group = self._group(pair, benchmark, arm, alignment)
        if group is None or group["margin"].isna().all():
            return None
        frame = group.pivot(index="question_id", columns="seed", values="margin").sort_index()
        return frame.dropna()

    def about(self, benchmark: str, column: str, pair: str | None = None) -> pd.Series:
        """`subset` or `tokens_in` of each question of a benchmark, as the Receiver alone reads it, by question id."""
        rows = self.marked[(self.marked["benchmark"] == benchmark) & (self.marked["arm"] == "receiver")]
        rows = rows if pair is None else rows[rows["pair"] == pair]
        return rows.drop_duplicates("question_id").set_index("question_id")[column].sort_index()

    def failures(self, pair: str, benchmark: str, arm: str, alignment: str | None = None) -> int:
        """How many answers of the arm failed."""
        group = self._group(pair, benchmark, arm, alignment)
        return 0 if group is None else int(group["failed"].sum())

    def arms_of(self, pair: str) -> set[str]:
        """Arms that were run for a pair."""
        return {key[2] for key in self._groups if key[0] == pair}

    def benchmarks_of(self, pair: str) -> list[str]:
        """Benchmarks that the pair was asked, in the order of `benchmarks`.

        What was asked with two sets of prompts is there with ours; `released_prompts_of` has the other.
        """
        tasks = self._tasks_of(pair)
        return [name for name in tasks if not names.has_released_prompts(name) or names.own_prompts(name) not in tasks]

    def released_prompts_of(self, pair: str) -> list[str]:
        """Benchmarks that the pair was asked both with our own prompts and with those of the released code."""
        tasks = self._tasks_of(pair)
        return [name for name in tasks if f"{name}{RELEASED_TASK}" in tasks]

    def _tasks_of(self, pair: str) -> list[str]:
        tasks = set(self.marked.loc[self.marked["pair"] == pair, "benchmark"])
        return [name for name in self.benchmarks if name in tasks]

    def alignments(self, pair: str) -> list[str]:
        """Token alignments of the pair's fusers, the main one first."""
        alignments = {key[3] for key in self._groups if key[0] == pair} - {BASELINE}
        return sorted(alignments, key=lambda name: (name != self.main_alignment(pair), name))

    def main_alignment(self, pair: str) -> str:
        """The token alignment of a pair that is shown where none is named."""
        return self.main_alignments.get(pair, MAIN_ALIGNMENT)

    def alignment_of(self, pair: str, arm: str) -> str:
        """The pair's main alignment where the arm was run with it; nothing for a method without a fuser."""
        main = self.main_alignment(pair)
        return main if any((pair, benchmark, arm, main) in self._groups for benchmark in self.benchmarks) else BASELINE

    def chance(self, benchmark: str) -> float:
        """Accuracy of a guess among the options, or, for a free answer, among the gold answers of the subset."""
        return self._chances[benchmark]

    @cached_property
    def _chances(self) -> dict[str, float]:
        questions = self.marked.drop_duplicates(["benchmark", "question_id"]).fillna({"subset": ""})
        different = questions.groupby(["benchmark", "subset"])["gold"].transform("nunique")
        guess = 1 / questions["options"].astype(float).fillna(different)
        return {str(name): float(mean) for name, mean in guess.groupby(questions["benchmark"]).mean().items()}

    def _group(self, pair: str, benchmark: str, arm: str, alignment: str | None) -> pd.DataFrame | None:
        group = self._groups.get((pair, benchmark, arm, alignment or self.main_alignment(pair)))
        return self._groups.get((pair, benchmark, arm, BASELINE)) if group is None else group
