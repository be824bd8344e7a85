"""The margin of equivalence of a scale."""

from __future__ import annotations

from functools import cache

from c2c.storage.formats import read_yaml
from paper.reading.runs import CONFIG

MARGIN = 2.8
"""In points, where the config of the scale states none."""


@cache
def margin_of(scale: str) -> float:
    """The margin of equivalence of a scale in points: `testbed.margin` of its config, else `MARGIN`."""
    path = CONFIG / f"{scale}.yaml"
    section = read_yaml(path, f"Restore {path}").get("testbed") if path.is_file() else None
    return float((section or {}).get("margin", MARGIN))
