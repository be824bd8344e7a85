"""The gains of every channel under the names of the causal audits, with equivalence to the Receiver (TOST)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import Estimate, holm
from paper.communication import gate
from paper.communication.comparing import AGAINST_RECEIVER, GAINS, LEVEL, difference, gain
from paper.communication.records import BOUNDS, MATCHED, MessageRecords
from paper.reading.margin import margin_of
from paper.writing.columns import decimals, estimates, p_values, sizes, titles
from paper.writing.numbers import decimal
from paper.writing.output import run_table, write_table

FROM_NOTHING, ON_RIDGE, START = "c2c", "c2c_on_ridge", "ridge_start"
"""Channels with the same Fusers from random weights and on top of ridge, and the gain of the latter over the former."""
REACH = ("reach_value", "reach_low", "reach_high")
ABOVE, BELOW, EQUIVALENT, UNDECIDED = "above zero", "below zero", "equivalent", "undecided"


def build(records: MessageRecords) -> pd.DataFrame:
    """One row a cell, measure and gain, in points; cells without the message have no row.

    `p_holm` is adjusted for the cells of the same gain and measure; `equivalence_holm`, of gains of `AGAINST_RECEIVER`,
    for all their cells with the same measure. `reach_*` is how far a gain lies from zero, with its 90 % interval.
    """
    margin, gates = margin_of(records.scale), gate.states(records)
    rows = []
    for cell in records.cells:
        if cell.channel in BOUNDS:
            continue
        for measure in records.measures(cell.task):
            gains = {name: gain(records, cell, name, measure) for name in GAINS}
            if cell.channel == ON_RIDGE:
                nothing = (cell._replace(channel=FROM_NOTHING), MATCHED)
                gains[START] = difference(records, (cell, MATCHED), nothing, measure)
            for name, estimate in gains.items():
                if estimate is None:
                    continue
                ids = {"scale": records.scale, **cell._asdict(), "measure": measure, "gain": name}
                sides = dict(zip(("of", "against"), GAINS.get(name, (MATCHED, FROM_NOTHING)), strict=True))
                state = {"gate": gates[cell.pair, cell.task]}
                rows.append(ids | sides | _numbers(estimate, name, margin) | state)
    frame = pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64"})
    frame.insert(frame.columns.get_loc("p_value") + 1, "p_holm", float("nan"))
    frame.insert(frame.columns.get_loc("equivalence_p") + 1, "equivalence_holm", float("nan"))
    for _, cells in frame.groupby(["measure", "gain"]):
        frame.loc[cells.index, "p_holm"] = holm(cells["p_value"])
    for _, cells in frame.groupby("measure"):
        frame.loc[cells.index, "equivalence_holm"] = holm(cells["equivalence_p"])
    return frame.assign(finding=[_finding(row) for row in frame.to_dict("records")])


def _numbers(estimate: Estimate, name: str, margin: float) -> dict[str, object]:
    bounds = {column: getattr(estimate, column) for column in ("value", "low", "high", "n", "seeds", "p_value")}
    is_tested = name in AGAINST_RECEIVER
    equivalence = estimate.equivalence_p(margin) if is_tested else float("nan")
    return bounds | {
        "margin": margin if is_tested else float("nan"),
        "equivalence_p": equivalence,
        **dict(zip(REACH, _reach(estimate) if is_tested else 3 * (float("nan"),), strict=True)),
    }


def _reach(estimate: Estimate) -> tuple[float, float, float]:
    """How far a gain is from zero, and the nearer and the farther end of its 90 % interval.

    The farther end is the smallest margin at which equivalence would be stated.
    """
    half = estimate.equivalence_margin - abs(estimate.value)
    return abs(estimate.value), max(abs(estimate.value) - half, 0.0), estimate.equivalence_margin


def _finding(row: dict[str, float]) -> str:
    """Equivalence comes first: a difference that is seen may lie within the margin all the same."""
    if row["equivalence_holm"] <= LEVEL:
        return EQUIVALENT
    return ABOVE if row["low"] > 0 else BELOW if row["high"] < 0 else UNDECIDED


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Channel": titles(frame, "channel"),
            "Measure": list(frame["measure"]),
            "Gain": titles(frame, "gain"),
            "Points [95 %]": estimates(frame, sign=True),
            **sizes(frame),
            "p (Holm)": p_values(frame, "p_holm"),
            "Equivalence, p (Holm)": p_values(frame, "equivalence_holm"),
            "Smallest margin, points": decimals(frame, "reach_high", 1),
            "Finding": list(frame["finding"]),
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    notes = [
        "Paired differences in points over items and trainings. OPE: matched less Receiver; OME: deranged less "
        "Receiver, what any message does; CAG: matched less deranged, so that OPE = OME + CAG; SSG: matched less the "
        "Receiver's own reading sent as the message; communication: matched less the same parameters, no message.",
        f"Equivalence: two one-sided tests at a margin of {decimal(margin_of(records.scale), 1)} points, which was "
        "fixed before the runs; p is adjusted for all cells of this kind (Holm). The smallest margin is the one at "
        "which the unadjusted test states equivalence: above the margin it tells of too few items or trainings.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=MessageRecords.load)
