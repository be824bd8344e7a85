"""Whose answers are right: a bar for each of the seven regions of C2C, Receiver and Sharer (the paper's Figure 7).

Bars and a matrix of dots below them show small and empty regions as they are, which circles cannot.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from c2c.testbed.card.numbers import decimal
from paper.figures import style
from paper.reading import names
from paper.tables.venn import NOBODY

ROLES = ("fused", "receiver", "sharer")
PANELS_IN_A_ROW = 2
MANY_PANELS = 6
"""From more panels on, `PANELS_IN_A_ROW` grows by one, so that the figure is no taller than a page."""
DOT_ROW = 16.0
"""Height of a row of dots, in percent of the bars' scale."""


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw venn.csv: one panel a pair, fused method and benchmark; what nobody answers correctly is left out."""
    frame = frame[(frame["region"] != NOBODY) & frame["value"].notna()]
    groups = list(frame.groupby(["pair", "arm", "benchmark"], sort=False))
    columns = min(PANELS_IN_A_ROW + (len(groups) > MANY_PANELS), max(len(groups), 1))
    rows = max(math.ceil(len(groups) / columns), 1)
    # Rows of dots are named after the arm of their own panel.
    figure, axes = style.panels(rows, columns, 1.9 * rows + 0.3, sharey=False)
    for axis, ((pair, arm, benchmark), group) in zip(axes, groups, strict=False):
        _panel(axis, group, str(arm))
        title = names.cell_title(str(pair), str(benchmark))
        axis.set_title(f"{title} (n = {int(group['n'].iloc[0])})", loc="left")
    style.hide_unused(axes, len(groups))
    for axis in axes[::columns]:
        axis.set_ylabel("Questions, %")
    if not groups:
        axes[0].set_title("no pair has answers of all three", loc="left")
    figure.legend(handles=_legend(frame), loc="outside upper center", ncols=3, frameon=False)
    style.save(figure, stem)


def _panel(axis: Axes, group: pd.DataFrame, arm: str) -> None:
    for place, row in enumerate(group.to_dict("records")):
        inside = str(row["region"]).split("&")
        reach = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        colour = style.BLUE if "fused" in inside else style.GREY
        axis.bar(place, row["value"], width=0.62, color=colour, yerr=reach, error_kw={"lw": 0.8})
        axis.text(place, row["high"] + 1.5, decimal(row["questions"], 0), ha="center", va="bottom", fontsize=6.5)
        if not pd.isna(row["paper"]):
            axis.plot(place, row["paper"], marker="_", ms=13, color=style.VERMILION)
        heights = [-DOT_ROW * (number + 0.7) for number in range(len(ROLES))]
        dots = [height for height, role in zip(heights, ROLES, strict=True) if role in inside]
        axis.plot([place] * len(heights), heights, ls="", marker="o", ms=4, color="0.87", clip_on=False)
        axis.plot([place] * len(dots), dots, marker="o", ms=4, lw=1, color=colour, clip_on=False)
    ticks = [0, 25, 50, 75, 100]
    titles = [names.title("arms", arm if role == "fused" else role) for role in ROLES]
    axis.axhline(0, lw=0.7, color=style.BLACK)
    axis.set(xlim=(-0.6, len(group) - 0.4), ylim=(-DOT_ROW * (len(ROLES) + 0.2), 108), xticks=[])
    axis.set_yticks([*ticks, *(-DOT_ROW * (number + 0.7) for number in range(len(ROLES)))])
    axis.set_yticklabels([*map(str, ticks), *titles])
    axis.tick_params(axis="y", labelleft=True)
    for label in axis.get_yticklabels()[len(ticks) :]:
        label.set_fontsize(5.5)
    axis.spines["bottom"].set_color("none")


def _legend(frame: pd.DataFrame) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Patch(color=style.BLUE, label="answered correctly with the fused cache (above the bars: questions)"),
        Patch(color=style.GREY, label="not with the fused cache"),
    ]
    if frame["paper"].notna().any():
        handles.append(Line2D([], [], ls="", marker="_", ms=13, color=style.VERMILION, label="the paper"))
    return handles


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
