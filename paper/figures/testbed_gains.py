"""The system gain of every channel as the sum of what any message does and of what the right message adds to that."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from c2c.testbed.card.records import IDENTITY, RANDOM_STATES
from paper.figures import style
from paper.reading import names

BAR_HEIGHT, FRAME_HEIGHT = 0.17, 0.55
COLOURS = {"OME": style.ORANGE, "CAG": style.SKY}
PANELS_IN_A_ROW = 3


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw a table of gains: a row a task and measure, a column a pair, a bar a channel."""
    rows = frame[~frame["channel"].isin([IDENTITY, RANDOM_STATES])].dropna(subset=["value"])
    pairs, kinds = (
        list(rows["pair"].unique()),
        list(rows[["task", "measure"]].drop_duplicates().itertuples(index=False)),
    )
    channels = names.in_order("channels", rows["channel"].unique())
    columns = max(len(pairs), 1)
    height = BAR_HEIGHT * len(channels) + FRAME_HEIGHT
    lines = max(len(kinds), 1)
    figure, axes = style.panels(lines, columns, lines * height + 0.35)
    for axis, (kind, pair) in zip(axes, ((kind, pair) for kind in kinds for pair in pairs), strict=False):
        _panel(
            axis,
            rows[(rows["pair"] == pair) & (rows["task"] == kind.task) & (rows["measure"] == kind.measure)],
            channels,
        )
        axis.set_title(f"{names.title('tasks', kind.task)}, {kind.measure}: {names.title('pairs', pair)}", loc="left")
    for axis in axes[-columns:]:
        axis.set_xlabel("Percentage points")
    handles: list[Patch | Line2D] = [
        Patch(color=COLOURS["OME"], label="OME: deranged − Receiver"),
        Patch(color=COLOURS["CAG"], label="CAG: matched − deranged"),
        Line2D([], [], marker="o", ms=3.5, lw=0.9, color=style.BLACK, label="OPE: matched − Receiver"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    style.save(figure, stem)


def _panel(axis: Axes, rows: pd.DataFrame, channels: list[str]) -> None:
    values = rows.set_index(["channel", "gain"])
    for place, channel in enumerate(channels):
        bars = {gain: values.loc[(channel, gain)] for gain in ("OPE", *COLOURS) if (channel, gain) in values.index}
        start = 0.0
        for gain, colour in COLOURS.items():
            if gain in bars:
                axis.barh(place, bars[gain]["value"], left=start, height=0.62, color=colour, lw=0)
                start += bars[gain]["value"]
        if "OPE" in bars:
            whole = bars["OPE"]
            reach = [[whole["value"] - whole["low"]], [whole["high"] - whole["value"]]]
            axis.errorbar(whole["value"], place, xerr=reach, fmt="o", ms=3, elinewidth=0.9, color=style.BLACK)
    axis.axvline(0, lw=0.8, color=style.BLACK, zorder=0)
    axis.set_yticks(range(len(channels)), [names.title("channels", channel) for channel in channels])
    axis.set_ylim(len(channels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
