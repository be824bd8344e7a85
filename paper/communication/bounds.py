"""Bounds of every task, measured: no message, everything read, the Receiver's own states, and text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.communication.comparing import MINIMAL_ROOM, WITHOUT_NEED, WITHOUT_ROOM, in_columns, room
from paper.communication.records import BOUNDS, MATCHED, TEXT, CellIds, MessageRecords
from paper.rows import accuracy
from paper.writing.columns import differences, estimates, sizes, titles
from paper.writing.numbers import decimal
from paper.writing.output import run_table, write_table

ENOUGH = "can show communication"


def build(records: MessageRecords) -> pd.DataFrame:
    """One row a pair, task, measure and bound: accuracy in percent; `room_*` is full - receiver in points."""
    rows = []
    for pair, task in records.tasks:
        for measure in records.measures(task):
            between = room(records, pair, task, measure)
            finding = "" if between is None else ENOUGH if between.value >= MINIMAL_ROOM else WITHOUT_ROOM
            if not records.needs_message(pair, task):
                finding = WITHOUT_NEED
            for channel, message in {**BOUNDS, TEXT: MATCHED}.items():
                frame = records.answers(CellIds(pair, task, channel), message, measure)
                ids = {"scale": records.scale, "pair": pair, "task": task, "measure": measure, "channel": channel}
                rows.append(ids | accuracy(frame) | in_columns(between, "room_") | {"finding": finding})
    return pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64"})


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
    frame = build(records)
    notes = [
        "Receiver: no message. Full: the Receiver reads the text that has the answer. Own states: what it has computed "
        "for the fused tokens of that text itself, put in their place. Text: the Sharer writes what it read.",
        f"Where full is not {decimal(MINIMAL_ROOM, 0)} points above the Receiver, a task {WITHOUT_ROOM}, and no "
        f"evidence level is stated for its cells. A task {WITHOUT_NEED} where the Receiver reads all that full reads.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=MessageRecords.load)
