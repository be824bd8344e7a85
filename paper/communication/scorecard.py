"""The score card: one row a channel, on one task between one pair of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import Estimate, accuracy_with_interval, mean_with_interval, paired_difference
from paper.communication.bits import bits
from paper.communication.comparing import (
    LEVELS,
    MINIMAL_ROOM,
    WITHOUT_NEED,
    WITHOUT_ROOM,
    Findings,
    fidelity,
    gain,
    in_columns,
    paired_frames,
    room,
)
from paper.communication.gate import CHECKS, PASSED, VOID, check_gate, reasons
from paper.communication.records import (
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
from paper.reading.margin import margin_of
from paper.rows import accuracy, with_bounds
from paper.writing.columns import BOUNDS as BOUND_NAMES
from paper.writing.columns import counts, decimals, differences, estimates, sizes, titles
from paper.writing.numbers import NOT_RUN, NOTHING, decimal, show
from paper.writing.output import run_table, write_table

BRIEF_LEVELS = dict(zip(LEVELS, ("none", "any message", "this message", "no parameters", "ceiling"), strict=True))
"""The evidence levels as the printed table has room for them."""


def build(records: MessageRecords) -> pd.DataFrame:
    """One row a cell, bounds included.

    `choice_*`, `exact_*`, `donor_*` and the shares `of_full_*` and `of_own_states_*` are in percent, `cag_*` and
    `communication_*` in points of `measure`, `bits_*` in bits a question. `bits_gain_*` is the difference of bits to
    the Receiver without a message. `time_added_ms` is what sending and receiving take beyond the Receiver's own time.
    """
    voids = reasons(check_gate(records, margin_of(records.scale)))
    frame = pd.DataFrame([_row(records, cell, voids.get((cell.pair, cell.task), "")) for cell in records.cells])
    integers = ["n", "seeds", "bytes", "parameters", "training_items", "training_steps"]
    return frame.astype(dict.fromkeys(integers, "Int64"))


def _row(records: MessageRecords, cell: CellIds, void: str) -> dict[str, Any]:
    """One row of the card; `void` says why none of the numbers of this pair and task counts."""
    message = BOUNDS.get(cell.channel, MATCHED)
    measures = records.measures(cell.task)
    answers = {measure: records.answers(cell, message, measure) for measure in MEASURES}
    row: dict[str, Any] = {"scale": records.scale, **cell._asdict(), "measure": measures[0]}
    sizes_of_row = accuracy(answers[measures[0]])
    row |= {name: sizes_of_row[name] for name in ("n", "seeds")}
    for measure, frame in answers.items():
        row |= in_columns(_share(frame if measure in measures else None), f"{measure}_")
    # What the message does.
    is_bound = cell.channel in BOUNDS
    for name in ("CAG", "communication"):
        row |= in_columns(None if is_bound else gain(records, cell, name, measures[0]), f"{name.lower()}_")
    row |= in_columns(_share(records.answers_naming_donor(cell)), "donor_")
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
        else Findings.of(records, cell, measures[0]).level(margin_of(records.scale))
    )
    return row | {"level": level, "gate": VOID if void else PASSED, "reason": reason}


def _bits(records: MessageRecords, cell: CellIds, message: str) -> dict[str, Any]:
    """Bits with the message, and their difference to the Receiver's."""
    with_message, without = bits(records, cell, message), bits(records, cell._replace(channel=RECEIVER), NONE)
    estimate = None if with_message is None else mean_with_interval(with_message)
    pair = paired_frames(with_message, without)
    more = None if pair is None else mean_with_interval(paired_difference(*pair))
    return in_columns(estimate, "bits_") | in_columns(None if cell.channel == RECEIVER else more, "bits_gain_")


def _share(frame: pd.DataFrame | None) -> Estimate | None:
    return None if frame is None else accuracy_with_interval(frame).scaled(100)


def _time_added(records: MessageRecords, cell: CellIds, message: str) -> float:
    """Milliseconds an item of sending and receiving, less those that the Receiver takes alone."""
    receiver_ms = records.mean(cell._replace(channel=RECEIVER), NONE, "receive_ms")
    return sum(records.mean(cell, message, column) for column in ("send_ms", "receive_ms")) - receiver_ms


def _rounded(value: float) -> int | None:
    return None if pd.isna(value) else round(value)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""

    def shown(prefix: str, digits: int = 1) -> list[str]:
        # What a channel cannot have (a donor without a deranged message, say) is a dash.
        columns = with_bounds(prefix)
        return [NOTHING if text == NOT_RUN else text for text in estimates(frame[columns], f"{prefix}_", digits=digits)]

    # The right answers of the measure on which the level rests.
    columns = [[f"{row['measure']}_{bound}" for bound in BOUND_NAMES] for _, row in frame.iterrows()]
    shares = [show(*row[names]) for (_, row), names in zip(frame.iterrows(), columns, strict=True)]
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Channel": titles(frame, "channel"),
            "Right, %": shares,
            "CAG": differences(frame, "cag_"),
            "Communication": differences(frame, "communication_"),
            "Donor named, %": shown("donor"),
            "Of full, %": shown("of_full"),
            "Bits": shown("bits", 2),
            "Bytes": counts(frame, "bytes"),
            "Added, ms": decimals(frame, "time_added_ms", 1),
            "Parameters, M": decimals(frame["parameters"].astype(float).div(1e6).to_frame(), "parameters", 1),
            **sizes(frame),
            "Evidence": [BRIEF_LEVELS.get(level, NOTHING) for level in frame["level"]],
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    margin = decimal(margin_of(records.scale), 1)
    notes = [
        "Right: answers with the matched message, by choice among options or exactly written. CAG: less those with a "
        "deranged one; communication: less the same parameters without a message. Donor named: answers with a deranged "
        "message that name the value of the item whose message was read.",
        "Of full: (matched - Receiver) / (full - Receiver), with the interval of the delta method. The .csv has the "
        "share of own states too, both measures, training items, steps and seconds.",
        "Bits: a lower bound of the mutual information of message and answer, a question (docs/reading-results.md). "
        "Added: milliseconds beyond those of the Receiver alone.",
        "Evidence, from the 95 % intervals: any message (matched above the Receiver); this message (above deranged "
        "too); no parameters (above the adapter too, which is equivalent to the Receiver within "
        f"{margin} points); ceiling (not {margin} points below full either).",
        *_notes_on_reasons(frame),
    ]
    return write_table(frame, text_table(frame), stem, notes)


def _notes_on_reasons(frame: pd.DataFrame) -> list[str]:
    """Why cells have no evidence level, a line each reason."""
    rows = frame[frame["reason"] != ""].drop_duplicates(["pair", "task"])
    lines = zip(titles(rows, "pair"), titles(rows, "task"), rows["reason"], strict=True)
    return [f"No evidence level for {pair}, {task}: {reason}." for pair, task, reason in lines]


if __name__ == "__main__":
    run_table(__doc__, write, testbed=MessageRecords.load)
