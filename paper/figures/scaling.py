"""Accuracy against the Sharer's size, one panel a Receiver and benchmark (the paper's Figure 6)."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from paper.figures import style
from paper.reading import names

PANELS_IN_A_ROW = 2
MARKERS = {"sharer": "D", "t2t": "^", "c2c": "o"}
SIDE_STEP = 0.07
"""Inches between the methods of one Sharer."""


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw scaling.csv: C2C, T2T and the Sharer alone by its size; the Receiver alone as a line across."""
    frame = frame.dropna(subset=["sharer_m"])
    groups = list(frame.groupby(["receiver", "benchmark"], sort=False))
    columns = min(PANELS_IN_A_ROW, max(len(groups), 1))
    rows = max(math.ceil(len(groups) / columns), 1)
    figure, axes = style.panels(rows, columns, 1.55 * rows + 0.55)
    sizes = sorted(frame["sharer_m"].unique())
    for axis, ((receiver, benchmark), group) in zip(axes, groups, strict=False):
        _panel(axis, group, sizes)
        size = group["receiver_m"].iloc[0]
        size_text = "" if pd.isna(size) else f" ({size:g} M)"
        axis.set_title(
            f"{names.title('models', receiver)}{size_text}\n{names.title('benchmarks', benchmark)}", loc="left"
        )
        axis.tick_params(labelbottom=True)
    style.hide_unused(axes, len(groups))
    for axis in axes[::columns]:
        axis.set_ylabel("Accuracy, %")
    figure.supxlabel("Parameters of the Sharer, millions", fontsize=8)
    figure.legend(handles=_legend(frame), loc="outside upper center", ncols=5, frameon=False)
    style.save(figure, stem)


def _panel(axis: Axes, group: pd.DataFrame, sizes: list[float]) -> None:
    for place, (arm, marker) in enumerate(MARKERS.items()):
        rows = group[group["arm"] == arm].dropna(subset=["value"]).sort_values("sharer_m")
        # Methods of one Sharer stand a few points apart, so that their intervals do not cover each other.
        aside = axis.transData + ScaledTranslation(SIDE_STEP * (place - 1), 0, axis.figure.dpi_scale_trans)
        reach = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        look = {"fmt": f"{marker}-", "ms": 4, "lw": 1, "color": style.colour(arm)}
        axis.errorbar(rows["sharer_m"], rows["value"], yerr=reach, transform=aside, **look)
        paper_rows = group[group["arm"] == arm].dropna(subset=["paper"])
        axis.plot(
            paper_rows["sharer_m"],
            paper_rows["paper"],
            ls="",
            marker=marker,
            ms=4,
            mfc="white",
            color=style.colour(arm),
        )
    receiver_values = group.loc[group["arm"] == "receiver", "value"].dropna()
    if len(receiver_values):
        axis.axhline(receiver_values.iloc[0], lw=1, ls=(0, (3, 2)), color=style.colour("receiver"))
    axis.set(xscale="log", ylim=(0, 105), xlim=(sizes[0] / 1.6, sizes[-1] * 1.6), xticks=sizes)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _legend(frame: pd.DataFrame) -> list[Line2D]:
    lines = [
        Line2D([], [], ls="-", marker=marker, ms=4, color=style.colour(arm), label=names.title("arms", arm))
        for arm, marker in MARKERS.items()
    ]
    lines.append(Line2D([], [], ls=(0, (3, 2)), color=style.colour("receiver"), label="Receiver"))
    if frame["paper"].notna().any():
        lines.append(Line2D([], [], ls="", marker="o", ms=4, mfc="white", color=style.BLACK, label="the paper"))
    return lines


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
