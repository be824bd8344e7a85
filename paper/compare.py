"""Two runs of one scale compared: the same bytes, but for what ``volatile.yaml`` lists. Exit code 1 if not."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from paper.command import command
from paper.reading.volatile import read_rules

SAME, VOLATILE, CHANGED = "same", "volatile", "CHANGED"


def compare(first: Path, second: Path, rules: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, verdict and explanation of every file in either folder, in sorted order.

    Raises:
        RefusedError: One of the two is not a folder.
    """
    for folder in (first, second):
        if not folder.is_dir():
            raise RefusedError("What is compared must be two folders of results", str(folder), "Run the workflow first")
    names = {str(path.relative_to(root)) for root in (first, second) for path in root.rglob("*") if path.is_file()}
    for name in sorted(names):
        yield name, *_compare_file(first / name, second / name, name, rules)


@command
def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path, help="results of one run")
    parser.add_argument("second", type=Path, help="results of the other run")
    parser.add_argument("--all", action="store_true", help="name the files that are the same, too")
    arguments = parser.parse_args()
    entries = list(compare(arguments.first, arguments.second, read_rules()))
    for name, verdict, why in entries:
        if verdict == CHANGED or arguments.all:
            print(f"{verdict:9} {name}{why and ': ' + why}")
    counts = {verdict: sum(entry[1] == verdict for entry in entries) for verdict in (SAME, VOLATILE, CHANGED)}
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return 1 if counts[CHANGED] else 0


def _compare_file(first: Path, second: Path, name: str, rules: Mapping[str, Any]) -> tuple[str, str]:
    for pattern, why in rules["files"].items():
        if fnmatch(name, pattern):
            return VOLATILE, str(why)
    if not (first.is_file() and second.is_file()):
        return CHANGED, f"only in {'the first' if first.is_file() else 'the second'} folder"
    if first.read_bytes() == second.read_bytes():
        return SAME, ""
    columns = [column for pattern, names in rules["columns"].items() if fnmatch(name, pattern) for column in names]
    keys = [key for pattern, names in rules["keys"].items() if fnmatch(name, pattern) for key in names]
    try:
        if columns:
            return _compare_columns(_cells(first), _cells(second), columns)
        if keys and _without(json.loads(first.read_text()), keys) == _without(json.loads(second.read_text()), keys):
            return VOLATILE, f"keys {', '.join(keys)}"
    except (ValueError, OSError, RecursionError, StopIteration) as error:
        return CHANGED, f"cannot be read: {type(error).__name__}"
    return CHANGED, "other bytes"


def _compare_columns(first: pd.DataFrame, second: pd.DataFrame, volatile: list[str]) -> tuple[str, str]:
    if list(first.columns) != list(second.columns) or len(first) != len(second):
        return CHANGED, "other columns or number of rows"
    changes = [column for column in first if not first[column].astype(str).equals(second[column].astype(str))]
    steady = [str(column) for column in changes if not any(fnmatch(str(column), pattern) for pattern in volatile)]
    return (
        (CHANGED, f"columns {', '.join(steady)}") if steady else (VOLATILE, f"columns {', '.join(map(str, changes))}")
    )


def _cells(path: Path) -> pd.DataFrame:
    """The cells of a table as text: CSV, parquet, or the Markdown and LaTeX that `write_table` writes."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    separator = r" \| " if path.suffix == ".md" else " & "
    lines = (line.strip("| ").removesuffix(r" \\") for line in path.read_text(encoding="utf-8").splitlines())
    rows = [re.split(separator, line) for line in lines]
    head = next(row for row in rows if len(row) > 1)
    body = [(row + [""] * len(head))[: len(head)] for row in rows]
    return pd.DataFrame(body, columns=head)


def _without(content: Any, keys: list[str]) -> Any:
    if isinstance(content, dict):
        return {key: _without(value, keys) for key, value in content.items() if key not in keys}
    return [_without(value, keys) for value in content] if isinstance(content, list) else content


if __name__ == "__main__":
    sys.exit(main())
