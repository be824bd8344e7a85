"""The table of the bounds of every task."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.bounds import build_bounds
from c2c.testbed.card.comparing import MINIMAL_ROOM, WITHOUT_NEED, WITHOUT_ROOM
from c2c.testbed.card.numbers import decimal
from c2c.testbed.card.records import MessageRecords
from paper.reading.messages import load_records
from paper.writing.columns import differences, estimates, sizes, titles
from paper.writing.output import run_table, write_table


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Measure": list(frame["measure"]),
            "Bound": titles(frame, "channel"),
            "Right, % [95 %]": estimates(frame),
            **sizes(frame),
            "Full less Receiver": differences(frame, "room_"),
            "Finding": list(frame["finding"]),
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build_bounds(records)
    notes = [
        "Receiver: no message. Full: the Receiver reads the text that has the answer. Own states: what it has computed "
        "for the fused tokens of that text itself, put in their place. Text: the Sharer writes what it read.",
        f"Where full is not {decimal(MINIMAL_ROOM, 0)} points above the Receiver, a task {WITHOUT_ROOM}, and no "
        f"evidence level is stated for its cells. A task {WITHOUT_NEED} where the Receiver reads all that full reads.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records)
