"""Prepared files of questions, checked line by line before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.storage.formats import read_json_lines

REMEDY = "Prepare the benchmark again: python -m benchmarks.prepare, or as benchmarks/tasks/README.md says"
NEVER_NULL = ("id", "question", "answer", "answers", "options", "context")
"""Columns of a question that a task file prints or compares; where a file has them, each line does."""
INTEGER_LIMIT = 2**63
"""No whole number of a column may reach it."""


def read_questions(path: Path, benchmark: str, columns: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The questions of a file of JSON lines.

    Args:
        path: The file.
        benchmark: What the messages call it.
        columns: That each question must have, beside its id.

    Raises:
        RefusedError: With the line, where it is no JSON object, has no id or another line's, lacks a column that it
            must have or holds null there, has a number that is not finite or too large, or a value of another kind
            than the lines above.
    """
    rows: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    places: dict[str, int] = {}
    needed = dict.fromkeys(("id", *columns))
    for number, row in read_json_lines(path, REMEDY):
        where = f"Line {number} of {path.name}, a question of {benchmark},"
        needed |= dict.fromkeys(column for column in NEVER_NULL if column in row)
        _check_columns(where, row, needed)
        _check_values(where, row, kinds)
        first = places.setdefault(str(row["id"]), number)
        if first != number:
            raise RefusedError(f"{where} must have an id of its own", f"{row['id']!r}, as line {first}", REMEDY)
        rows.append(row)
    if not rows:
        raise RefusedError(f"{path.name} must hold a question of {benchmark} at least", "no line", REMEDY)
    # A column that came up late was never asked of the lines above.
    for row in rows:
        _check_columns(f"Question {row['id']!r} of {path.name}", row, needed)
    return rows


def _check_columns(where: str, row: Mapping[str, Any], needed: Iterable[str]) -> None:
    if empty := [name for name in needed if row.get(name) is None]:
        raise RefusedError(f"{where} must have {', '.join(needed)}, and null in none of them", f"no {empty}", REMEDY)
    if isinstance(row["id"], bool) or not isinstance(row["id"], (str, int)) or row["id"] == "":
        raise RefusedError(f"{where} must have an id that is a text or a whole number", row["id"], REMEDY)


def _check_values(where: str, row: Mapping[str, Any], kinds: dict[str, str]) -> None:
    for name, value in row.items():
        if _is_out_of_range(value):
            raise RefusedError(f"{where} must hold finite numbers below 2^63 in {name}", value, REMEDY)
        kind = _kind(value)
        if kind and kinds.setdefault(name, kind) != kind:
            rule = f"{where} must hold {kinds[name]} in {name}, as the lines above"
            raise RefusedError(rule, value, REMEDY)


def _is_out_of_range(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_out_of_range, value.values()))
    if isinstance(value, list):
        return any(map(_is_out_of_range, value))
    return (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and not -INTEGER_LIMIT <= value < INTEGER_LIMIT
    )


def _kind(value: Any) -> str:
    """The kind of a value, for messages; nothing for null and an empty list, which fit any."""
    if isinstance(value, list):
        inner = sorted({kind for element in value if (kind := _kind(element))})
        return f"a list of {' and '.join(inner)}" if inner else ""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", dict: "an object"}
    return names.get(type(value), "")
