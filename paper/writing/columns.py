"""Columns of a printed table, each from columns of its tidy frame."""

from __future__ import annotations

import pandas as pd

from c2c.testbed.card.numbers import NOTHING, count, decimal, p_value, show, show_difference
from paper.reading import names

NAME_KINDS = {
    "pair": "pairs",
    "arm": "arms",
    "benchmark": "benchmarks",
    "gain": "gains",
    "task": "tasks",
    "channel": "channels",
    "message": "messages",
}
"""Columns of a frame whose ids have titles in ``names.yaml``, and the kind of each."""
BOUNDS = ("value", "low", "high")
"""An estimate and the ends of its interval: columns of a frame, with or without a prefix."""
HALF_TITLES = {"key": "keys", "value": "values"}
"""The two halves of a KV-cache, as they are printed."""


def titles(frame: pd.DataFrame, column: str, kind: str = "") -> list[str]:
    """Titles of the ids in a column; `kind` is that of ``names.yaml``, for columns that are not in `NAME_KINDS`."""
    return [names.title(kind or NAME_KINDS[column], str(name)) for name in frame[column]]


def texts(frame: pd.DataFrame, column: str) -> list[str]:
    """Texts as they are; a dash where a row has none."""
    return [text or NOTHING for text in frame[column]]


def estimates(frame: pd.DataFrame, prefix: str = "", sign: bool = False, digits: int = 1) -> list[str]:
    """Numbers with their intervals; "not run" where a row has none."""
    return [show(*bounds, sign=sign, digits=digits) for bounds in _bounds(frame, prefix)]


def differences(frame: pd.DataFrame, prefix: str = "difference_") -> list[str]:
    """Differences with sign and interval; a dash where a row has none."""
    return [show_difference(*bounds) for bounds in _bounds(frame, prefix)]


def signed(frame: pd.DataFrame, column: str) -> list[str]:
    """Differences that have no interval, with their sign; a dash where a row has none."""
    return [show_difference(value) for value in frame[column]]


def decimals(frame: pd.DataFrame, column: str, digits: int = 2) -> list[str]:
    """Numbers with so many decimals; a dash where a row has none."""
    return [decimal(value, digits) for value in frame[column]]


def p_values(frame: pd.DataFrame, column: str) -> list[str]:
    """p-values, as in "0.021" or "< 0.001"; a dash where a row has none."""
    return [p_value(value) for value in frame[column]]


def counts(frame: pd.DataFrame, column: str) -> list[str]:
    """Whole numbers; a dash where a row has none."""
    return [count(value) for value in frame[column]]


def sizes(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of how many questions and training seeds a row rests on."""
    return {"n": counts(frame, "n"), "Seeds": counts(frame, "seeds")}


def _bounds(frame: pd.DataFrame, prefix: str) -> list[tuple[float, float, float]]:
    return list(zip(*(frame[f"{prefix}{bound}"] for bound in BOUNDS), strict=True))
