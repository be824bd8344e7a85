"""A ladder of facts: accuracy where a text has k facts of a person, one of which is asked once the message is sent."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from c2c.testbed.card import gate
from c2c.testbed.card.comparing import in_columns
from c2c.testbed.card.records import DERANGED, MATCHED, NONE, MessageRecords
from paper.reading.messages import load_records
from paper.writing.columns import counts, estimates, sizes, titles
from paper.writing.output import run_table, write_table

TASK = "redacted_record"
"""What ids of tasks with several facts begin with."""
COLUMNS = ["scale", "pair", "channel", "message", "facts", "measure", "value", "low", "high", "n", "seeds", "gate"]


def facts_of(task: str, subset: str) -> int | None:
    """How many facts the texts of a task, or of a part of it, have: the number at the end of the one or the other."""
    number = re.search(r"(\d+)$", task) or re.search(r"(\d+)$", subset)
    return int(number[1]) if number else None


def build(records: MessageRecords) -> pd.DataFrame:
    """One row a pair, channel, message (matched, deranged, or none), number of facts and measure, in percent."""
    rows = records.frame[records.frame["task"].str.startswith(TASK)]
    kinds = rows[["task", "subset"]].drop_duplicates().itertuples(index=False, name=None)
    counts_of_facts = {(task, subset): facts_of(task, subset) for task, subset in kinds}
    facts = pd.Series(
        [counts_of_facts[key] for key in zip(rows["task"], rows["subset"], strict=True)], rows.index, dtype="Int64"
    )
    gates, lines = gate.states(records), []
    for number in sorted(facts.dropna().unique()):
        part = MessageRecords(rows[(facts == number).fillna(False)], records.settings)
        for cell in part.cells:
            for message in (MATCHED, DERANGED, NONE):
                for measure in part.measures(cell.task):
                    frame = part.answers(cell, message, measure)
                    if frame is None:
                        continue
                    share = accuracy_with_interval(frame).scaled(100)
                    ids = {"scale": records.scale, "pair": cell.pair, "channel": cell.channel, "message": message}
                    ids |= {"facts": number, "measure": measure}
                    lines.append(
                        ids
                        | in_columns(share, "")
                        | {"n": share.n, "seeds": share.seeds, "gate": gates[cell.pair, cell.task]}
                    )
    return pd.DataFrame(lines, columns=COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Channel": titles(frame, "channel"),
            "Message": titles(frame, "message"),
            "Facts": counts(frame, "facts"),
            "Measure": list(frame["measure"]),
            "Right, % [95 %]": estimates(frame),
            **sizes(frame),
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    notes = ["The channel does not know which fact will be asked: one that keeps its accuracy carries all of them."]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records)
