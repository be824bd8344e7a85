"""The margin of equivalence of a scale."""

from __future__ import annotations

from functools import cache

from c2c.storage.formats import read_yaml
from c2c.testbed.card.records import MARGIN
from paper.reading.runs import CONFIG


@cache
def margin_of(scale: str) -> float:
    """The margin of equivalence of a scale in points: `testbed.margin` of its config, else `MARGIN`."""
    path = CONFIG / f"{scale}.yaml"
    section = read_yaml(path, f"Restore {path}").get("testbed") if path.is_file() else None
    return float((section or {}).get("margin", MARGIN))
