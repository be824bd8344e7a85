"""Bounds of every task, measured: no message, everything read, the Receiver's own states, and text."""

from __future__ import annotations

import pandas as pd

from c2c.testbed.card.comparing import MINIMAL_ROOM, WITHOUT_NEED, WITHOUT_ROOM, in_columns, room, share
from c2c.testbed.card.records import BOUNDS, MATCHED, TEXT, CellIds, MessageRecords

ENOUGH = "can show communication"


def build_bounds(records: MessageRecords) -> pd.DataFrame:
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
                right = share(frame)
                counts = {"n": right and right.n, "seeds": right and right.seeds}
                rows.append(ids | in_columns(right, "") | counts | in_columns(between, "room_") | {"finding": finding})
    return pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64"})
