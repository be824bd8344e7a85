"""The score card: one row a channel, on one task between one pair of models."""

from __future__ import annotations

from typing import Any

import pandas as pd

from c2c.stats import mean_with_interval, paired_difference
from c2c.testbed.card.bits import bits
from c2c.testbed.card.comparing import (
    MINIMAL_ROOM,
    WITHOUT_NEED,
    WITHOUT_ROOM,
    Findings,
    fidelity,
    gain,
    in_columns,
    paired_frames,
    room,
    share,
)
from c2c.testbed.card.gate import CHECKS, PASSED, VOID, check_gate, reasons
from c2c.testbed.card.records import (
    BOUNDS,
    FULL,
    MATCHED,
    MEASURES,
    NONE,
    OWN_STATES,
    RECEIVER,
    CellIds,
    MessageRecords,
)


def build_card(records: MessageRecords) -> pd.DataFrame:
    """One row a cell, bounds included.

    `choice_*`, `exact_*`, `donor_*` and the shares `of_full_*` and `of_own_states_*` are in percent, `cag_*` and
    `communication_*` in points of `measure`, `bits_*` in bits a question. `bits_gain_*` is the difference of bits to
    the Receiver without a message. `time_added_ms` is what sending and receiving take beyond the Receiver's own time.
    """
    voids = reasons(check_gate(records, records.settings.margin))
    frame = pd.DataFrame([_row(records, cell, voids.get((cell.pair, cell.task), "")) for cell in records.cells])
    integers = ["n", "seeds", "bytes", "parameters", "training_items", "training_steps"]
    return frame.astype(dict.fromkeys(integers, "Int64"))


def _row(records: MessageRecords, cell: CellIds, void: str) -> dict[str, Any]:
    """One row of the card; `void` says why none of the numbers of this pair and task counts."""
    message = BOUNDS.get(cell.channel, MATCHED)
    measures = records.measures(cell.task)
    answers = {measure: records.answers(cell, message, measure) for measure in MEASURES}
    row: dict[str, Any] = {"scale": records.scale, **cell._asdict(), "measure": measures[0]}
    right = share(answers[measures[0]])
    row |= {"n": right and right.n, "seeds": right and right.seeds}
    for measure, frame in answers.items():
        row |= in_columns(share(frame if measure in measures else None), f"{measure}_")
    # What the message does.
    is_bound = cell.channel in BOUNDS
    for name in ("CAG", "communication"):
        row |= in_columns(None if is_bound else gain(records, cell, name, measures[0]), f"{name.lower()}_")
    row |= in_columns(share(records.answers_naming_donor(cell)), "donor_")
    for bound in (FULL, OWN_STATES):
        row |= in_columns(None if is_bound else fidelity(records, cell, bound, measures[0]), f"of_{bound}_")
    # What it brings and what it costs.
    row |= _bits(records, cell, message)
    for column in ("bytes", "parameters", "training_items", "training_steps"):
        row[column] = _rounded(records.mean(cell, message, column))
    row["time_added_ms"] = None if cell.channel == RECEIVER else _time_added(records, cell, message)
    row["training_s"] = records.mean(cell, message, "training_seconds")
    between = room(records, cell.pair, cell.task, measures[0])
    reason = void and f"{VOID}: {void}"
    if between is None or between.value < MINIMAL_ROOM:
        reason = reason or (WITHOUT_ROOM if records.needs_message(cell.pair, cell.task) else WITHOUT_NEED)
    level = (
        ""
        if reason or is_bound or cell.channel in CHECKS
        else Findings.of(records, cell, measures[0]).level(records.settings.margin)
    )
    return row | {"level": level, "gate": VOID if void else PASSED, "reason": reason}


def _bits(records: MessageRecords, cell: CellIds, message: str) -> dict[str, Any]:
    """Bits with the message, and their difference to the Receiver's."""
    with_message, without = bits(records, cell, message), bits(records, cell._replace(channel=RECEIVER), NONE)
    estimate = None if with_message is None else mean_with_interval(with_message)
    pair = paired_frames(with_message, without)
    more = None if pair is None else mean_with_interval(paired_difference(*pair))
    return in_columns(estimate, "bits_") | in_columns(None if cell.channel == RECEIVER else more, "bits_gain_")


def _time_added(records: MessageRecords, cell: CellIds, message: str) -> float:
    """Milliseconds an item of sending and receiving, less those that the Receiver takes alone."""
    receiver_ms = records.mean(cell._replace(channel=RECEIVER), NONE, "receive_ms")
    return sum(records.mean(cell, message, column) for column in ("send_ms", "receive_ms")) - receiver_ms


def _rounded(value: float) -> int | None:
    return None if pd.isna(value) else round(value)
