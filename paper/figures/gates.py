"""Gates and dynamic weights by layer, one panel a pair, recipe and alignment; closed gates are hollow."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paper.command import command
from paper.figures import style
from paper.reading import names
from paper.reading.fusers import label, read_tables
from paper.writing.output import stamped, table_parser

FILE = "gates.csv"
HALF_STYLES = {"key": (style.BLUE, "o"), "value": (style.VERMILION, "s")}
PANELS_IN_A_ROW = 3


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the rows of all ``gates.csv``; fusers without weights and gates have none to draw."""
    weights = frame.dropna(subset=["weight_mean"])
    groups = list(weights.groupby(["pair", "recipe", "alignment"], sort=False))
    rows = max(math.ceil(len(groups) / PANELS_IN_A_ROW), 1)
    figure, axes = style.panels(rows, min(max(len(groups), 1), PANELS_IN_A_ROW), 1.35 * rows + 0.45)
    for axis, ((pair, recipe, alignment), group) in zip(axes, groups, strict=False):
        several = frame.loc[frame["pair"] == pair, "alignment"].nunique() > 1
        _panel(axis, group, f"{names.title('pairs', pair)}: {label(recipe, alignment, several)}")
    style.hide_unused(axes, len(groups))
    for axis in axes:
        axis.tick_params(labelbottom=True)
    for axis in axes[:: min(max(len(groups), 1), PANELS_IN_A_ROW)]:
        axis.set_ylabel("Dynamic weight")
    figure.supxlabel("Receiver layer", fontsize=8)
    figure.legend(handles=_legend(weights), loc="outside upper center", ncols=4, frameon=False, handletextpad=0.2)
    style.save(figure, stem)


@command
def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--fusers").parse_args()
    with stamped(style.outputs(arguments.output_stem), [folder / FILE for folder in arguments.fusers]):
        draw(read_tables(arguments.fusers, FILE), arguments.output_stem)


def _panel(axis: Axes, group: pd.DataFrame, title: str) -> None:
    seeds = sorted(group["seed"].unique())
    for (half, seed), rows in group.groupby(["half", "seed"]):
        colour, marker = HALF_STYLES[str(half)]
        shift = 0.16 * (-1 if half == "key" else 1) + 0.09 * (seeds.index(seed) - (len(seeds) - 1) / 2)
        place = rows["layer"] + shift
        # The mean of a skewed distribution can lie outside its quantiles, so these are not error bars around it.
        axis.vlines(place, rows["weight_low"], rows["weight_high"], lw=0.8, color=colour)
        fills = [colour if is_open else "white" for is_open in rows["open"]]
        axis.scatter(place, rows["weight_mean"], c=fills, edgecolors=colour, marker=marker, s=14, lw=0.9, zorder=3)
    layers = sorted(group["layer"].unique())
    axis.set(ylim=(-0.03, 1.03), xlim=(layers[0] - 0.5, layers[-1] + 0.5))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.set_title(f"{title} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})", loc="left")


def _legend(frame: pd.DataFrame) -> list[Line2D]:
    """A mark for each half in each state that occurs; the state is named only where both occur."""
    states = [
        (state, is_open) for state, is_open in (("open", True), ("closed", False)) if (frame["open"] == is_open).any()
    ]
    return [
        Line2D(
            [],
            [],
            ls="",
            marker=marker,
            color=colour,
            markerfacecolor=colour if is_open else "white",
            markersize=4,
            label=f"{half}s, gate {state}" if len(states) > 1 else f"{half}s",
        )
        for half, (colour, marker) in HALF_STYLES.items()
        for state, is_open in states
    ]


if __name__ == "__main__":
    sys.exit(main())
