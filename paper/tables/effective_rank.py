"""Effective rank of the Sharer's, the Receiver's and the fused cache, mean over layers (the paper's Table 2)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading import names
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.rows import printed_note, without_empty_paper
from paper.writing.numbers import NOTHING, count, decimal, show
from paper.writing.output import run_table, write_table

FUSED = "fused"
CACHES = {"sharer": "Sharer", "receiver": "Receiver", "fused": "C2C", "fused_deranged": "C2C deranged"}
HALVES = {"key": "keys", "value": "values"}
ID_COLUMNS = ["scale", "pair", "recipe", "alignment", "seed", "benchmark", "half", "cache"]
PLACE, METRIC = "Table 2", "average effective rank"
PANELS = {"key": "K cache", "value": "V cache"}


def build(ranks: pd.DataFrame) -> pd.DataFrame:
    """One row a half and cache: the mean over layers, its difference to the Receiver's, and the paper's value."""
    reference = Reference()
    rows = []
    wide = ranks.pivot(index=["half", "layer"], columns="cache", values="effective_rank")
    for (half, cache), group in ranks.groupby(["half", "cache"], sort=False):
        above = wide.loc[half, cache] - wide.loc[half, "receiver"]
        pair, recipe = str(group["pair"].iloc[0]), str(group["recipe"].iloc[0])
        cell = (pair, (None, None), recipe if cache == FUSED else str(cache), "", PANELS[str(half)])
        rows.append(
            {column: group[column].iloc[0] for column in ID_COLUMNS}
            | {"value": group["effective_rank"].mean(), "above_receiver": above.mean()}
            | {"layers_above": int((above > 0).sum()), "layers": len(group)}
            | {"tokens": group["tokens"].iloc[0], "width": group["width"].iloc[0]}
            | {"paper": reference.find(PLACE, METRIC, *cell)}
        )
    frame = pd.DataFrame(rows).astype({"paper": float})
    ranked = {name: place for place, name in enumerate(CACHES)}
    return frame.sort_values(["half", "cache"], key=lambda column: column.replace(ranked), ignore_index=True)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = pd.DataFrame(
        {
            "Half": HALVES[str(row.half)],
            "Cache": CACHES[str(row.cache)],
            "Effective rank, mean over layers": decimal(row.value, 1),
            "Above the Receiver's": NOTHING if row.cache == "receiver" else _signed(row.above_receiver),
            "In so many layers": NOTHING if row.cache == "receiver" else f"{row.layers_above} of {row.layers}",
            "Width": count(row.width),
            "Paper": NOTHING if pd.isna(row.paper) else decimal(row.paper, 0),
        }
        for row in frame.itertuples()
    )
    return without_empty_paper(table, frame)


def write(ranks: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(ranks)
    first = frame.iloc[0]
    pair, recipe = names.title("pairs", str(first["pair"])), names.title("arms", str(first["recipe"]))
    notes = [
        f"{pair}, {recipe}, seed {first['seed']}, on {names.title('benchmarks', str(first['benchmark']))}. A matrix "
        f"holds one layer's keys or values as the cache has them: {first['tokens']} fused tokens of many questions as "
        "rows, all heads side by side. The rank cannot exceed the width.",
        "C2C deranged is the control: the same Fusers, but the Sharer read another question.",
        *_findings(frame),
        *printed_note(frame, "effective_rank", PLACE),
        "How the paper formed its matrices is not said there.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


def _signed(value: float) -> str:
    return show(value, float("nan"), float("nan"), sign=True)


def _findings(frame: pd.DataFrame) -> list[str]:
    """In words, computed: whether the rank that fusion adds is that of the right message."""
    wide = frame.pivot(index="half", columns="cache", values="above_receiver")
    sentences = []
    for half, row in wide.iterrows():
        if row["fused"] > 0:
            share = f"against the {decimal(row['fused'], 1)} that fusion adds to the rank of {HALVES[str(half)]}"
            sentences.append(f"With another question's cache {decimal(row['fused_deranged'], 1)} is added, {share}.")
        else:
            sentences.append(f"Fusion does not raise the mean rank of {HALVES[str(half)]}.")
    return [" ".join(sentences)]


if __name__ == "__main__":
    run_table(__doc__, write, ranks=read_table)
