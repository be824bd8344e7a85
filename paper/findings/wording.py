"""Words that the findings share: numbers with their interval, the cell they are of, and on how many it is so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from c2c.testbed.card.numbers import decimal, show
from paper.reading import names

CELL = ["pair", "benchmark"]


def cell_title(row: pd.Series) -> str:
    """As in "Pair A, free answer"."""
    return names.cell_title(str(row["pair"]), str(row["benchmark"]))


def arm(name: str) -> str:
    """The title of an arm within a sentence."""
    return names.title("arms", name)


def percents(row: pd.Series, prefix: str = "") -> str:
    """As in "97.5 [96.1, 98.8] %"."""
    return f"{show(*_bounds(row, prefix))} %"


def points(row: pd.Series, prefix: str = "difference_") -> str:
    """As in "+90.1 [87.3, 92.6] points"."""
    return f"{show(*_bounds(row, prefix), sign=True)} points"


def tally(rows: pd.DataFrame, prefix: str, of: str = "pairs and benchmarks") -> str:
    """Where intervals lie, as in "above zero on 3 and not distinguishable from zero on 2 of 5 pairs and benchmarks"."""
    estimates = rows.dropna(subset=[f"{prefix}low"])
    above, below = int((estimates[f"{prefix}low"] > 0).sum()), int((estimates[f"{prefix}high"] < 0).sum())
    counts = {"above zero": above, "below zero": below, "not distinguishable from zero": len(estimates) - above - below}
    places = {where: count for where, count in counts.items() if count}
    if len(places) == 1:
        return (
            f"{next(iter(places))} on {'the only one of the' if len(estimates) == 1 else f'all {len(estimates)}'} {of}"
        )
    return f"{series([f'{where} on {count}' for where, count in places.items()])} of {len(estimates)} {of}"


def counted(number: float) -> str:
    """A count that may be a mean over seeds: without decimals where it is whole."""
    return decimal(number, 0 if float(number).is_integer() else 1)


def series(parts: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def rows_with(frame: pd.DataFrame, column: str = "value", **where: Any) -> pd.DataFrame:
    """Rows with a number in `column` and these values."""
    rows = frame.dropna(subset=[column])
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def first_cell(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the pair and benchmark of the first row."""
    return frame[(frame[CELL] == frame[CELL].iloc[0]).all(axis=1)]


def of_arm(rows: pd.DataFrame, name: str) -> pd.Series | None:
    """The row of an arm, or None."""
    matches = rows[rows["arm"] == name]
    return matches.iloc[0] if len(matches) else None


def _bounds(row: pd.Series, prefix: str) -> tuple[float, float, float]:
    value, low, high = (float(row[f"{prefix}{bound}"]) for bound in ("value", "low", "high"))
    return value, low, high
