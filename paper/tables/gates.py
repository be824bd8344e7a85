"""Gates of trained fusers: how many are open, and the mean dynamic weights by layer (the paper's App. A.4.2)."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import decimal
from paper.command import command
from paper.reading.fusers import label, read_tables
from paper.reading.reference import Reference
from paper.writing.columns import HALF_TITLES, counts, decimals, titles
from paper.writing.output import SUFFIXES, path_with, stamped, table_parser, write_table

FILE = "gates.csv"
RUN = ["pair", "recipe", "alignment"]
ALL = "all"
SMALL, LARGE = (
    "app.-a.4.2/dynamic-weights/qwen3-0.6b/-/c2c-trained-on-openhermes/-/average-key-weight-in-some-layers-upper-bound",
    "app.-a.4.2/dynamic-weights/qwen3-0.6b/-/c2c-trained-on-mmlu-aux/-/average-weight-in-most-open-layers-lower-bound",
)
OPEN = {
    "OpenHermes (more than)": "app.-a.4.2/gates/qwen3-0.6b/three-table-4-sharers/c2c-trained-on-openhermes/-/"
    "average-gate-activation-ratio-text-exceeds",
    "MMLU's auxiliary questions": "app.-a.4.2/gates/qwen3-0.6b/table-7-combos/c2c-trained-on-mmlu-aux/-/"
    "average-gate-activation-ratio",
}
"""Ids of the paper's shares of open gates, by training set."""


def build(gates: pd.DataFrame) -> pd.DataFrame:
    """One row a fuser recipe, half and layer, and one for `all` layers, over the training seeds.

    Args:
        gates: The ``gates.csv`` of all fusers (`paper.reading.fusers.read_tables`). Recipes without gates are left out.
    """
    gate_rows = gates.dropna(subset=["gate_logit"])
    rows = []
    for (pair, recipe, alignment, half), group in gate_rows.groupby([*RUN, "half"], sort=False):
        head = {"pair": pair, "recipe": recipe, "alignment": alignment, "half": half}
        parts = [(ALL, group), *((str(layer), part) for layer, part in group.groupby("layer"))]
        means = group.groupby("layer")["weight_mean"].mean()
        for layer, part in parts:
            rows.append(
                head
                | {"layer": layer, "seeds": part["seed"].nunique(), "gates": len(part), "open": int(part["open"].sum())}
                | {"open_share": 100 * part["open"].mean(), "weight_mean": part["weight_mean"].mean()}
                | {"lowest": means.min() if layer == ALL else None, "highest": means.max() if layer == ALL else None}
            )
    columns = [*RUN, "half", "layer", "seeds", "gates", "open", "open_share", "weight_mean", "lowest", "highest"]
    return pd.DataFrame(rows, columns=columns)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: the rows over all layers."""
    rows = frame[frame["layer"] == ALL]
    has_several = rows.groupby("pair")["alignment"].transform("nunique") > 1
    runs = zip(rows["recipe"], rows["alignment"], has_several, strict=True)
    bounds = zip(decimals(rows, "lowest"), decimals(rows, "highest"), strict=True)
    table = {
        "Pair": titles(rows, "pair"),
        "Recipe": [label(*run) for run in runs],
        "Half": rows["half"].map(HALF_TITLES),
        "Open gates": rows["open"].astype(str) + " of " + rows["gates"].astype(str),
        "Open, %": decimals(rows, "open_share", 1),
        "Mean weight": decimals(rows, "weight_mean"),
        "Layer means, from lowest to highest": [f"{lowest} to {highest}" for lowest, highest in bounds],
        "Seeds": counts(rows, "seeds"),
    }
    return pd.DataFrame(table)


def write(gates: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame, reference = build(gates), Reference()
    layers = frame[frame["layer"] != ALL]
    small, large = (reference.evaluate(name) for name in (SMALL, LARGE))
    keys, open_layers = layers[layers["half"] == "key"], layers[layers["open"] > 0]
    shares = "; ".join(
        f"{decimal(reference.evaluate(name), 2)} % after {training_set}" for training_set, name in OPEN.items()
    )
    notes = [
        "Weights are means over validation tokens and KV heads; a layer's is also a mean over seeds. The .csv has "
        "every layer. Recipes without gates are left out.",
        f"Open gates in the paper: {shares}.",
        f"The paper finds some layers whose mean key weight is below {decimal(small, 1)}: here "
        f"{int((keys['weight_mean'] < small).sum())} of {len(keys)} are. It finds that after training on MMLU's "
        f"questions most halves with an open gate have a mean weight above {decimal(large, 1)}: here "
        f"{int((open_layers['weight_mean'] > large).sum())} of {len(open_layers)} have.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


@command
def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--fusers").parse_args()
    outputs = [path_with(arguments.output_stem, suffix) for suffix in SUFFIXES]
    with stamped(outputs, [folder / FILE for folder in arguments.fusers]):
        write(read_tables(arguments.fusers, FILE), arguments.output_stem)


if __name__ == "__main__":
    sys.exit(main())
