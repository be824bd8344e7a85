"""Our results compared with Table 4: accuracy, difference, verdict and time of each method, pair and benchmark."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading.answers import Answers
from paper.reading.files import read_if_given
from paper.rows import comparison, comparison_notes, comparison_text
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, ARMS = "Table 4", ("receiver", "sharer", "routing", "t2t", "c2c")


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and method: accuracy in percent, our time in milliseconds, the paper's in seconds."""
    return comparison(answers, latency, PLACE, ARMS)


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        *comparison_notes(frame, "published", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, comparison_text(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load, latency=read_if_given)
