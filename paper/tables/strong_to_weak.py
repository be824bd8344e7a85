"""From strong to weak: how much of the gap between Receiver and Sharer each method recovers (the paper's Table 9)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import Estimate, crossed_ratio, mean_with_interval, paired_difference
from paper.reading.answers import Answers
from paper.reading.files import read_if_given
from paper.rows import TIME_OF, comparison, comparison_notes, comparison_text
from paper.writing.output import NOTHING, fixed, notes_on_gaps, percent, run_table, show, write_table

PLACE, ARMS = "Table 9", ("sharer", "receiver", "t2t", "c2c", "projected", "adapter")
MORE = {**TIME_OF, "paper_pgr": "PGR"}
BOUNDS = ("pgr_value", "pgr_low", "pgr_high")
ENDS = ("receiver", "sharer")


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and method, in percent; `pgr` is the performance gap recovered, in percent.

    PGR = (method - Receiver) / (Sharer - Receiver), empty where the interval of the gap covers zero.
    """
    frame = comparison(answers, latency, PLACE, ARMS, more=MORE)
    rows = []
    for row in frame.itertuples():
        shares = percent(_recovered(answers, row.pair, row.benchmark, row.arm), "pgr_")
        rows.append({name: shares[name] for name in BOUNDS})
    printed_shares = frame.pop("paper_pgr")
    return frame.join(pd.DataFrame(rows, index=frame.index).astype(float)).assign(paper_pgr=printed_shares)


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    shares = {"PGR, % [95 %]": [NOTHING if pd.isna(row[0]) else show(*row) for row in frame[list(BOUNDS)].to_numpy()]}
    if frame["paper_pgr"].notna().any():
        shares["Paper's PGR, %"] = [NOTHING if pd.isna(value) else fixed(value, 0) for value in frame["paper_pgr"]]
    return comparison_text(frame, shares)


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        "PGR, the performance gap recovered: (method - Receiver) / (Sharer - Receiver), with the paired 95 % interval "
        "of a bootstrap over questions and seeds. A dash: the gap's interval covers zero, or the row is one end.",
        *comparison_notes(frame, "strong_to_weak", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def gap_recovered(method: pd.DataFrame, receiver: pd.DataFrame, sharer: pd.DataFrame) -> Estimate | None:
    """(method - receiver) / (sharer - receiver) with its paired interval; 0 is the Receiver, 1 the Sharer.

    Args:
        method: Answers `(Q, S)` of the method, 0 to 1.
        receiver: Those of the Receiver alone.
        sharer: Those of the Sharer alone.

    Returns:
        The recovered fraction of the gap, or None where the interval of the gap covers zero: then there is nothing to
        recover, or its sign is unknown.

    Raises:
        RefusedError: As `paired_difference`.
    """
    gap = paired_difference(sharer, receiver)
    estimate = mean_with_interval(gap)
    if estimate.low <= 0 <= estimate.high:
        return None
    return crossed_ratio(paired_difference(method, receiver), gap)


def _recovered(answers: Answers, pair: str, benchmark: str, arm: str) -> Estimate | None:
    method, receiver, sharer = (answers.get(pair, benchmark, name) for name in (arm, *ENDS))
    if arm in ENDS or method is None or receiver is None or sharer is None:
        return None
    return gap_recovered(method, receiver, sharer)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read, latency=read_if_given)
