"""Departures from the paper at one scale: rows of ``paper/deviations.md`` below the headings that name the scale."""

from __future__ import annotations

from pathlib import Path

from c2c.errors import RefusedError

PATH = Path(__file__).with_name("deviations.md")
EVERY, SOME = "Every scale", "Scales: "
"""Headings: of rows that hold at every scale, and the beginning of those that name scales."""
BASE = "paper"
"""A scale that no heading names is laid over ``config/config.yaml``, and has the rows of this one."""


def departures(scale: str, path: Path = PATH) -> list[list[str]]:
    """The column names, then the rows that hold at `scale`, as cells.

    Raises:
        RefusedError: A row is below no heading, or a heading has another form.
    """
    columns: list[str] = []
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
            if heading != EVERY and not heading.startswith(SOME):
                rule = "A heading of the departures must be 'Every scale', or 'Scales: ' and names of scales"
                raise RefusedError(rule, heading, f"Correct it in {path}")
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not heading:
            raise RefusedError(
                "A departure must be below a heading that names its scales", cells[0], f"Move it in {path}"
            )
        if set("".join(cells)) == {"-"}:
            continue
        columns = columns or cells
        if cells != columns:
            tables.setdefault(heading, []).append(cells)
    # The scales that a heading names, by heading
    scales = {heading: heading.removeprefix(SOME).split(", ") for heading in tables if heading != EVERY}
    name = scale if any(scale in ids for ids in scales.values()) else BASE
    rows = [row for heading, table in tables.items() if heading == EVERY or name in scales[heading] for row in table]
    return [columns, *rows]
