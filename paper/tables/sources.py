"""Where the improvement comes from: the Receiver fine-tuned, with itself, with no message, and C2C (Table 6)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading.answers import Answers, difference
from paper.rows import comparison, comparison_notes, comparison_text
from paper.writing.output import NOTHING, notes_on_gaps, percent, run_table, show, write_table

PLACE, ARMS = "Table 6", ("receiver", "single", "adapter", "identical", "c2c")
OTHER_SHARER = ("single", "identical")
"""The paper lists these without a Sharer, or with the Receiver as the Sharer."""
GAIN = ("gain_value", "gain_low", "gain_high")


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and source, in percent; `gain` is the paired difference to the Receiver, in points."""
    frame = comparison(answers, None, PLACE, ARMS, free_sharer=OTHER_SHARER)
    gains = []
    for row in frame.itertuples():
        arm, receiver = (answers.get(row.pair, row.benchmark, name) for name in (row.arm, "receiver"))
        gain = None if row.arm == "receiver" else difference(arm, receiver)
        gains.append({name: percent(gain, "gain_")[name] for name in GAIN})
    return frame.join(pd.DataFrame(gains, index=frame.index).astype(float))


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    gains = frame[list(GAIN)].to_numpy(float)
    shown = [NOTHING if pd.isna(gain[0]) else show(*gain, sign=True) for gain in gains]
    return comparison_text(frame, {"Less Receiver, points": shown})


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Single: the Receiver's own weights, fine-tuned alone on the Fuser's training set. Identical: the Receiver is "
        "its own Sharer. The adapter, a Fuser without any message, is a row that the paper does not have.",
        *comparison_notes(frame, "sources", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
