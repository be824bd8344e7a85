"""The ablation of the Fuser: project, + fuse, + gate (= C2C), and the adapter control, on the seeds that all share."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import NOTHING
from paper.reading import names
from paper.reading.answers import Answers, difference
from paper.rows import ID_COLUMNS, alignment_column, arm_row, tidy, with_bounds
from paper.writing.columns import estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

LEVELS = ("project", "fuse", "c2c", "adapter")
"""Arms in the order in which parts of the Fuser are added, and the control."""
WHOLE = "c2c"
COLUMNS = (*ID_COLUMNS, *with_bounds("difference"), "n", "seeds", *with_bounds(""), "reason")


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and level; `difference` is the level less the whole Fuser, in percentage points."""
    rows = []
    for pair in answers.pairs:
        for benchmark in answers.benchmarks_of(pair.name):
            frames = _on_shared_seeds({arm: answers.get(pair.name, benchmark, arm) for arm in LEVELS})
            for arm, frame in frames.items():
                gain = difference(frame, frames[WHOLE])
                rows.append(arm_row(answers, pair, benchmark, arm, frame, {"difference": gain}))
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    gains = pd.Series(estimates(frame, "difference_", sign=True)).mask(frame["arm"] == WHOLE, NOTHING)
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Fuser": ["+ Gate (C2C)" if arm == WHOLE else names.title("arms", arm) for arm in frame["arm"]],
        **alignment_column(frame),
        "Accuracy, % [95 %]": estimates(frame),
        "Difference to C2C, points [95 %]": gains,
        **sizes(frame),
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Within a pair all levels are compared on the training seeds that they share. The adapter is the full fuser, "
        "trained and used with a Sharer cache of zeros.",
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _on_shared_seeds(frames: dict[str, pd.DataFrame | None]) -> dict[str, pd.DataFrame | None]:
    """Answers of all levels on the training seeds that they share; on their own seeds where they share none."""
    seeds = [set(frame.columns) for frame in frames.values() if frame is not None]
    shared_seeds = sorted(set.intersection(*seeds)) if seeds else []
    if not shared_seeds:
        return frames
    return {arm: None if frame is None else frame[shared_seeds] for arm, frame in frames.items()}


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
