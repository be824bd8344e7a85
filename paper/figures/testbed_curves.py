"""Accuracy on unseen persons and values by optimiser step: a column a pair; below, the loss with its floor."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from c2c.testbed.card.records import ADAPTER, DERANGED, MATCHED, RECEIVER, TEXT, ZEROED
from paper.communication.curves import CHANCE
from paper.figures import style
from paper.findings.channels import loss_floor
from paper.reading import names

PANEL_HEIGHT, LEGEND_HEIGHT = 1.4, 0.85
TASKS = ("private_line", "redacted_word", "redacted_code")
"""Tasks that are drawn, of those that have curves; all of them where none of these has."""
CONTROLS = {DERANGED: "v", ZEROED: "^", ADAPTER: "s"}
LINES = {TEXT: (0, (4, 2)), RECEIVER: (0, (1, 1.5)), CHANCE: (0, (3, 1.5, 1, 1.5))}


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the table of curves: a row a task with its measure, and a row of the losses on the first task."""
    # What is fitted in closed form has one point and no course.
    has_course = frame.groupby(["pair", "task", "channel", "message", "measure"])["step"].transform("nunique") != 1
    frame = frame[has_course]
    steps = frame.dropna(subset=["step"])
    kinds = list(steps[["task", "measure"]].drop_duplicates("task").itertuples(index=False, name=None))
    shown = sorted((kind for kind in kinds if kind[0] in TASKS), key=lambda kind: TASKS.index(kind[0])) or kinds
    pairs = names.in_order("pairs", steps["pair"].unique())
    lines, columns = len(shown) + 1, max(len(pairs), 1)
    width = min(style.TEXT_WIDTH, 2.1 * columns + 2)
    figure, axes = style.panels(lines, columns, lines * PANEL_HEIGHT + LEGEND_HEIGHT, width, sharey="row")
    for line, (task, measure) in enumerate(shown):
        for column, pair in enumerate(pairs):
            axis = axes[line * columns + column]
            _panel(axis, frame[(frame["pair"] == pair) & (frame["task"] == task) & (frame["measure"] == measure)])
            axis.set_title(f"{names.title('pairs', pair)}: {names.title('tasks', task)}", loc="left")
        axes[line * columns].set_ylabel(f"{measure}, %")
    for axis, pair in zip(axes[-columns:], pairs, strict=False):
        of_pair = frame[(frame["pair"] == pair) & (frame["task"] == shown[0][0]) & (frame["measure"] == shown[0][1])]
        _losses(axis, of_pair, loss_floor(frame, pair, shown[0][0]))
        axis.set_title(f"{names.title('pairs', pair)}: {names.title('tasks', shown[0][0])}", loc="left")
        axis.set_xlabel("Optimiser step")
    axes[-columns].set_ylabel("loss, nats")
    handles = {label: mark for axis in axes for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2 if columns == 1 else 4, frameon=False
    )
    style.save(figure, stem)


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for bound, dashes in LINES.items():
        for value in rows.loc[rows["step"].isna() & (rows["channel"] == bound), "value"]:
            axis.axhline(value, ls=dashes, lw=0.9, color=style.GREY, zorder=0, label=names.title("channels", bound))
    courses = rows.dropna(subset=["step"])
    for channel in names.in_order("channels", courses["channel"].unique()):
        look, title = style.channel_look(channel), names.title("channels", channel)
        course = _course(courses, channel, MATCHED)
        axis.plot(course["step"], course["value"], ms=3, lw=1.1, label=title, **look)
        axis.fill_between(course["step"], course["low"], course["high"], color=look["color"], alpha=0.18, lw=0)
        for message, marker in CONTROLS.items():
            course = _course(courses, channel, message)
            control = f"{title}, {names.title('messages', message)}"
            thin = {"ms": 2.2, "lw": 0.5, "mew": 0.5, "mfc": "white", "alpha": 0.8}
            axis.plot(course["step"], course["value"], color=look["color"], marker=marker, label=control, **thin)
    # A training is measured before its first step, too.
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(left=0)
    axis.set_ylim(-3, 103)


def _losses(axis: Axes, rows: pd.DataFrame, floor: float) -> None:
    courses = rows.dropna(subset=["step", "loss"])
    for channel in names.in_order("channels", courses["channel"].unique()):
        look = style.channel_look(channel)
        course = _course(courses, channel, MATCHED)
        axis.plot(course["step"], course["loss"], ms=3, lw=1.1, **look)
        course = _course(courses, channel, ADAPTER)
        axis.plot(course["step"], course["loss"], ms=2.2, lw=0.5, color=look["color"], marker="s", mfc="white", mew=0.5)
    if floor == floor:
        axis.axhline(floor, ls=(0, (1, 1)), lw=1, color=style.BLACK, label="Lowest loss without a message")


def _course(rows: pd.DataFrame, channel: str, message: str) -> pd.DataFrame:
    return rows[(rows["channel"] == channel) & (rows["message"] == message)].sort_values("step")


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
