"""The enrichment oracle: one layer at a time (the paper's Table 10), and the K best and worst layers (its Figure 4)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paper.figures import style

ENDS = {"best": style.BLUE, "worst": style.VERMILION}
CHOSEN = {"other half": ("-", "o", "chosen on the other half"), "same": ((0, (3, 2)), "x", "chosen on the same")}
WHOLE = {"direct": (style.GREY, "Direct"), "few_shot": (style.GREEN, "Few-shot"), "oracle": (style.BLACK, "Oracle")}


def draw(table: pd.DataFrame, stem: Path) -> None:
    """Draw the enrichment table: left a mark a layer, right a line an end and a way of choosing."""
    table = table.assign(kind=table["kind"].replace({"receiver": "direct", "sharer": "direct"}))
    figure, axes = style.panels(1, 2, 2.7, sharex=False)
    axis_of_layers, axis_of_ends = axes
    for axis in axes:
        for kind, (colour, _) in WHOLE.items():
            axis.axhline(float(table.loc[table["kind"] == kind, "value"].iloc[0]), color=colour, lw=1, zorder=1)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    _single(axis_of_layers, table[table["kind"] == "layer"])
    _ends(axis_of_ends, table)
    axis_of_layers.set(xlabel="Layer that is enriched", ylabel="Accuracy, %")
    axis_of_layers.set_title("One layer", loc="left")
    axis_of_ends.set(xlabel="Enriched layers, K")
    axis_of_ends.set_title("K best, K worst", loc="left")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False)
    style.save(figure, stem)


def _single(axis: Axes, rows: pd.DataFrame) -> None:
    reach = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    axis.errorbar(rows["number"], rows["value"], yerr=reach, fmt="o", color=style.PURPLE, ms=3.5, lw=1)


def _ends(axis: Axes, table: pd.DataFrame) -> None:
    for end, colour in ENDS.items():
        for place, (chosen_on, (line, marker, _)) in enumerate(CHOSEN.items()):
            rows = table[(table["kind"] == end) & (table["chosen_on"] == chosen_on)].sort_values("number")
            shift = 0.05 * (2 * place - 1) + 0.02 * (1 if end == "best" else -1)
            reach = [rows["value"] - rows["low"], rows["high"] - rows["value"]] if place == 0 else None
            axis.errorbar(
                *(rows["number"] + shift, rows["value"]),
                **{"yerr": reach, "color": colour, "marker": marker, "ls": line, "ms": 3.5, "lw": 1.1},
            )


def _legend() -> list[Line2D]:
    whole = [Line2D([], [], color=colour, lw=1, label=title) for colour, title in WHOLE.values()]
    single = Line2D([], [], color=style.PURPLE, marker="o", ls="", ms=3.5, label="one layer")
    ends = [
        Line2D([], [], color=colour, marker=marker, ls=line, ms=3.5, lw=1.1, label=f"{end}, {label}")
        for end, colour in ENDS.items()
        for line, marker, label in CHOSEN.values()
    ]
    return [*whole, single, *ends]


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
