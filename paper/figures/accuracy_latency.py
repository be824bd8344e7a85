"""Accuracy against the mean time per question: one panel a pair, on each benchmark that was timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from paper.figures import style
from paper.reading import names

Box = tuple[float, float, float, float]
PANEL, LETTER = (170.0, 90.0), 5.0
"""About the size of a panel, and the width of a letter, in points."""
MARGIN, DECADE = 0.35, 8
SUBS = {False: (1, 1.5, 2, 3, 4, 5, 7), True: (1, 2, 5)}
"""Labelled ticks of a decade, where the times span less than a decade and where they span more."""


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the timed rows of the main table's `frame`."""
    time_rows = frame.dropna(subset=["time_ms", "value"])
    groups = list(time_rows.groupby(["pair", "benchmark"], sort=False))
    figure, axes = style.panels(1, max(len(groups), 1), 2.0, width=min(style.TEXT_WIDTH, 3.2 * max(len(groups), 1)))
    for axis, ((pair, benchmark), rows) in zip(axes, groups, strict=False):
        _panel(axis, rows, f"{names.title('pairs', str(pair))}, {names.title('benchmarks', str(benchmark))}")
    axes[0].set_ylabel("Accuracy, %")
    if groups:
        # One scale for all panels, which share it: wide enough for every time and its interval.
        times = time_rows[["time_low_ms", "time_high_ms"]].to_numpy()
        axes[0].set_xlim(times.min() / (1 + MARGIN), times.max() * (1 + MARGIN))
        for axis in axes:
            axis.xaxis.set_major_locator(LogLocator(subs=SUBS[times.max() / times.min() > DECADE]))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes[0].set_title("no method was timed", loc="left")
    style.save(figure, stem)


def _panel(axis: Axes, rows: pd.DataFrame, title: str) -> None:
    # A point a method, with its intervals in both directions.
    for row in rows.itertuples():
        xerr, yerr = ([[mean - low], [high - mean]] for mean, low, high in _reach(row))
        colour = style.colour(row.arm)
        axis.errorbar(row.time_ms, row.value, xerr=xerr, yerr=yerr, fmt="o", ms=4.5, lw=1, color=colour, clip_on=False)
    # Names next to the points, where they cover nothing.
    for row, (x, y) in zip(rows.itertuples(), label_offsets(rows), strict=True):
        axis.annotate(
            names.title("arms", row.arm),
            (row.time_ms, row.value),
            xytext=(x, y),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[(x > 0) - (x < 0)],
            va="center",
            color=style.colour(row.arm),
        )
    # Chance, and the axes.
    axis.axhline(rows["chance"].iloc[0], ls=(0, (3, 2)), lw=0.8, color=style.GREY, zorder=0)
    axis.annotate(
        "chance",
        (1, rows["chance"].iloc[0]),
        xycoords=axis.get_yaxis_transform(),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=6.5,
        color=style.GREY,
    )
    axis.set(xscale="log", ylim=(0, 106), xlabel="Mean time per question, ms")
    axis.set_title(title, loc="left")


def label_offsets(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Where each point's name stands, in points from it: next to it, or above or below where it covers nothing."""
    span = np.log(rows["time_ms"].max() / rows["time_ms"].min()) or 1.0
    across = np.log(rows["time_ms"] / rows["time_ms"].min()) / span * 0.75 * PANEL[0]
    points = np.column_stack([across, rows["value"] / 100 * PANEL[1]])
    chance = rows["chance"].iloc[0] / 100 * PANEL[1]
    boxes = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    boxes += [(-PANEL[0], low, 2 * PANEL[0], high) for low, high in ((chance - 1, chance + 1), (-PANEL[1], 0))]
    offsets = []
    for (x, y), arm in zip(points, rows["arm"], strict=True):
        width = LETTER * len(names.title("arms", arm))
        candidates = [
            (place, (edge + x, y + place[1] - 5, edge + x + width, y + place[1] + 5))
            for place, edge in (((7, 0), 7), ((-7, 0), -7 - width), ((0, -11), -width / 2), ((0, 11), -width / 2))
        ]
        place, box = next(
            (candidate for candidate in candidates if not any(_overlap(candidate[1], other) for other in boxes)),
            candidates[0],
        )
        boxes.append(box)
        offsets.append(place)
    return offsets


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _reach(row: Any) -> list[tuple[float, float, float]]:
    return [(row.time_ms, row.time_low_ms, row.time_high_ms), (row.value, row.low, row.high)]


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
