"""What the Receiver answers with each message of each channel: accuracy, and how often it names the donor's value."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from c2c.testbed.card.records import BOUNDS, DERANGED, MESSAGES, NONE, MessageRecords
from paper.reading import names
from paper.reading.messages import load_records
from paper.rows import accuracy, percent
from paper.writing.columns import decimals, sizes
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
    """The table as it is printed: a row a channel, a column a message; the .csv has both measures and the intervals."""
    lines = []
    for (pair, task), cells in frame.groupby(["pair", "task"], sort=False):
        own = cells[cells["measure"] == cells["measure"].iloc[0]]
        for channel, answers in own.groupby("channel", sort=False):
            values = dict(zip(answers["message"], decimals(answers, "value", 1), strict=True))
            naming = decimals(answers[answers["donor_value"].notna()].astype({"donor_value": float}), "donor_value", 1)
            lines.append(
                {
                    "Pair": names.title("pairs", pair),
                    "Task": names.title("tasks", task),
                    "Channel": names.title("channels", channel),
                    **{
                        names.title("messages", name).capitalize(): values.get(name, "–")
                        for name in MESSAGES
                        if name != NONE
                    },
                    "Donor named": naming[0] if naming else "–",
                    **{name: column[0] for name, column in sizes(answers).items()},
                }
            )
    return pd.DataFrame(lines)


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    notes = [
        "Right answers in percent, by the measure on which a task's evidence rests: the likeliest option, or the exact "
        "written value.",
        "Donor named: of the answers with a deranged message, how many name the value of the item whose message was "
        "read. Adaptation in disguise would leave this at chance.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records)
