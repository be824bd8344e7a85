"""Titles of ids, and reasons for cells that were never run, from ``names.yaml``."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).with_name("names.yaml")


@cache
def _names() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return content


def title(kind: str, name: str) -> str:
    """How the id `name` of `kind` (arms, benchmarks, pairs, ...) is written; the id itself where nothing is listed."""
    return str(_names()[kind].get(name, {}).get("title", name))


def paper_name(kind: str, name: str) -> str | None:
    """What the paper calls `name`, or None."""
    found = _names()[kind].get(name, {}).get("paper")
    return None if found is None else str(found)


def in_order(kind: str, names: object) -> list[str]:
    """`names` in the order of the list, unlisted ones behind in alphabetical order."""
    listed = list(_names()[kind])
    return sorted(set(names), key=lambda name: (listed.index(name) if name in listed else len(listed), name))  # type: ignore[call-overload]


def reason_not_compared(missing: str | None, **cell: str) -> str:
    """Why a difference holds no number: the reason for the missing arm, or that both were trained with other seeds."""
    return "no training seed in common" if missing is None else reason_not_run(arm=missing, **cell)


def reason_not_run(**cell: str) -> str:
    """Why the cell with these ids (pair, arm, alignment, benchmark) holds no number."""
    for entry in _names()["not_run"]:
        if all(fnmatch(cell.get(key, ""), pattern) for key, pattern in entry.items() if key != "reason"):
            return str(entry["reason"])
    return ""
