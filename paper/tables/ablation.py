"""The ablation of the fuser: project, + fuse, + gate (= C2C), and the adapter control, on the seeds that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper.reading import names
from paper.reading.answers import Answers, Pair, difference
from paper.writing.output import NOTHING, count, notes_on_gaps, percent, run_table, show, write_table

ARMS = ("project", "fuse", "c2c", "adapter")
TITLES = {"c2c": "+ Gate (C2C)"}
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "arm"]


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and level; `difference` is the paired one to the full fuser, in percentage points."""
    rows = [
        row
        for pair in answers.pairs
        for benchmark in answers.asked(pair.name)
        for row in _levels(answers, pair, benchmark)
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
    return write_table(frame, printed(frame), stem, notes, answers)


def _difference(row: Any) -> str:
    return show(row.difference_value, row.difference_low, row.difference_high, sign=True)


def _title(arm: str) -> str:
    return TITLES.get(arm, names.title("arms", arm))


def _on_shared_seeds(levels: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """All levels on the training seeds that they share; on their own seeds where they share none."""
    shared = sorted(set.intersection(*(set(frame.columns) for frame in levels.values()))) if levels else []
    return {arm: frame[shared] for arm, frame in levels.items()} if shared else levels


def _levels(answers: Answers, pair: Pair, benchmark: str) -> list[dict[str, object]]:
    found = {arm: answers.get(pair.name, benchmark, arm) for arm in ARMS}
    levels = _on_shared_seeds({arm: frame for arm, frame in found.items() if frame is not None})
    full = levels.get("c2c")
    rows = []
    for arm in ARMS:
        frame = levels.get(arm)
        head = dict(zip(HEAD, [answers.scale, *pair, benchmark, arm], strict=True))
        accuracy = None if frame is None else accuracy_with_interval(frame)
        reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if frame is None else ""
        rows.append(head | percent(difference(frame, full), "difference_") | percent(accuracy) | {"reason": reason})
    return rows


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
