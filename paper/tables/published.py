"""Ours beside the paper's Table 4: accuracy, difference, verdict and time of each method, pair and benchmark."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper import beside
from paper.answers import Answers
from paper.output import notes_on_gaps, read_if_given, run_table, write_table

PLACE, ARMS = "Table 4", ("receiver", "sharer", "routing", "t2t", "c2c")


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and method: accuracy in percent, our time in milliseconds, the paper's in seconds."""
    return beside.cells(answers, latency, PLACE, ARMS)


printed = beside.printed


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        *beside.notes(frame, "published", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read, latency=read_if_given)
