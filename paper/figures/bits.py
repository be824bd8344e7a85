"""Bits received against bytes sent: a panel a task, a colour and marker a channel, a filling a pair."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from c2c.testbed.card.records import BOUNDS, FULL, IDENTITY, OWN_STATES, RANDOM_STATES
from paper.figures import style
from paper.reading import names

PANELS_IN_A_ROW = 3
PANEL_HEIGHT, LEGEND_HEIGHT = 2.1, 0.9
SPREAD = 1.25
"""Factor between the places of channels that send equally many bytes."""
FILLINGS = ("full", "none", "left", "bottom")
"""How marks are filled, by pair."""
LINES = {FULL: (0, (4, 2)), OWN_STATES: (0, (1, 1.5))}


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw a score card; channels of the gate are left out."""
    rows = frame.dropna(subset=["bits_value"])
    channels = rows[~rows["channel"].isin([*BOUNDS, IDENTITY, RANDOM_STATES])]
    tasks = list(channels["task"].unique())
    pairs = list(rows["pair"].unique())
    columns = max(min(PANELS_IN_A_ROW, len(tasks)), 1)
    lines = max(math.ceil(len(tasks) / columns), 1)
    width = min(style.TEXT_WIDTH, 3.2 * columns)
    figure, axes = style.panels(lines, columns, lines * PANEL_HEIGHT + LEGEND_HEIGHT, width, sharey=False)
    for axis, task in zip(axes, tasks, strict=False):
        _panel(axis, channels[channels["task"] == task], rows[rows["task"] == task], pairs)
        axis.set_title(names.title("tasks", task), loc="left")
        axis.tick_params(labelbottom=True)
    style.hide_unused(axes, len(tasks))
    for axis in axes[::columns]:
        axis.set_ylabel("Bits received, a question")
    for axis in axes[max(len(tasks) - columns, 0) : len(tasks)]:
        axis.set_xlabel("Bytes sent")
    handles = [
        Line2D([], [], ls="", ms=4.5, label=names.title("channels", channel), **style.channel_look(channel))
        for channel in names.in_order("channels", channels["channel"].unique())
    ]
    if len(pairs) > 1:
        handles += [
            Line2D([], [], ls="", marker="o", ms=4.5, color=style.BLACK, fillstyle=FILLINGS[number % len(FILLINGS)],
                   label=names.title("pairs", pair))
            for number, pair in enumerate(pairs)
        ]  # fmt: skip
    handles += [
        Line2D([], [], ls=line, lw=0.8, color=style.GREY, label=names.title("channels", bound))
        for bound, line in LINES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if columns == 1 else 3, frameon=False)
    style.save(figure, stem)


def _panel(axis: Axes, channels: pd.DataFrame, rows: pd.DataFrame, pairs: list[str]) -> None:
    for bound, line in LINES.items():
        heights = rows.loc[rows["channel"] == bound, "bits_value"]
        if len(heights):
            axis.axhline(heights.mean(), ls=line, lw=0.8, color=style.GREY, zorder=0)
    # Channels that send equally many bytes stand next to each other.
    ranks = {
        channel: rank
        for _, rows_of_size in channels.groupby("bytes")
        for rank, channel in enumerate(names.in_order("channels", rows_of_size["channel"].unique()))
    }
    for row in channels.itertuples():
        look = style.channel_look(row.channel)
        filling = FILLINGS[pairs.index(row.pair) % len(FILLINGS)]
        reach = [[row.bits_value - row.bits_low], [row.bits_high - row.bits_value]]
        place = row.bytes * SPREAD ** ranks[row.channel]
        axis.errorbar(place, row.bits_value, yerr=reach, ms=4.5, elinewidth=0.8, fillstyle=filling, mew=0.8, **look)
    axis.axhline(0, lw=0.5, color="0.8", zorder=0)
    axis.set_xscale("log")


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
