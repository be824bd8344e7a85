"""The main table: accuracy, its interval and the mean time of each method on each benchmark, by pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from paper.reading import names
from paper.reading.answers import MAIN_ARMS, Answers
from paper.reading.files import read_if_given
from paper.reading.times import TIMES, times_of
from paper.rows import alignment_column, arm_row, tidy, with_bounds
from paper.writing.columns import counts, decimals, estimates, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

OTHER_TABLES = ("project", "fuse", "released", "single", "t2t_agents", "t_c2c", "latent")
"""Arms that have a table of their own."""
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "arm", "benchmark"),
    *(*with_bounds(""), "n", "seeds", "failed", "chance", "reason"),
)


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and arm; never-run cells are rows without numbers and with a reason.

    Without a latency summary the columns of times are empty.
    """
    arms = names.in_order("arms", {*MAIN_ARMS, *answers.arms})
    rows = []
    for pair in answers.pairs:
        for arm in (arm for arm in arms if not arm.startswith(OTHER_TABLES)):
            for benchmark in answers.benchmarks_of(pair.name):
                marks = answers.get(pair.name, benchmark, arm)
                # This control is asked on chosen benchmarks only: elsewhere nothing is missing.
                if marks is None and arm.endswith("_same_answer"):
                    continue
                failures = None if marks is None else answers.failures(pair.name, benchmark, arm)
                chance = 100 * answers.chance(benchmark)
                more = {"failed": failures, "chance": chance}
                rows.append(arm_row(answers, pair, benchmark, arm, marks, baseline_seeds=False, **more))
    frame = tidy(rows, COLUMNS).astype({"failed": "Int64"})
    if latency is None:
        return frame.assign(**dict.fromkeys(TIMES.values(), float("nan")))
    return frame.merge(times_of(latency), how="left", on=["receiver", "sharer", "arm", "benchmark"])


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: by pair and benchmark; times and failures only where there are any."""
    rows = frame.sort_values(["pair", "benchmark"], key=_appearance(frame), kind="stable")
    table = {
        "Pair": titles(rows, "pair"),
        "Benchmark": titles(rows, "benchmark"),
        "Method": titles(rows, "arm"),
        **alignment_column(rows),
        "Accuracy, % [95 %]": estimates(rows),
        "n": counts(rows, "n"),
        "Failed": counts(rows, "failed"),
        "Time, ms": decimals(rows, "time_ms"),
        "Seeds": counts(rows, "seeds"),
    }
    if frame["time_ms"].isna().all():
        del table["Time, ms"]
    if not frame["failed"].fillna(0).any():
        del table["Failed"]
    return pd.DataFrame(table)


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        "Accuracy is the mean over training seeds (for scorings that give parts of a point, the mean credit); its 95 % "
        "interval is Wilson's for one seed (and where all answers agree), else a t interval over questions and "
        "trainings.",
        "Time is the mean per question of the latency run, in batches of one."
        if frame["time_ms"].notna().any()
        else "Nothing was timed.",
        "A dash: no training, or not timed.",
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _appearance(frame: pd.DataFrame) -> Callable[[pd.Series], pd.Series]:
    """Sort key: the order in which values first appear."""
    orders = {name: list(frame[name].unique()) for name in ("pair", "benchmark")}
    return lambda column: column.map(orders[column.name].index)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load, latency=read_if_given)
