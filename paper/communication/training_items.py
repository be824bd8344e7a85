"""Accuracy by the number of training items of a channel, matched messages alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from c2c.testbed.card.comparing import in_columns
from c2c.testbed.card.records import BOUNDS, MATCHED, MessageRecords
from paper.reading.messages import load_records
from paper.writing.columns import counts, estimates, sizes, titles
from paper.writing.output import run_table, write_table

COLUMNS = ["scale", "pair", "task", "channel", "measure", "training_items", "value", "low", "high", "n", "seeds"]


def build(records: MessageRecords) -> pd.DataFrame:
    """One row a cell, measure and number of training items, in percent; channels with one number have one row."""
    rows = []
    for cell in records.cells:
        if cell.channel in BOUNDS:
            continue
        for measure in records.measures(cell.task):
            for items, frame in records.by_training_items(cell, MATCHED, measure).items():
                share = accuracy_with_interval(frame).scaled(100)
                ids = {"scale": records.scale, **cell._asdict(), "measure": measure, "training_items": items}
                rows.append(ids | in_columns(share, "") | {"n": share.n, "seeds": share.seeds})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame[frame["training_items"] > 0].reset_index(drop=True)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Channel": titles(frame, "channel"),
            "Measure": list(frame["measure"]),
            "Training items": counts(frame, "training_items"),
            "Right, % [95 %]": estimates(frame),
            **sizes(frame),
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    return write_table(frame, text_table(frame), stem, ["Test items share no person and no value with the training."])


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records)
