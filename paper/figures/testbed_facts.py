"""A ladder of facts: accuracy by the number of facts in a text, a panel a pair and measure, a line a channel."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from c2c.testbed.card.records import BOUNDS, DERANGED, FULL, IDENTITY, MATCHED, NONE, RANDOM_STATES, RECEIVER
from paper.figures import style
from paper.reading import names

PANEL_HEIGHT, LEGEND_HEIGHT = 2.0, 0.55
PANELS_IN_A_ROW = 3


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the table of facts."""
    groups = list(frame.groupby(["pair", "measure"], sort=False))
    columns = max(min(PANELS_IN_A_ROW, len(groups)), 1)
    lines = max(-(-len(groups) // columns), 1)
    width = min(style.TEXT_WIDTH, 3.2 * columns)
    figure, axes = style.panels(lines, columns, lines * PANEL_HEIGHT + LEGEND_HEIGHT, width)
    for axis, ((pair, measure), rows) in zip(axes, groups, strict=False):
        _panel(axis, rows)
        axis.set_title(f"{names.title('pairs', str(pair))}, {measure}", loc="left")
    style.hide_unused(axes, len(groups))
    for axis in axes[::columns]:
        axis.set_ylabel("Right, %")
    for axis in axes[max(len(groups) - columns, 0) : len(groups)]:
        axis.set_xlabel("Facts in the text")
        axis.tick_params(labelbottom=True)
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2 if columns == 1 else 4, frameon=False
    )
    style.save(figure, stem)


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for bound, dashes in ((FULL, (0, (4, 2))), (RECEIVER, (0, (1, 1.5)))):
        line = rows[(rows["channel"] == bound) & (rows["message"] == NONE)].sort_values("facts")
        axis.plot(
            line["facts"], line["value"], ls=dashes, lw=0.9, color=style.GREY, label=names.title("channels", bound)
        )
    shown = rows[~rows["channel"].isin([*BOUNDS, IDENTITY, RANDOM_STATES])]
    for channel in names.in_order("channels", shown["channel"].unique()):
        look, title = style.channel_look(channel), names.title("channels", channel)
        for message in (MATCHED, DERANGED):
            line = shown[(shown["channel"] == channel) & (shown["message"] == message)].sort_values("facts")
            reach = [line["value"] - line["low"], line["high"] - line["value"]]
            if message == MATCHED:
                axis.errorbar(
                    line["facts"], line["value"], yerr=reach, ms=3.5, lw=1, elinewidth=0.8, label=title, **look
                )
            else:
                axis.plot(line["facts"], line["value"], ls="--", lw=0.6, color=look["color"], alpha=0.7)
    facts = sorted(rows["facts"].unique())
    axis.set_xscale("log", base=2)
    axis.set_xticks(facts, [str(int(number)) for number in facts])
    axis.minorticks_off()
    axis.set_ylim(-3, 103)


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
