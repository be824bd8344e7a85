"""Where the improvement comes from: the Receiver fine-tuned, with itself, with no message, and C2C (Table 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import Estimate
from paper.reading.answers import Answers, difference
from paper.rows import comparison, comparison_notes, comparison_text, with_gain
from paper.writing.columns import differences
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, ARMS = "Table 6", ("receiver", "single", "adapter", "identical", "c2c")
OTHER_SHARER = ("single", "identical")
"""The paper lists these without a Sharer, or with the Receiver as the Sharer."""


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and source, in percent; `gain` is the paired difference to the Receiver, in points."""

    def beyond_receiver(row: Any) -> Estimate | None:
        frame, receiver = (answers.get(row.pair, row.benchmark, arm) for arm in (row.arm, "receiver"))
        return None if row.arm == "receiver" else difference(frame, receiver)

    return with_gain(comparison(answers, None, PLACE, ARMS, free_sharer=OTHER_SHARER), beyond_receiver)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return comparison_text(frame, {"Difference to the Receiver, points": differences(frame, "gain_")})


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Single: the Receiver's own weights, fine-tuned alone on the Fuser's training set. Identical: the Receiver is "
        "its own Sharer. The adapter, a Fuser without any message, is a row that the paper does not have.",
        *comparison_notes(frame, "sources", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
