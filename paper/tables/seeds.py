"""Every cell by training seed, with the spread between seeds: accuracy, its standard deviation and range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import NO_SEED, accuracy_with_interval
from c2c.testbed.card.numbers import count, decimal
from paper.reading import names
from paper.reading.answers import AT_STEP, Answers, PairIds
from paper.rows import percent
from paper.writing.output import run_table, write_table

ID_COLUMNS = ("scale", "pair", "receiver", "sharer", "benchmark", "arm", "alignment")
CELL = ["pair", "benchmark", "arm", "alignment"]


def build(answers: Answers) -> pd.DataFrame:
    """One row a cell and seed of finished trainings, in percent; `mean`, `sd` and `range` are over the cell's seeds.

    `sd` is the sample's standard deviation (one degree less than seeds); one seed has neither sd nor range.
    """
    rows = [
        row
        for pair in answers.pairs
        for benchmark in answers.benchmarks_of(pair.name)
        for alignment in answers.alignments(pair.name)
        for arm in names.in_order("arms", answers.arms_of(pair.name))
        if AT_STEP not in arm
        for row in _rows(answers, pair, benchmark, arm, alignment)
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64", "n": "Int64", "seeds": "Int64", "sd": float, "range": float})


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: one row a cell."""
    rows = []
    for (pair, benchmark, arm, alignment), cell in frame.groupby(CELL, sort=False):
        first = cell.iloc[0]
        rows.append(
            {
                "Pair": names.title("pairs", str(pair)),
                "Benchmark": names.title("benchmarks", str(benchmark)),
                "Method": names.title("arms", str(arm)),
                "Alignment": str(alignment),
                "Accuracy by seed, %": ", ".join(f"{row.seed}: {decimal(row.value, 1)}" for row in cell.itertuples()),
                "Mean, %": decimal(first["mean"], 1),
                "SD, points": decimal(first["sd"], 1),
                "Range, points": decimal(first["range"], 1),
                "n": count(first["n"]),
                "Seeds": count(first["seeds"]),
            }
        )
    return pd.DataFrame(rows)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    widest = frame.loc[[frame["range"].idxmax()]] if frame["range"].notna().any() else frame.iloc[:0]
    notes = [
        "SD: standard deviation between training seeds (of the sample); a dash where there is one seed. All seeds "
        "answer the same n questions.",
        *(
            f"The widest range, {decimal(row.range, 1)} points: {names.title('pairs', row.pair)}, "
            f"{names.title('benchmarks', row.benchmark)}, {names.title('arms', row.arm)}."
            for row in widest.itertuples()
        ),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _rows(answers: Answers, pair: PairIds, benchmark: str, arm: str, alignment: str) -> list[dict[str, Any]]:
    frame = answers.get(pair.name, benchmark, arm, alignment)
    if frame is None or NO_SEED in frame.columns:
        return []
    head = dict(zip(ID_COLUMNS, [answers.scale, *pair, benchmark, arm, alignment], strict=True))
    by_seed = 100 * frame.mean()
    spread = {"sd": by_seed.std(ddof=1), "range": by_seed.max() - by_seed.min()} if len(by_seed) > 1 else {}
    cell = {"sd": None, "range": None, "mean": by_seed.mean(), "seeds": len(by_seed)} | spread
    rows = []
    for seed in sorted(frame.columns):
        numbers = percent(accuracy_with_interval(frame[[seed]]))
        rows.append(head | {"seed": seed} | numbers | cell)
    return rows


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
