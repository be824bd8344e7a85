"""Combinations of models, and pairs with swapped roles: each method's accuracy, and C2C's gain over text (Table 7)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading import names
from paper.reading.answers import Answers, difference
from paper.reading.files import read_if_given
from paper.rows import comparison, comparison_notes, comparison_text
from paper.writing.output import NOTHING, notes_on_gaps, percent, run_table, show, write_table

PLACE, ARMS = "Table 7", ("receiver", "sharer", "t2t", "c2c")
GAIN = ("gain_value", "gain_low", "gain_high")
SWAP, PLAIN = "swap", "combination"


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and method, in percent; `gain` is C2C less T2T, in points, in the rows of C2C.

    `kind` is `SWAP` where another pair has the same two models in the other roles.
    """
    frame = comparison(answers, latency, PLACE, ARMS)
    pairs = set(frame[["receiver", "sharer"]].itertuples(index=False, name=None))
    swapped = [sharer != receiver and (sharer, receiver) in pairs for receiver, sharer in _models(frame)]
    gains = []
    for row in frame.itertuples():
        methods = [answers.get(row.pair, row.benchmark, name) for name in ("c2c", "t2t")]
        gain = percent(difference(*methods) if row.arm == "c2c" else None, "gain_")
        gains.append({name: gain[name] for name in GAIN})
    kinds = [SWAP if swap else PLAIN for swap in swapped]
    return frame.assign(kind=kinds).join(pd.DataFrame(gains, index=frame.index).astype(float))


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads; a pair is named with its two models."""
    shown = [NOTHING if pd.isna(gain[0]) else show(*gain, sign=True) for gain in frame[list(GAIN)].to_numpy(float)]
    table = comparison_text(frame, {"Less T2T, points": shown})
    titles = [
        f"{names.title('pairs', row.pair)} ({row.kind}): {names.title('models', row.receiver)} from "
        f"{names.title('models', row.sharer)}"
        for row in frame.itertuples()
    ]
    return table.assign(Pair=titles)


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        *([] if (frame["kind"] == SWAP).any() else ["Not run: a swap. No two pairs have the same models."]),
        *comparison_notes(frame, "combinations", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _models(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(frame[["receiver", "sharer"]].itertuples(index=False, name=None))


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read, latency=read_if_given)
