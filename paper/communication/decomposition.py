"""The gains of every channel under the names of the causal audits, with equivalence to the Receiver (TOST)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import Estimate, holm
from paper.communication import gate
from paper.communication.comparing import AGAINST_RECEIVER, GAINS, LEVEL, difference, gain
from paper.communication.records import BOUNDS, MATCHED, MessageRecords
from paper.reading import names
from paper.reading.margin import margin_of
from paper.writing.columns import estimates, sizes
from paper.writing.numbers import decimal
from paper.writing.output import run_table, write_table

FROM_NOTHING, ON_RIDGE, START = "c2c", "c2c_on_ridge", "ridge_start"
"""Channels with the same Fusers from random weights and on top of ridge, and the gain of the latter over the former."""
REACH = ("reach_value", "reach_low", "reach_high")
PRINTED = ("OPE", "OME", "CAG", "SSG", "communication")
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
    """The table as it is printed: a row a channel, by the measure on which its evidence rests; the .csv has all."""
    lines = []
    for (pair, task), cells in frame.groupby(["pair", "task"], sort=False):
        own = cells[cells["measure"] == cells["measure"].iloc[0]]
        for channel, gains in own.groupby("channel", sort=False):
            texts = dict(zip(gains["gain"], _marked(gains), strict=True))
            equivalent = gains.loc[gains["finding"] == EQUIVALENT, "gain"]
            lines.append(
                {
                    "Pair": names.title("pairs", pair),
                    "Task": names.title("tasks", task),
                    "Channel": names.title("channels", channel),
                    **{names.title("gains", name): texts.get(name, "–") for name in PRINTED},
                    "Equivalent to no message": ", ".join(names.title("gains", name) for name in equivalent) or "–",
                    **{name: column[0] for name, column in sizes(gains).items()},
                }
            )
    return pd.DataFrame(lines)


def _marked(gains: pd.DataFrame) -> list[str]:
    """Gains with their intervals, and a star where Holm's p is below `LEVEL`."""
    stars = ["*" if p_value < LEVEL else "" for p_value in gains["p_holm"]]
    return [text + star for text, star in zip(estimates(gains, sign=True), stars, strict=True)]


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records)
    notes = [
        "Paired differences in points over items and trainings. OPE: matched less Receiver; OME: deranged less "
        "Receiver, what any message does; CAG: matched less deranged, so that OPE = OME + CAG; SSG: matched less the "
        "Receiver's own reading sent as the message; communication: matched less the same parameters, no message.",
        "A star: p below 0.05 after Holm's adjustment for all channels and tasks of a gain.",
        f"Equivalent to no message: by two one-sided tests, at a margin of {decimal(margin_of(records.scale), 1)} "
        "points that was fixed before the runs, adjusted for all cells of this kind (Holm). The .csv has both measures "
        "and all gains, p values, and the smallest margin of equivalence: if it is above ours, it tells of too "
        "few items or trainings.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=MessageRecords.load)
