"""The gains with 95 % intervals: a panel a pair, a group a benchmark; marks differ in shape and filling."""

from __future__ import annotations

import argparse
import hashlib
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper.command import command
from paper.figures import style
from paper.reading import names
from paper.reading.files import read_table
from paper.writing.output import stamped

PANELS_IN_A_ROW = 3
ROW_HEIGHT, GROUP_GAP, FRAME_HEIGHT = 0.13, 1.3, 0.55
LABEL_LETTERS = 20
"""In a line of a benchmark's label."""
ONE_SEED: dict[str, Any] = {"elinewidth": 0.6, "capsize": 2, "capthick": 0.6}
"""How the interval of a single training is drawn."""
MARKERS = {
    "system": ("o", style.BLACK, style.BLACK),
    "any_message": ("^", style.ORANGE, "white"),
    "pairing": ("s", style.BLUE, style.BLUE),
    "content": ("s", style.BLUE, "white"),
    "communication": ("D", style.VERMILION, style.VERMILION),
    "adaptation": ("o", style.GREY, "white"),
}
"""Shape, colour, filling; only gains that are rows of the table are drawn."""
HASH = "Table-SHA256"
"""Under this key a PNG holds the hash of the table that it was drawn from; `paper.verify` looks it up."""


def draw(table: Path) -> Figure:
    """Draw a written gains.csv: a panel a pair, up to `PANELS_IN_A_ROW` side by side.

    Pairs that are asked different benchmarks have their own vertical axes, two panels side by side.
    """
    frame = read_table(table, empty_is_missing=True)
    has_value = frame.groupby("pair", sort=False)["value"].transform("count") > 0
    frame = frame[has_value] if has_value.any() else frame
    pairs = {str(pair): list(rows["benchmark"].unique()) for pair, rows in frame.groupby("pair", sort=False)}
    gains = [gain for gain in MARKERS if (frame["gain"] == gain).any()]
    figure, axes, columns = _panels(pairs, len(gains))
    for axis, (pair, benchmarks) in zip(axes, pairs.items(), strict=False):
        _panel(axis, frame[frame["pair"] == pair], benchmarks, gains)
        axis.set_title(f"{names.title('pairs', pair)}{_seeds(frame[frame['pair'] == pair])}", loc="left")
        axis.tick_params(labelbottom=True)
    style.hide_unused(axes, len(pairs))
    for axis in axes[max(len(pairs) - columns, 0) : len(pairs)]:
        axis.set_xlabel("Percentage points")
    handles, labels = _legend(axes[0], gains, (frame["seeds"] == 1).any())
    figure.legend(handles, labels, loc="outside upper center", ncols=2 if len(pairs) == 1 else 3, frameon=False)
    return figure


def _panels(pairs: Mapping[str, Sequence[str]], gains: int) -> tuple[Figure, list[Axes], int]:
    """A panel for each pair and what it is asked, and how many stand in a row; all share the horizontal axis."""
    differ = len({tuple(benchmarks) for benchmarks in pairs.values()}) > 1
    columns = min(PANELS_IN_A_ROW - 1 if differ else PANELS_IN_A_ROW, len(pairs))
    counts = [len(benchmarks) for benchmarks in pairs.values()]
    # A row of panels is as high as its longest list of benchmarks.
    most = [max(counts[start : start + columns]) for start in range(0, len(counts), columns)]
    heights = [ROW_HEIGHT * number * (gains + GROUP_GAP) + FRAME_HEIGHT for number in most]
    look = {"gridspec_kw": {"height_ratios": heights}} | ({"sharey": False} if differ else {})
    figure, axes = style.panels(len(heights), columns, sum(heights) + 0.3, **look)
    return figure, axes, columns


def save_picture(table: Path, output: Path) -> None:
    """Draw a written gains.csv as one PNG that holds the table's hash."""
    output.parent.mkdir(parents=True, exist_ok=True)
    figure = draw(table)
    sns.despine(figure)
    style.fit_titles(figure)
    metadata = {"Software": None, HASH: table_hash(table)}
    figure.savefig(output, dpi=style.RESOLUTION, metadata=metadata)
    plt.close(figure)


def table_hash(table: Path) -> str:
    """SHA-256 of a table's bytes."""
    return hashlib.sha256(table.read_bytes()).hexdigest()


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="a gains.csv")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--output-stem", type=Path, help="path of the outputs without suffix")
    target.add_argument("--picture", type=Path, help="the one .png to write, as in docs/figures")
    arguments = parser.parse_args()
    if arguments.picture:
        save_picture(arguments.table, arguments.picture)
        return
    with stamped(style.outputs(arguments.output_stem), [arguments.table]):
        style.save(draw(arguments.table), arguments.output_stem)


def _panel(axis: Axes, rows: pd.DataFrame, benchmarks: list[str], gains: Sequence[str]) -> None:
    step = len(gains) + GROUP_GAP
    for group, benchmark in enumerate(benchmarks):
        of_benchmark = rows[rows["benchmark"] == benchmark].set_index("gain")
        for place, gain in enumerate(gains):
            (shape, colour, filling), height = MARKERS[gain], group * step + place
            if gain not in of_benchmark.index or pd.isna(of_benchmark.loc[gain, "value"]):
                if gain != "content":
                    axis.text(0, height, " not run", va="center", color=style.GREY, style="italic", fontsize=6)
                continue
            row = of_benchmark.loc[gain]
            reach = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            # An interval of one training says nothing about others: thinner, with caps.
            bar = ONE_SEED if row["seeds"] == 1 else {"elinewidth": 1.1}
            axis.errorbar(row["value"], height, xerr=reach, fmt=shape, ms=4, color=colour, mfc=filling, **bar)
        if group:
            axis.axhline(group * step - (1 + GROUP_GAP) / 2, lw=0.4, color="0.85", zorder=0)
    axis.axvline(0, lw=0.8, color=style.BLACK, zorder=0)
    axis.set_yticks([group * step + (len(gains) - 1) / 2 for group in range(len(benchmarks))])
    axis.set_yticklabels([_label(rows[rows["benchmark"] == benchmark], benchmark) for benchmark in benchmarks])
    axis.set_ylim(len(benchmarks) * step - (1 + GROUP_GAP) / 2, -(1 + GROUP_GAP) / 2)
    axis.tick_params(axis="y", length=0)


def _label(rows: pd.DataFrame, benchmark: str) -> str:
    """The benchmark with its number of questions."""
    title = textwrap.fill(names.title("benchmarks", benchmark), LABEL_LETTERS)
    cells = rows.dropna(subset=["value"])
    if cells.empty:
        return title
    return f"{title}\nn = {int(cells['n'].max())}"


def _seeds(rows: pd.DataFrame) -> str:
    """As in " (3 seeds)"; empty for a pair without a gain."""
    seeds = rows["seeds"].dropna().astype(int)
    if seeds.empty:
        return ""
    number = str(seeds.max()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return f" ({number} seed{'s' if seeds.max() > 1 else ''})"


def _legend(axis: Axes, gains: Sequence[str], one_seed: bool) -> tuple[list[Any], list[str]]:
    """A mark for each gain; and what an interval with caps is, where there is one."""
    handles: list[Any] = [
        axis.plot([], [], ls="", marker=shape, ms=4, color=colour, mfc=filling)[0]
        for shape, colour, filling in (MARKERS[gain] for gain in gains)
    ]
    labels = [f"{names.title('gains', gain)} gain" for gain in gains]
    if one_seed:
        handles.append(Line2D([], [], lw=ONE_SEED["elinewidth"], marker="|", ms=4, color=style.BLACK))
        labels.append("thin, with caps: one training seed")
    return handles, labels


if __name__ == "__main__":
    sys.exit(main())
