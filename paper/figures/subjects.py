"""Accuracy by subject of each method, one panel a pair and benchmark (the paper's Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from paper.figures import style
from paper.reading import names
from paper.tables.subjects import FEWEST

MARKERS = {"receiver": "o", "sharer": "D", "t2t": "^", "c2c": "s", "projected": "P"}
PANELS_IN_A_ROW = 2
ROW, FRAME = 0.235, 0.55
PRINTED = ("paper", "paper_gain")


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the accuracies of subjects.csv."""
    draw_panels(frame, stem, ("value", "low", "high", "paper"), MARKERS, "Accuracy, %")


def draw_panels(
    frame: pd.DataFrame, stem: Path, columns: tuple[str, str, str, str], marks: Mapping[str, str], label: str
) -> None:
    """One row a subject, one mark a method: a value with its interval, and the paper's value hollow.

    Args:
        frame: subjects.csv.
        stem: Of the files.
        columns: Of the value, the ends of its interval, and the paper's value.
        marks: By method, in the order in which they are drawn.
        label: Of the axis.
    """
    rows_of_marks = frame[frame["arm"].isin(marks) & (frame["n"] >= FEWEST)].dropna(subset=[columns[0]])
    # A panel a pair and benchmark; a row of panels is as high as its longest list of subjects.
    groups = list(rows_of_marks.groupby(["pair", "benchmark"], sort=False))
    wide = min(PANELS_IN_A_ROW, max(len(groups), 1))
    rows = [groups[start : start + wide] for start in range(0, len(groups), wide)] or [[]]
    most = [max((group["subject"].nunique() for _, group in row), default=1) for row in rows]
    heights = [ROW * number + FRAME for number in most]
    figure, axes = style.panels(
        len(rows), wide, sum(heights) + 0.5, sharey=False, gridspec_kw={"height_ratios": heights}
    )
    # Panels, titles and one legend.
    for axis, ((pair, benchmark), group) in zip(axes, groups, strict=False):
        _panel(axis, group, columns, marks)
        title = names.cell_title(str(pair), str(benchmark))
        axis.set_title(title, loc="left")
        axis.set_xlabel(label)
        axis.tick_params(labelbottom=True)
    style.hide_unused(axes, len(groups))
    if not groups:
        axes[0].set_visible(True)
        axes[0].set_title("no benchmark of this scale has subjects", loc="left")
    arms = [arm for arm in marks if arm in set(rows_of_marks["arm"])]
    figure.legend(
        handles=_legend(arms, marks, rows_of_marks[columns[3]].notna().any()), loc="outside upper center", **LEGEND
    )
    style.save(figure, stem)


LEGEND = {"ncols": 6, "frameon": False, "handletextpad": 0.2}


def _panel(axis: Axes, group: pd.DataFrame, columns: tuple[str, str, str, str], marks: Mapping[str, str]) -> None:
    value, low, high, paper = columns
    subjects = list(group["subject"].unique())
    arms = [arm for arm in marks if arm in set(group["arm"])]
    for number, arm in enumerate(arms):
        rows = group[group["arm"] == arm]
        place = [subjects.index(subject) + 0.17 * (number - (len(arms) - 1) / 2) for subject in rows["subject"]]
        reach = [rows[value] - rows[low], rows[high] - rows[value]]
        look = {"marker": marks[arm], "color": style.colour(arm), "ls": "", "ms": 3.5}
        axis.errorbar(rows[value], place, xerr=reach, lw=0, elinewidth=0.8, **look)
        axis.plot(rows[paper], place, mfc="white", **look)
    for line in range(len(subjects) - 1):
        axis.axhline(line + 0.5, lw=0.4, color="0.88", zorder=0)
    axis.axvline(0, lw=0.7, color=style.BLACK, zorder=0)
    axis.set_yticks(range(len(subjects)), [f"{s.replace('_', ' ')} ({_questions_of(group, s)})" for s in subjects])
    axis.set_ylim(len(subjects) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)


def _questions_of(group: pd.DataFrame, subject: str) -> int:
    return int(group.loc[group["subject"] == subject, "n"].iloc[0])


def _legend(arms: list[str], marks: Mapping[str, str], with_paper: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], ls="", marker=marks[arm], ms=4, color=style.colour(arm), label=names.title("arms", arm))
        for arm in arms
    ]
    if with_paper:
        handles.append(Line2D([], [], ls="", marker="o", ms=4, mfc="white", color=style.BLACK, label="the paper"))
    return handles


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
