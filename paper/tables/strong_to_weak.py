"""From strong to weak: how much of the gap between Receiver and Sharer each method recovers (the paper's Table 9)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import Estimate, mean_with_interval, paired_difference, ratio_with_interval
from c2c.testbed.card.numbers import NOT_RUN, NOTHING
from paper.reading.answers import Answers
from paper.reading.files import read_if_given
from paper.rows import TIME_OF, comparison, comparison_notes, comparison_text, with_gain
from paper.writing.columns import decimals, estimates
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, ARMS = "Table 9", ("sharer", "receiver", "t2t", "c2c", "projected", "adapter")
METRICS = {**TIME_OF, "paper_pgr": "PGR"}
ENDS = ("receiver", "sharer")


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and method, in percent; `pgr` is the performance gap recovered, in percent.

    PGR = (method - Receiver) / (Sharer - Receiver), empty where the interval of the gap covers zero.
    """
    frame = comparison(answers, latency, PLACE, ARMS, more=METRICS)
    paper_shares = frame.pop("paper_pgr")
    frame = with_gain(frame, lambda row: _recovered(answers, row.pair, row.benchmark, row.arm), "pgr")
    return frame.assign(paper_pgr=paper_shares)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    shares = [NOTHING if text == NOT_RUN else text for text in estimates(frame, "pgr_")]
    columns = {"PGR, % [95 %]": shares}
    if frame["paper_pgr"].notna().any():
        columns["Paper's PGR, %"] = decimals(frame, "paper_pgr", 0)
    return comparison_text(frame, columns)


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        "PGR, the performance gap recovered: (method - Receiver) / (Sharer - Receiver), with a paired 95 % t interval "
        "(delta method). A dash: the gap's interval covers zero, or the row is one end.",
        *comparison_notes(frame, "strong_to_weak", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


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
    return ratio_with_interval(paired_difference(method, receiver), gap)


def _recovered(answers: Answers, pair: str, benchmark: str, arm: str) -> Estimate | None:
    method, receiver, sharer = (answers.get(pair, benchmark, name) for name in (arm, *ENDS))
    if arm in ENDS or method is None or receiver is None or sharer is None:
        return None
    return gap_recovered(method, receiver, sharer)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load, latency=read_if_given)
