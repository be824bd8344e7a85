"""Answers that failed, and so count as wrong: a column of each tidy table, a note below it, a sentence of the paper."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from paper.reading import names
from paper.reading.answers import AT_STEP, Answers

COLUMN = "failed"
CELL = ["pair", "benchmark", "arm"]
SHOWN = 8
"""Cells that a note names; of more it says how many there are."""


def with_failures(frame: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """`frame` with a column `failed` where any answer of the scale failed, else `frame` itself.

    The column counts failed answers of the row's pair, benchmark, seed and arms, as far as the row names them.
    """
    failures = answers.marked[answers.marked["failed"]]
    if failures.empty or COLUMN in frame:
        return frame
    return frame.assign(failed=[_failed(row, failures) for row in frame.to_dict("records")])


def notes(answers: Answers) -> list[str]:
    """One sentence that names the cells with failed answers; none where no answer failed."""
    failures = answers.marked.groupby(CELL, sort=False)["failed"].agg(["sum", "size"])
    return _sentence([(*key, int(row["sum"]), int(row["size"])) for key, row in failures.iterrows()])


def notes_of_tables(results: Path) -> list[str]:
    """The same sentence from the written tables of a results folder."""
    cells: dict[tuple[str, ...], tuple[int, int]] = {}
    for path in sorted(results.glob("tables/*.csv")):
        frame = pd.read_csv(path, keep_default_na=False)
        if {*CELL, COLUMN, "n"} <= set(frame.columns):
            for row in frame[~frame[COLUMN].isin(["", 0, "0"])].to_dict("records"):
                cells.setdefault(tuple(str(row[key]) for key in CELL), (int(row[COLUMN]), 0))
    return _sentence([(*key, failed, total) for key, (failed, total) in cells.items()])


def _failed(row: dict[Any, Any], failures: pd.DataFrame) -> int:
    rows = failures
    for column in ("pair", "benchmark", "receiver", "sharer"):
        if row.get(column) and not pd.isna(row[column]):
            rows = rows[rows[column] == row[column]]
    if "seed" in row and not pd.isna(row["seed"]):
        rows = rows[rows["seed"] == row["seed"]]
    arms = {str(row[side]) for side in ("arm", "of", "against") if row.get(side)}
    if arms:
        step = f"{AT_STEP}{row['step']}" if row.get("step") else ""
        rows = rows[rows["arm"].isin(arms | {f"{arm}{step}" for arm in arms})]
    return len(rows)


def _sentence(cells: Iterable[tuple[Any, ...]]) -> list[str]:
    cell_texts = [
        f"{names.title('pairs', pair)} / {names.title('benchmarks', benchmark)} / {names.title('arms', arm)}: {failed}"
        + (f" of {total}" if total else "")
        for pair, benchmark, arm, failed, total in cells
        if failed
    ]
    more = f"; and {len(cell_texts) - SHOWN} more" if len(cell_texts) > SHOWN else ""
    return [f"Answers that failed, and so count as wrong: {'; '.join(cell_texts[:SHOWN])}{more}."] if cell_texts else []
