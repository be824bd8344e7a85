"""The ablation of the fuser: project, + fuse, + gate (= C2C), and the adapter control, on the seeds that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import accuracy_with_interval, mean_with_interval, paired_difference
from paper import names
from paper.answers import Answers, Pair
from paper.output import (
    NOTHING,
    SUFFIXES,
    beside,
    count,
    notes_on_gaps,
    percent,
    show,
    stamped,
    table_parser,
    write_table,
)

ARMS = ("project", "fuse", "c2c", "adapter")
TITLES = {"c2c": "+ Gate (C2C)"}
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "arm"]


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and level; `difference` is the paired one to the full fuser, in percentage points."""
    rows = [
        row for pair in answers.pairs for benchmark in answers.benchmarks for row in _levels(answers, pair, benchmark)
    ]
    return pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64"})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    return pd.DataFrame(
        {
            "Pair": names.title("pairs", row.pair),
            "Benchmark": names.title("benchmarks", row.benchmark),
            "Fuser": _title(row.arm),
            "Accuracy, % [95 %]": show(row.value, row.low, row.high),
            "Difference to C2C, points [95 %]": NOTHING if row.arm == "c2c" else _difference(row),
            "n": count(row.n),
            "Seeds": count(row.seeds),
        }
        for row in frame.itertuples()
    )


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Within a pair all levels are compared on the training seeds that they share. The adapter is the full fuser, "
        "trained and used with a Sharer cache of zeros.",
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    write_table(frame, printed(frame), stem, notes)
    return frame


def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--records").parse_args()
    with stamped([beside(arguments.output_stem, suffix) for suffix in SUFFIXES], arguments.records):
        write(Answers.read(arguments.records), arguments.output_stem)


def _difference(row: Any) -> str:
    return show(row.difference_value, row.difference_low, row.difference_high, sign=True)


def _title(arm: str) -> str:
    return TITLES.get(arm, names.title("arms", arm))


def _levels(answers: Answers, pair: Pair, benchmark: str) -> list[dict[str, object]]:
    found = {arm: answers.get(pair.name, benchmark, arm) for arm in ARMS}
    run = {arm: frame for arm, frame in found.items() if frame is not None}
    shared = sorted(set.intersection(*(set(frame.columns) for frame in run.values()))) if run else []
    rows = []
    for arm in ARMS:
        frame = run[arm][shared] if arm in run and shared else None
        full = run["c2c"][shared] if "c2c" in run and shared else None
        both = frame is not None and full is not None
        difference = mean_with_interval(paired_difference(frame, full)) if both else None  # type: ignore[arg-type]
        accuracy = None if frame is None else accuracy_with_interval(frame)
        head = dict(zip(HEAD, [answers.scale, *pair, benchmark, arm], strict=True))
        reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if frame is None else ""
        rows.append(head | percent(difference, "difference_") | percent(accuracy) | {"reason": reason})
    return rows


if __name__ == "__main__":
    main()
