"""The four gains with 95 % intervals: a panel a pair, a group a benchmark; marks differ in shape and filling."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.command import command
from paper.figures import style
from paper.reading import names
from paper.reading.files import read_table
from paper.writing.output import stamped

PANELS_IN_A_ROW = 3
ROW_HEIGHT, GROUP_GAP, FRAME_HEIGHT = 0.13, 1.3, 0.75
MARKERS = {
    "system": ("o", style.BLACK, style.BLACK),
    "pairing": ("s", style.BLUE, style.BLUE),
    "communication": ("D", style.VERMILION, style.VERMILION),
    "adaptation": ("o", style.GREY, "white"),
}
"""Shape, colour, filling."""
HASH = "Table-SHA256"
"""Under this key a PNG holds the hash of the table that it was drawn from; `paper.verify` looks it up."""


def draw(table: Path) -> Figure:
    """Draw a written gains.csv: panels side by side, or below each other where pairs are asked different benchmarks."""
    frame = read_table(table, empty_is_missing=True)
    measured = frame.groupby("pair", sort=False)["value"].transform("count") > 0
    frame = frame[measured] if measured.any() else frame
    pairs = {str(pair): list(rows["benchmark"].unique()) for pair, rows in frame.groupby("pair", sort=False)}
    figure, axes = _panels(pairs)
    for axis, (pair, benchmarks) in zip(axes, pairs.items(), strict=False):
        _panel(axis, frame[frame["pair"] == pair], benchmarks)
        axis.set_title(names.title("pairs", pair), loc="left")
        axis.set_xlabel("Percentage points")
        axis.tick_params(labelbottom=True)
    style.hide_unused(axes, len(pairs))
    handles, labels = _legend(axes[0])
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(pairs) == 1 else 4, frameon=False)
    return figure


def _panels(pairs: Mapping[str, Sequence[str]]) -> tuple[Figure, list[Axes]]:
    """A panel for each pair and what it is asked; all share the horizontal axis."""
    heights = [ROW_HEIGHT * len(benchmarks) * (len(MARKERS) + GROUP_GAP) for benchmarks in pairs.values()]
    if len({tuple(benchmarks) for benchmarks in pairs.values()}) > 1:
        whole = sum(heights) + FRAME_HEIGHT * len(pairs)
        return style.panels(len(pairs), 1, whole, sharey=False, height_ratios=heights)
    columns = min(PANELS_IN_A_ROW, len(pairs))
    rows = -(-len(pairs) // columns)
    return style.panels(rows, columns, rows * (heights[0] + FRAME_HEIGHT) + 0.3)


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


def _panel(axis: Axes, rows: pd.DataFrame, benchmarks: list[str]) -> None:
    step = len(MARKERS) + GROUP_GAP
    for group, benchmark in enumerate(benchmarks):
        of_benchmark = rows[rows["benchmark"] == benchmark].set_index("gain")
        for place, (gain, (shape, colour, filling)) in enumerate(MARKERS.items()):
            height = group * step + place
            if gain not in of_benchmark.index or pd.isna(of_benchmark.loc[gain, "value"]):
                axis.text(0, height, " not run", va="center", color=style.GREY, style="italic", fontsize=6)
                continue
            row = of_benchmark.loc[gain]
            reach = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            axis.errorbar(row["value"], height, xerr=reach, fmt=shape, ms=4, lw=1.1, color=colour, mfc=filling)
        if group:
            axis.axhline(group * step - (1 + GROUP_GAP) / 2, lw=0.4, color="0.85", zorder=0)
    axis.axvline(0, lw=0.8, color=style.BLACK, zorder=0)
    axis.set_yticks([group * step + (len(MARKERS) - 1) / 2 for group in range(len(benchmarks))])
    axis.set_yticklabels([names.title("benchmarks", benchmark) for benchmark in benchmarks])
    axis.set_ylim(len(benchmarks) * step - (1 + GROUP_GAP) / 2, -(1 + GROUP_GAP) / 2)
    axis.tick_params(axis="y", length=0)


def _legend(axis: Axes) -> tuple[list[object], list[str]]:
    handles: list[object] = [
        axis.plot([], [], ls="", marker=shape, ms=4, color=colour, mfc=filling)[0]
        for shape, colour, filling in MARKERS.values()
    ]
    return handles, [f"{names.title('gains', gain)} gain" for gain in MARKERS]


if __name__ == "__main__":
    sys.exit(main())
