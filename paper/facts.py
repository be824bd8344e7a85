"""Numbers in prose, from files: ``{value:table-8/…}`` in a text becomes the paper's printed value.

| placeholder | becomes |
| --- | --- |
| ``{value:ID}`` | a printed value of ``paper/reference_values.csv`` |
| ``{mean:PATTERN}`` | the mean of the printed values whose ids match a shell pattern |
| ``{claim:ID}`` | the paper's value of a claim, by its formula in ``paper/claims.yaml`` |
| ``{ours:SCALE/CLAIM}`` | our value of a claim with its interval, from the committed verdicts |
| ``{verdict:SCALE/CLAIM}`` | its verdict |
| ``{file:FILE KEY.KEY}`` | a value of a YAML or JSON file; an entry of a list is chosen by its pair |
| ``{cell:FILE COLUMN KEY=VALUE …}`` | the cell of the one row of a table with these values; ``COLUMN:.1f`` formats it |
| ``{interval:FILE NAME KEY=VALUE …}`` | ``NAME_value [NAME_low, NAME_high]`` of the row; ``NAME:+.1f`` has a sign |
| ``{interval:FILE value …}`` | the same of the columns ``value``, ``low`` and ``high`` |
| ``{count:FILE KEY=VALUE …}`` | how many rows have these values |
| ``{range:FILE COLUMN KEY=VALUE …}`` | the smallest and the largest number of a column, as in "60 to 600" |
| ``{sum:FILE COLUMN KEY=VALUE …}`` | the sum of a column |

A table is a ``.csv``, a ``.tsv`` or a JSON list; a value with spaces is quoted. Files are named from the repository's
root. What a file does not hold is refused.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError, check_choice
from c2c.storage.formats import read_json, read_yaml
from c2c.testbed.card.numbers import MINUS, NOTHING, decimal, show
from paper.reading.reference import Reference

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = re.compile(r"\{(value|mean|claim|ours|verdict|file|cell|interval|count|range|sum):([^{}]+)\}")
PERCENT_UNITS = ("%", "pp")
"""Units whose values the paper prints with two decimals."""
DIGITS = 2
BOUNDS = ("value", "low", "high")
FORMAT = re.compile(r"(\+?)\.(\d)f")
REMEDY = "Correct the placeholder (paper/facts.py lists the kinds)"


def fill(text: str) -> str:
    """The text with the value of each placeholder in its place.

    Raises:
        RefusedError: A placeholder names what its file does not hold.
    """
    return PLACEHOLDER.sub(lambda match: KINDS[match[1]](" ".join(match[2].split())), text)


def placeholders(text: str) -> Iterator[str]:
    """All placeholders of a text, as they are written."""
    return (match[0] for match in PLACEHOLDER.finditer(text))


def printed_value(name: str) -> str:
    """A value of the paper: with two decimals if it is a percentage, else as the file has it."""
    reference = _reference()
    value = reference.evaluate(name)
    unit = reference.frame.set_index("id").loc[name, "unit"]
    return decimal(value, DIGITS).replace("-", MINUS) if unit in PERCENT_UNITS else f"{value:,.10g}"


def printed_mean(pattern: str) -> str:
    """The mean of printed values, with two decimals."""
    return decimal(_reference().evaluate({"mean": pattern}), DIGITS).replace("-", MINUS)


def claim_value(name: str) -> str:
    """What the paper states by a claim, with two decimals."""
    formulas = {claim["id"]: claim["paper"] for claim in _claims()["claims"] if "paper" in claim}
    check_choice("The claim of a placeholder", name, list(formulas))
    return decimal(_reference().evaluate(formulas[name]), DIGITS).replace("-", MINUS)


def our_value(place: str) -> str:
    """Our value of a claim at a scale, with its interval; "not run" where there is none."""
    claim = _verdict(place)
    return show(claim["value"], claim["low"], claim["high"], DIGITS)


def verdict(place: str) -> str:
    """The verdict on a claim at a scale."""
    return str(_verdict(place)["verdict"])


def file_value(argument: str) -> str:
    """The value of a key of a YAML or JSON file."""
    name, _, path = argument.partition(" ")
    level: Any = _content(name)
    for key in path.split("."):
        # The entries of a list are those of runs: they have a pair.
        entries = {entry["pair"]: entry for entry in reversed(level)} if isinstance(level, list) else level
        if not isinstance(entries, dict) or key not in entries:
            raise RefusedError("A placeholder must name a key of its file", argument, REMEDY)
        level = entries[key]
    if isinstance(level, int) and not isinstance(level, bool):
        return f"{level:,}"
    return f"{level:g}" if isinstance(level, float) else str(level)


def cell(argument: str) -> str:
    """A cell of a table: of the one row that the conditions leave."""
    name, column, conditions = _parts(argument)
    column, _, form = column.partition(":")
    rows = _rows(name, conditions)
    if len(rows) != 1 or column not in rows:
        rule = "A placeholder must name one row and a column of its table"
        raise RefusedError(rule, f"{argument}: {len(rows)} rows", REMEDY)
    text = str(rows[column].iloc[0])
    sign, digits = _form(form)
    return text if digits is None else _number(float(text), digits, sign)


def interval(argument: str) -> str:
    """A value of one row with its interval."""
    name, prefix, conditions = _parts(argument)
    prefix, _, form = prefix.partition(":")
    sign, digits = _form(form or ".1f")
    columns = BOUNDS if prefix == BOUNDS[0] else [f"{prefix}_{bound}" for bound in BOUNDS]
    texts = [cell(shlex.join([name, column, *conditions])) for column in columns]
    value, low, high = (float(text) if text else None for text in texts)
    return NOTHING if value is None or low is None or high is None else show(value, low, high, digits or 0, bool(sign))


def count(argument: str) -> str:
    """The number of rows with some values."""
    name, *conditions = shlex.split(argument)
    return f"{len(_rows(name, conditions)):,}"


def number_range(argument: str) -> str:
    """The smallest and the largest number of a column; the number alone where they are the same."""
    numbers = _column(argument)
    ends = [f"{end:,.10g}" for end in sorted({numbers.min(), numbers.max()})]
    return " to ".join(ends)


def column_sum(argument: str) -> str:
    """The sum of a column, with as many decimals as ``COLUMN:.1f`` states."""
    _, column, _ = _parts(argument)
    _, digits = _form(column.partition(":")[2] or ".0f")
    return f"{_column(argument).sum():,.{digits}f}"


KINDS: dict[str, Callable[[str], str]] = {
    "value": printed_value,
    "mean": printed_mean,
    "claim": claim_value,
    "ours": our_value,
    "verdict": verdict,
    "file": file_value,
    "cell": cell,
    "interval": interval,
    "count": count,
    "range": number_range,
    "sum": column_sum,
}


@functools.cache
def _reference() -> Reference:
    return Reference()


@functools.cache
def _content(name: str) -> Any:
    path = ROOT / name
    if not path.is_file():
        raise RefusedError("A placeholder must name a file of the repository", name, REMEDY)
    return read_json(path, REMEDY) if path.suffix == ".json" else read_yaml(path, REMEDY)


@functools.cache
def _table(name: str) -> pd.DataFrame:
    path = ROOT / name
    if not path.is_file():
        raise RefusedError("A placeholder must name a file of the repository", name, REMEDY)
    if path.suffix == ".json":
        return pd.DataFrame(_content(name))
    separator = "\t" if path.suffix == ".tsv" else ","
    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, comment="#")


def _claims() -> Any:
    return _content("paper/claims.yaml")


def _verdict(place: str) -> dict[str, Any]:
    scale, _, name = place.partition("/")
    claims = {claim["id"]: claim for claim in _content(f"paper/records/{scale}/claims.json")}
    check_choice("The claim of a placeholder", name, list(claims))
    return claims[name]


def _parts(argument: str) -> tuple[str, str, list[str]]:
    name, column, *conditions = shlex.split(argument)
    return name, column, conditions


def _rows(name: str, conditions: list[str]) -> pd.DataFrame:
    rows = _table(name)
    for condition in conditions:
        column, _, value = condition.partition("=")
        if column not in rows:
            raise RefusedError("A placeholder must name columns of its table", f"{name}: {column}", REMEDY)
        rows = rows[rows[column] == value]
    return rows


def _column(argument: str) -> pd.Series:
    name, column, conditions = _parts(argument)
    rows = _rows(name, conditions)
    column = column.partition(":")[0]
    numbers = pd.to_numeric(rows[column], errors="coerce").dropna() if column in rows else pd.Series(dtype=float)
    if numbers.empty:
        raise RefusedError("A placeholder must name a column with numbers", argument, REMEDY)
    return numbers


def _form(form: str) -> tuple[str, int | None]:
    """The sign and the digits of a format such as ``+.1f``; no digits where there is none."""
    if not form:
        return "", None
    match = FORMAT.fullmatch(form)
    if match is None:
        raise RefusedError("The format of a placeholder must be of the form .1f or +.1f", form, REMEDY)
    return match[1], int(match[2])


def _number(value: float, digits: int, sign: str) -> str:
    return f"{value:{sign},.{digits}f}".replace("-", MINUS)
