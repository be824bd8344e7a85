"""Numbers as text, written alike in tables, figures, sentences and the PDF."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

NOT_RUN = "not run"
NOTHING, MINUS = "–", "−"
DECIMALS = 4
"""Decimals of every number in a .csv."""


def is_missing(value: object) -> bool:
    """Whether a cell holds no number: None, not a number, or pandas' missing value."""
    return value is None or str(value) in ("nan", "<NA>")


def decimal(value: float | None, digits: int = 2) -> str:
    """The number with so many decimals, or a dash.

    What the .csv holds of it is rounded, with halves away from zero, as the PDF rounds it too.
    """
    if value is None or is_missing(value):
        return NOTHING
    number = Decimal(f"{value:.{DECIMALS}f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return str(number if number else abs(number))


def show(value: float | None, low: float, high: float, digits: int = 1, sign: bool = False) -> str:
    """A number with its interval, as in "93.4 [91.0, 95.2]"; "not run" where there is none."""
    if value is None or is_missing(value):
        return NOT_RUN
    number = _signed(value, digits, "+" if sign else "")
    return number if is_missing(low) else f"{number} [{_signed(low, digits)}, {_signed(high, digits)}]"


def show_bounds(low: float, high: float, digits: int = 1) -> str:
    """An interval alone, as in "[−1.0, 5.2]"; a dash where there is none."""
    return NOTHING if is_missing(low) else f"[{_signed(low, digits)}, {_signed(high, digits)}]"


def show_difference(value: float | None, low: float = math.nan, high: float = math.nan) -> str:
    """A difference with its sign and its interval, as in "+3.1 [1.0, 5.2]"; a dash where there is none."""
    return NOTHING if is_missing(value) else show(value, low, high, sign=True)


def count(value: float | int | None) -> str:
    """A whole number, or a dash."""
    return NOTHING if value is None or is_missing(value) else f"{int(value)}"


def p_value(value: float | None) -> str:
    """A p-value with three decimals, as in "0.021"; "< 0.001" below that, and a dash where there is none."""
    if value is None or is_missing(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else decimal(value, 3)


def _signed(value: float, digits: int, plus: str = "") -> str:
    """The number with a true minus sign, and no sign before a zero."""
    text = decimal(value, digits)
    return (plus if float(text) > 0 else "") + text.replace("-", MINUS)
