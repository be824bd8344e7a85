"""The main table: accuracy, its interval and the mean time of each method on each benchmark, by pair."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import NO_SEED, accuracy_with_interval
from paper.reading import names
from paper.reading.answers import MAIN_ARMS, Answers, Pair
from paper.reading.files import read_if_given
from paper.reading.times import TIMES, times_of
from paper.writing.output import NOTHING, count, fixed, notes_on_gaps, percent, run_table, show, write_table

ELSEWHERE = ("project", "fuse", "released", "single", "t2t_agents", "t_c2c", "latent")
"""Arms that have a table of their own."""
HEAD = ["scale", "pair", "receiver", "sharer", "arm", "benchmark"]


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and arm; never-run cells are rows without numbers and with a reason.

    Without a latency summary the columns of times are empty.
    """
    arms = names.in_order("arms", {*MAIN_ARMS, *answers.arms})
    rows = [
        _row(answers, pair, arm, benchmark)
        for pair in answers.pairs
        for arm in arms
        if not arm.startswith(ELSEWHERE)
        for benchmark in answers.asked(pair.name)
    ]
    frame = pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64", "failed": "Int64"})
    if latency is None:
        return frame.assign(**dict.fromkeys(TIMES.values(), float("nan")))
    return frame.merge(times_of(latency), how="left", on=["receiver", "sharer", "arm", "benchmark"])


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads: one row a pair, benchmark and method; times and failures only where there are any."""
    ordered = frame.sort_values(["pair", "benchmark"], key=_appearance(frame), kind="stable")
    table = pd.DataFrame(
        {
            "Pair": names.title("pairs", row.pair),
            "Benchmark": names.title("benchmarks", row.benchmark),
            "Method": names.title("arms", row.arm),
            "Accuracy, % [95 %]": show(row.value, row.low, row.high),
            "n": count(row.n),
            "Failed": count(row.failed),
            "Time, ms": NOTHING if pd.isna(row.time_ms) else fixed(row.time_ms, 2),
            "Seeds": count(row.seeds),
        }
        for row in ordered.itertuples()
    )
    empty = {"Time, ms": frame["time_ms"].isna().all(), "Failed": not frame["failed"].fillna(0).any()}
    return table.drop(columns=[name for name, nothing in empty.items() if nothing])


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        "Accuracy is the mean over training seeds (for scorings that give parts of a point, the mean credit); its 95 % "
        "interval is Wilson's for one seed (and where all answers agree), else a bootstrap over questions and seeds.",
        "Time is the mean per question of the latency run, in batches of one."
        if frame["time_ms"].notna().any()
        else "Nothing was timed.",
        "A dash: no training, or not timed.",
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _appearance(frame: pd.DataFrame):  # type: ignore[no-untyped-def]
    """Sort key: the order in which values first appear."""
    orders = {name: list(frame[name].unique()) for name in ("pair", "benchmark")}
    return lambda column: column.map(orders[column.name].index)


def _row(answers: Answers, pair: Pair, arm: str, benchmark: str) -> dict[str, object]:
    found = answers.get(pair.name, benchmark, arm)
    head = dict(zip(HEAD, [answers.scale, *pair, arm, benchmark], strict=True))
    estimate = None if found is None else accuracy_with_interval(found)
    reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if found is None else ""
    cells = percent(estimate)
    if found is not None:
        cells["failed"] = answers.failures(pair.name, benchmark, arm)
        cells["seeds"] = None if NO_SEED in found.columns else cells["seeds"]
    return head | cells | {"chance": 100 * answers.chance(benchmark), "reason": reason}


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read, latency=read_if_given)
