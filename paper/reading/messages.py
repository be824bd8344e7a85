"""Records of the test bed with the order and the measures of ``names.yaml`` and the margin of their scale."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from c2c.testbed.card.records import CELL, CardSettings, MessageRecords, read
from paper.reading import names
from paper.reading.margin import margin_of


def settings_of(scale: str) -> CardSettings:
    """What a scale's records do not say of themselves."""
    content = names.read_names()
    columns = {
        column: {task: entry[column] for task, entry in content["tasks"].items() if column in entry}
        for column in ("measure", "values")
    }
    order = {kind: list(content[f"{kind}s"]) for kind in CELL}
    return CardSettings(margin_of(scale), columns["measure"], columns["values"], order)


def records_of(frame: pd.DataFrame) -> MessageRecords:
    """The records in a frame, of one scale."""
    return MessageRecords(frame, settings_of(str(frame["scale"].iloc[0]) if len(frame) else ""))


def load_records(paths: Iterable[Path]) -> MessageRecords:
    """The records in some files."""
    return records_of(read(paths))
