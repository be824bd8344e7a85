"""Accuracy by training step with 95 % intervals: C2C and every control, a panel for each cell with several.

Each point is a fuser as it was after so many steps of one training. Dashed: the Receiver alone. Stars: the paper's
Table 12, where it has the same pair and benchmark.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from paper.figures import style
from paper.reading import names

PANELS_IN_A_ROW = 3
"""Panels side by side, at most."""
PANEL_HEIGHT, LEGEND_HEIGHT = 1.75, 0.4
SPREAD = 0.012
"""Share of the axis by which the points of neighbouring arms stand apart, so that intervals do not cover each other."""


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the `frame` of Table 12."""
    groups = list(_with_course(frame).groupby(["pair", "benchmark"], sort=False))
    columns = min(len(groups), PANELS_IN_A_ROW)
    rows = math.ceil(len(groups) / columns)
    width = min(style.TEXT_WIDTH, 3.3 * columns)
    figure, axes = style.panels(rows, columns, rows * PANEL_HEIGHT + LEGEND_HEIGHT, width)
    for axis, ((pair, benchmark), group) in zip(axes, groups, strict=False):
        _panel(axis, group)
        axis.set_title(f"{names.title('pairs', pair)},\n{names.title('benchmarks', benchmark)}", loc="left")
    style.hide_unused(axes, len(groups))
    for axis in axes[::columns]:
        axis.set_ylabel("Accuracy, %")
    for axis in axes[max(len(groups) - columns, 0) : len(groups)]:
        axis.set_xlabel("Training step")
        axis.tick_params(labelbottom=True)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False)
    style.save(figure, stem)


def _with_course(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells with several steps; all of them where none has."""
    answers = frame[(frame["step"] > 0) & frame["value"].notna()]
    steps = answers.groupby(["pair", "benchmark"])["step"].nunique()
    several = pd.MultiIndex.from_frame(frame[["pair", "benchmark"]]).isin(steps[steps > 1].index)
    return frame[several] if several.any() else frame


def _panel(axis: Axes, group: pd.DataFrame) -> None:
    receiver_rows = group[group["arm"] == "receiver"].dropna(subset=["value"])
    for value in receiver_rows["value"]:
        axis.axhline(value, ls=(0, (3, 2)), lw=0.8, color=style.GREY, zorder=0, label=names.title("arms", "receiver"))
    arms = group[group["arm"] != "receiver"].dropna(subset=["value"])
    shift = SPREAD * arms["step"].max() if len(arms) else 0
    for number, (arm, rows) in enumerate(arms.groupby("arm", sort=False)):
        axis.errorbar(
            rows["step"] + shift * (number - 1.5),
            rows["value"],
            yerr=[rows["value"] - rows["low"], rows["high"] - rows["value"]],
            fmt=f"-{MARKERS.get(str(arm), 'o')}",
            ms=3.2,
            lw=0.9,
            color=style.colour(str(arm)),
            mfc="white" if arm == "c2c_zeroed" else None,
            label=names.title("arms", str(arm)),
        )
    paper = group.dropna(subset=["paper_value"])
    if len(paper):
        axis.plot(
            paper["step"], paper["paper_value"], ls="", marker="*", ms=5, color=style.BLACK, label="C2C in the paper"
        )
    axis.set(ylim=(0, 103))
    axis.set_xlim(left=0)


MARKERS = {"c2c": "o", "c2c_deranged": "v", "c2c_zeroed": "^", "adapter": "s"}


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
