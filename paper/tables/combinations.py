"""Combinations of models, and pairs with swapped roles: each method's accuracy, and C2C's gain over text (Table 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import Estimate
from paper.reading import names
from paper.reading.answers import Answers, difference
from paper.reading.files import read_if_given
from paper.rows import comparison, comparison_notes, comparison_text, with_gain
from paper.writing.columns import differences
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, ARMS = "Table 7", ("receiver", "sharer", "t2t", "c2c")
SWAP, PLAIN = "swap", "combination"


def build(answers: Answers, latency: pd.DataFrame | None) -> pd.DataFrame:
    """One row a pair, benchmark and method, in percent; `gain` is C2C less T2T, in points, in the rows of C2C.

    `kind` is `SWAP` where another pair has the same two models in the other roles.
    """

    def beyond_text(row: Any) -> Estimate | None:
        c2c, t2t = (answers.get(row.pair, row.benchmark, arm) for arm in ("c2c", "t2t"))
        return difference(c2c, t2t) if row.arm == "c2c" else None

    frame = comparison(answers, latency, PLACE, ARMS)
    models = list(zip(frame["receiver"], frame["sharer"], strict=True))
    kinds = [SWAP if receiver != sharer and (sharer, receiver) in models else PLAIN for receiver, sharer in models]
    return with_gain(frame.assign(kind=kinds), beyond_text)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed; a pair is named with its two models."""
    pairs = [_title(row) for row in frame.itertuples()]
    return comparison_text(frame, {"Difference to T2T, points": differences(frame, "gain_")}).assign(Pair=pairs)


def _title(row: Any) -> str:
    """The pair with its kind; its models too, unless the title names them."""
    title = f"{names.title('pairs', row.pair)} ({row.kind})"
    models = [names.title("models", name) for name in (row.receiver, row.sharer)]
    return title if " from " in title else f"{title}: {' from '.join(models)}"


def write(answers: Answers, latency: pd.DataFrame | None, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, latency)
    notes = [
        *([] if (frame["kind"] == SWAP).any() else ["Not run: a swap. No two pairs have the same models."]),
        *comparison_notes(frame, "combinations", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load, latency=read_if_given)
