"""The enrichment oracle: one layer at a time (the paper's Table 10), and the K best and worst layers (its Figure 4)."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paper.command import command
from paper.figures import style
from paper.reading.files import read_table
from paper.writing.output import stamped, table_parser

ENDS = {"best": style.BLUE, "worst": style.VERMILION}
CHOSEN = {
    "other half": ("-", "o", "chosen on other questions"),
    "same": ((0, (3, 2)), "x", "chosen on the same"),
}
WHOLE = {"direct": (style.GREY, "Direct"), "few_shot": (style.GREEN, "Few-shot"), "oracle": (style.BLACK, "Oracle")}


def draw(table: pd.DataFrame, stem: Path, main: pd.DataFrame | None = None) -> None:
    """Draw the enrichment table: left a mark a layer, right a line an end and a way of choosing.

    Args:
        table: enrichment.csv.
        stem: Of the files.
        main: The main table, which has the chance of each benchmark; without it no line is drawn there.
    """
    table = table.assign(kind=table["kind"].replace({"receiver": "direct", "sharer": "direct"}))
    chance = None if main is None else chance_of(main, str(table["benchmark"].iloc[0]))
    figure, axes = style.panels(1, 2, 2.7, sharex=False)
    axis_of_layers, axis_of_ends = axes
    for axis in axes:
        for kind, (colour, _) in WHOLE.items():
            axis.axhline(float(table.loc[table["kind"] == kind, "value"].iloc[0]), color=colour, lw=1, zorder=1)
        if chance is not None:
            axis.axhline(chance, ls=(0, (1, 2)), lw=1, color=style.BLACK, zorder=1)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    _single(axis_of_layers, table[table["kind"] == "layer"])
    _whole(axis_of_layers, table)
    _ends(axis_of_ends, table)
    axis_of_layers.set(xlabel="Layer that is enriched", ylabel="Accuracy, %")
    axis_of_layers.set_title("One layer", loc="left")
    axis_of_ends.set(xlabel="Enriched layers, K")
    axis_of_ends.set_title("K best, K worst", loc="left")
    axis_of_layers.set_ylim(bottom=0)
    figure.legend(handles=_legend(chance), loc="outside lower center", ncols=3, frameon=False)
    style.save(figure, stem)


def chance_of(main: pd.DataFrame, benchmark: str) -> float | None:
    """What a guess is worth on a benchmark, in percent; None where the main table does not have it."""
    values = main.loc[main["benchmark"] == benchmark, "chance"].dropna()
    return float(values.iloc[0]) if len(values) else None


@command
def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--table", "--main").parse_args()
    with stamped(style.outputs(arguments.output_stem), [arguments.table, arguments.main]):
        tables = (read_table(path, empty_is_missing=True) for path in (arguments.table, arguments.main))
        draw(next(tables), arguments.output_stem, next(tables))


def _single(axis: Axes, rows: pd.DataFrame) -> None:
    reach = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    axis.errorbar(rows["number"], rows["value"], yerr=reach, fmt="o", color=style.PURPLE, ms=3.5, lw=1)


def _whole(axis: Axes, table: pd.DataFrame) -> None:
    """The intervals of the methods that are lines, right of the last layer."""
    last = float(table.loc[table["kind"] == "layer", "number"].max())
    step = max(last, 1) / 12
    for place, (kind, (colour, _)) in enumerate(WHOLE.items(), start=2):
        row = table[table["kind"] == kind].iloc[0]
        axis.vlines(last + place * step, row["low"], row["high"], color=colour, lw=1)


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


def _legend(chance: float | None) -> list[Line2D]:
    lines = [Line2D([], [], color=colour, lw=1, label=title) for colour, title in WHOLE.values()]
    single = Line2D([], [], color=style.PURPLE, marker="o", ls="", ms=3.5, label="one layer")
    ends = [
        Line2D([], [], color=colour, marker=marker, ls=line, ms=3.5, lw=1.1, label=f"{end} K, {label}")
        for end, colour in ENDS.items()
        for line, marker, label in CHOSEN.values()
    ]
    guess = [] if chance is None else [Line2D([], [], color=style.BLACK, lw=1, ls=(0, (1, 2)), label="chance")]
    return [*lines, *guess, single, *ends]


if __name__ == "__main__":
    sys.exit(main())
