"""What the Receiver answers with each message of each channel: accuracy, and how often it names the donor's value."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper.communication.records import BOUNDS, DERANGED, MessageRecords
from paper.rows import accuracy, percent
from paper.writing.columns import estimates, sizes, titles
from paper.writing.output import run_table, write_table


def build(records: MessageRecords) -> pd.DataFrame:
    """One row a cell, message and measure, in percent; `donor_*` are of deranged messages alone."""
    rows = []
    for cell in records.cells:
        if cell.channel in BOUNDS:
            continue
        for message in records.messages(cell):
            mentions = records.answers_naming_donor(cell) if message == DERANGED else None
            donor = percent(None if mentions is None else accuracy_with_interval(mentions), "donor_")
            for measure in records.measures(cell.task):
                ids = {"scale": records.scale, **cell._asdict(), "message": message, "measure": measure}
                frame = records.answers(cell, message, measure)
                rows.append(ids | donor | accuracy(frame) | {"bytes": records.mean(cell, message, "bytes")})
    return pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64"})


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Channel": titles(frame, "channel"),
            "Message": titles(frame, "message"),
            "Measure": list(frame["measure"]),
            "Right, % [95 %]": estimates(frame),
            **sizes(frame),
            "Donor named, % [95 %]": [
                "" if text == "not run" else text for text in estimates(frame.astype({"donor_value": float}), "donor_")
            ],
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    notes = [
        "Choice: the likeliest option is the right one. Exact: the written answer equals the value.",
        "Donor named: of the answers with a deranged message, how many name the value of the item whose message was "
        "read. Adaptation in disguise would leave this at chance.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=MessageRecords.load)
