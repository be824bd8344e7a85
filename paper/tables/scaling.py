"""Accuracy by the size of Sharer and Receiver: C2C, T2T and either model alone (the paper's Figure 6)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import NOTHING
from paper.reading.answers import Answers
from paper.reading.sizes import parameters
from paper.rows import comparison, comparison_notes, comparison_text
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, ARMS = "Figure 6", ("receiver", "sharer", "t2t", "c2c")


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and method, in percent, with both models' sizes in millions of parameters."""
    frame = comparison(answers, None, PLACE, ARMS)
    frame = frame[frame["receiver"] != frame["sharer"]].reset_index(drop=True)
    sizes = {f"{role}_m": frame[role].map(parameters).astype(float) for role in ("receiver", "sharer")}
    return frame.assign(**sizes)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    sizes = [" / ".join(map(_size, pair)) for pair in zip(frame["receiver_m"], frame["sharer_m"], strict=True)]
    return comparison_text(frame, {"Receiver / Sharer, M": sizes})


def _size(millions: float) -> str:
    """Without decimals from a thousand millions on, with three below one."""
    return NOTHING if pd.isna(millions) else f"{millions:.4g}"


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "M: millions of parameters of Receiver and Sharer. Pairs of one model with itself are left out.",
        *comparison_notes(frame, "scaling", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
