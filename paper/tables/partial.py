"""Progressive fusion: accuracy by the share of each prompt that is fused, at either end (the paper's Figure 11)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from paper.reading import names
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.rows import paper_column, printed_note, with_bounds
from paper.writing.columns import BOUNDS, counts, decimals, differences, estimates
from paper.writing.output import run_table, write_table

SIDES = {"front": "Former", "back": "Latter"}
ID_COLUMNS = ["scale", "pair", "receiver", "sharer", "recipe", "alignment", "benchmark"]
PLACE, PANEL = "Figure 11", "{share}% fused"
PRINTED_RECIPE = "projected"
"""Of which recipe the figure is: with the whole prompt fused it has about what C2C-C reaches elsewhere, not C2C."""


def build(accuracy: pd.DataFrame) -> pd.DataFrame:
    """One row a side and share: C2C, the deranged control, their paired difference, and the paper's value.

    Args:
        accuracy: Columns of `c2c.analysis.accuracy.COLUMNS`, compared with c2c_deranged.
    """
    reference = Reference()
    places = accuracy["setting"].str.split(" ", expand=True)
    tidy = accuracy.assign(side=places[0], share=100 * places[1].astype(float))
    controls = tidy[tidy["method"] == "c2c_deranged"].set_index(["side", "share"])
    rows = []
    for row in tidy[tidy["method"] == "c2c"].to_dict("records"):
        place = (row["side"], row["share"])
        rows.append(
            {name: row[name] for name in ID_COLUMNS}
            | {"side": row["side"], "share": row["share"]}
            | {name: row[name] for name in BOUNDS}
            | {f"deranged_{name}": controls.loc[place, name] for name in BOUNDS}
            | {f"difference_{name}": row[f"difference_{name}"] for name in BOUNDS}
            | {"n": row["n"], "paper": _paper_value(reference, row)}
        )
    frame = pd.DataFrame(rows).astype({"n": "Int64", "paper": float})
    frame = frame.join(pd.DataFrame(steps(frame), index=frame.index))
    numbers = with_bounds("", "deranged", "difference", "step")
    frame[numbers] = frame[numbers].apply(pd.to_numeric)
    return frame


def steps(frame: pd.DataFrame) -> list[dict[str, float | None]]:
    """Columns of the change from the next smaller share at the same end, in points; empty at the smallest share.

    The interval is Newcombe's, from those of both shares, as if questions differed. They are the same, so that it is
    wider than one of paired differences; the table that this is made from has no single answers.
    """
    rows: list[dict[str, float | None]] = []
    previous: dict[str, Any] = {}
    for row in frame.to_dict("records"):
        before = previous.get(row["side"])
        previous[row["side"]] = row
        if before is None:
            rows.append({f"step_{name}": None for name in BOUNDS})
            continue
        change = row["value"] - before["value"]
        low = change - math.hypot(row["value"] - row["low"], before["high"] - before["value"])
        high = change + math.hypot(row["high"] - row["value"], before["value"] - before["low"])
        rows.append({"step_value": change, "step_low": low, "step_high": high})
    return rows


def arms_of(frame: pd.DataFrame) -> tuple[str, str]:
    """The Fuser's arm and its deranged control, as ``names.yaml`` knows them."""
    recipe = str(frame["recipe"].iloc[0])
    return recipe, f"{recipe}_deranged"


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed; the Fuser goes by the name of its recipe."""
    arm, control = (names.title("arms", arm) for arm in arms_of(frame))
    shares = zip(decimals(frame, "share", 0), frame["side"], strict=True)
    table = {
        "Fused": [f"{share} % at the {side}" for share, side in shares],
        f"{arm}, % [95 %]": estimates(frame),
        f"{control}, % [95 %]": estimates(frame, "deranged_"),
        "Difference, points [95 %]": differences(frame),
        "n": counts(frame, "n"),
        **paper_column(frame),
    }
    return pd.DataFrame(table)


def write(accuracy: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(accuracy)
    first = frame.iloc[0]
    notes = [
        f"{names.title('pairs', str(first['pair']))}, {names.title('arms', str(first['recipe']))}, on "
        f"{names.title('benchmarks', str(first['benchmark']))}. The front is the paper's former part of a prompt, the "
        "back its latter. With 0 % the Receiver answers alone, with 100 % it is the Fuser as everywhere else. "
        "Deranged: the Sharer read another question. Each question counts in every row: differences are paired.",
        *printed_note(frame, "partial", PLACE),
    ]
    return write_table(frame, text_table(frame), stem, notes)


def _paper_value(reference: Reference, row: dict[str, Any]) -> float | None:
    """The paper's accuracy of the same side and share."""
    if row["recipe"] != PRINTED_RECIPE:
        return None
    models, panel = (row["receiver"], row["sharer"]), PANEL.format(share=round(row["share"]))
    return reference.find(PLACE, "accuracy", row["pair"], models, SIDES[row["side"]], row["benchmark"], panel)


if __name__ == "__main__":
    run_table(__doc__, write, accuracy=read_table)
