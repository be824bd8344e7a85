"""Effective rank of the Sharer's, the Receiver's and the fused cache, mean over layers (the paper's Table 2)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import NOTHING, decimal
from paper.reading import names
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.rows import paper_column, printed_note
from paper.writing.columns import HALF_TITLES, counts, decimals, signed
from paper.writing.output import run_table, write_table

FUSED = "fused"
CACHES = {"sharer": "Sharer", "receiver": "Receiver", "fused": "C2C", "fused_deranged": "C2C deranged"}
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
    rank_of = {name: place for place, name in enumerate(CACHES)}
    return frame.sort_values(["half", "cache"], key=lambda column: column.replace(rank_of), ignore_index=True)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    # The Receiver's own cache is what the others are compared with.
    is_compared = frame["cache"] != "receiver"
    layers = frame["layers_above"].astype(str) + " of " + frame["layers"].astype(str)
    table = {
        "Half": frame["half"].map(HALF_TITLES),
        "Cache": frame["cache"].map(CACHES),
        "Effective rank, mean over layers": decimals(frame, "value", 1),
        "Above the Receiver's": signed(frame[["above_receiver"]].where(is_compared), "above_receiver"),
        "Layers above it": layers.where(is_compared, NOTHING),
        "Width": counts(frame, "width"),
        **paper_column(frame, "Paper", 0),
    }
    return pd.DataFrame(table)


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


def _findings(frame: pd.DataFrame) -> list[str]:
    """In words, computed: whether the rank that fusion adds is that of the right message."""
    wide = frame.pivot(index="half", columns="cache", values="above_receiver")
    sentences = []
    for half, row in wide.iterrows():
        if row["fused"] > 0:
            share = f"against the {decimal(row['fused'], 1)} that fusion adds to the rank of {HALF_TITLES[str(half)]}"
            sentences.append(f"With another question's cache {decimal(row['fused_deranged'], 1)} is added, {share}.")
        else:
            sentences.append(f"Fusion does not raise the mean rank of {HALF_TITLES[str(half)]}.")
    return [" ".join(sentences)]


if __name__ == "__main__":
    run_table(__doc__, write, ranks=read_table)
