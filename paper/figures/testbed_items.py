"""Accuracy by training items: a row a task and measure, a column a pair, a line a channel."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from paper.figures import style
from paper.reading import names

PANEL_HEIGHT, LEGEND_HEIGHT = 1.7, 0.4
IDS = ["pair", "task", "measure", "channel"]


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the channels that were trained on several numbers of items; all of them where none was."""
    several = frame.groupby(IDS)["training_items"].transform("nunique") > 1
    rows = frame[several] if several.any() else frame
    pairs, kinds = (
        list(rows["pair"].unique()),
        list(rows[["task", "measure"]].drop_duplicates().itertuples(index=False)),
    )
    lines, columns = max(len(kinds), 1), max(len(pairs), 1)
    width = min(style.TEXT_WIDTH, 3.2 * columns)
    figure, axes = style.panels(lines, columns, lines * PANEL_HEIGHT + LEGEND_HEIGHT, width)
    for axis, (kind, pair) in zip(axes, ((kind, pair) for kind in kinds for pair in pairs), strict=False):
        _panel(axis, rows[(rows["pair"] == pair) & (rows["task"] == kind.task) & (rows["measure"] == kind.measure)])
    for axis, pair in zip(axes, pairs, strict=False):
        axis.set_title(names.title("pairs", pair), loc="left")
    for axis, kind in zip(axes[::columns], kinds, strict=False):
        axis.set_ylabel(f"{names.title('tasks', kind.task)},\n{kind.measure}, %")
    for axis in axes[-columns:]:
        axis.set_xlabel("Training items")
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2 if columns == 1 else 4, frameon=False
    )
    style.save(figure, stem)


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for channel in names.in_order("channels", rows["channel"].unique()):
        line = rows[rows["channel"] == channel].sort_values("training_items")
        reach = [line["value"] - line["low"], line["high"] - line["value"]]
        look = style.channel_look(channel)
        title = names.title("channels", channel)
        axis.errorbar(
            line["training_items"], line["value"], yerr=reach, ms=3.5, lw=1, elinewidth=0.8, label=title, **look
        )
    axis.set_xscale("log")
    axis.set_ylim(-3, 103)


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
