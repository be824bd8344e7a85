"""The gains of every channel under the names of the causal audits, with equivalence to the Receiver (TOST)."""

from __future__ import annotations

import pandas as pd

from c2c.stats import Estimate, holm
from c2c.testbed.card import gate
from c2c.testbed.card.comparing import AGAINST_RECEIVER, GAINS, LEVEL, difference, gain
from c2c.testbed.card.records import BOUNDS, MATCHED, MessageRecords

FROM_NOTHING, ON_RIDGE, START = "c2c", "c2c_on_ridge", "ridge_start"
"""Channels with the same Fusers from random weights and on top of ridge, and the gain of the latter over the former."""
REACH = ("reach_value", "reach_low", "reach_high")
ABOVE, BELOW, EQUIVALENT, UNDECIDED = "above zero", "below zero", "equivalent", "undecided"


def build_gains(records: MessageRecords) -> pd.DataFrame:
    """One row a cell, measure and gain, in points; cells without the message have no row.

    `p_holm` is adjusted for the cells of the same gain and measure; `equivalence_holm`, of gains of `AGAINST_RECEIVER`,
    for all their cells with the same measure. `reach_*` is how far a gain lies from zero, with its 90 % interval.
    """
    margin, gates = records.settings.margin, gate.states(records)
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
    for p_value, adjusted, groups in (
        ("p_value", "p_holm", ["measure", "gain"]),
        ("equivalence_p", "equivalence_holm", ["measure"]),
    ):
        holms = frame.groupby(groups)[p_value].transform(lambda values: holm(values.tolist()))
        frame.insert(list(frame).index(p_value) + 1, adjusted, holms)
    findings = [
        _finding(holm_p, low, high) for holm_p, low, high in frame[["equivalence_holm", "low", "high"]].to_numpy(float)
    ]
    return frame.assign(finding=findings)


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


def _finding(equivalence_holm: float, low: float, high: float) -> str:
    """Equivalence comes first: a difference that is seen may lie within the margin all the same."""
    if equivalence_holm <= LEVEL:
        return EQUIVALENT
    return ABOVE if low > 0 else BELOW if high < 0 else UNDECIDED
