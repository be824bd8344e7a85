"""Accuracy by method with 95 % intervals: one panel a pair and benchmark, a line at chance."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from c2c.testbed.card.numbers import decimal
from paper.figures import style
from paper.reading import names

ROW_HEIGHT, FRAME_HEIGHT = 0.185, 0.5
PANELS_IN_A_ROW = 2


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the main table's `frame`: a panel for each benchmark that a pair was asked.

    A row holds a pair; of more than two benchmarks, a row holds a benchmark instead. Where pairs were asked different
    benchmarks, panels follow each other, `PANELS_IN_A_ROW` in a row.
    """
    # 1. Which panels there are, in which order, and how many in a row
    pairs, benchmarks = (list(frame[column].unique()) for column in ("pair", "benchmark"))
    is_turned = len(benchmarks) > 2
    arms = [
        arm for arm in frame["arm"].unique() if not is_turned or frame.loc[frame["arm"] == arm, "value"].notna().any()
    ]
    order = [(pair, name) for name in benchmarks for pair in pairs] if is_turned else list(product(pairs, benchmarks))
    panels = set(zip(frame["pair"], frame["benchmark"], strict=True))
    columns = len(pairs if is_turned else benchmarks)
    if len(panels) < len(order):
        order, columns = (
            [place for place in product(pairs, benchmarks) if place in panels],
            min(PANELS_IN_A_ROW, len(panels)),
        )
    # 2. The panels, each with all arms
    rows = -(-len(order) // columns)
    figure, axes = style.panels(rows, columns, rows * (ROW_HEIGHT * len(arms) + FRAME_HEIGHT) + 0.15)
    separator = "\n" if is_turned or len(panels) < len(pairs) * len(benchmarks) else ", "
    for axis, (pair, benchmark) in zip(axes, order, strict=False):
        rows_of_panel = (
            frame[(frame["pair"] == pair) & (frame["benchmark"] == benchmark)].set_index("arm").reindex(arms)
        )
        _panel(axis, rows_of_panel, f"{names.title('pairs', pair)}{separator}{names.title('benchmarks', benchmark)}")
    # 3. The axis of accuracies below the lowest panel of each column
    style.hide_unused(axes, len(order))
    for axis in axes[max(len(order) - columns, 0) : len(order)]:
        axis.set_xlabel("Accuracy, %")
        axis.tick_params(labelbottom=True)
    style.save(figure, stem)


def _panel(axis: Axes, rows: pd.DataFrame, title: str) -> None:
    for place, (arm, row) in enumerate(rows.iterrows()):
        if pd.isna(row["value"]):
            axis.text(2, place, "not run", va="center", color=style.GREY, style="italic", fontsize=7)
            continue
        reach = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        axis.errorbar(
            row["value"], place, xerr=reach, fmt="o", ms=4, lw=1.2, color=style.colour(str(arm)), clip_on=False
        )
        axis.text(1.035, place, decimal(row["value"], 1), va="center", fontsize=7, transform=axis.get_yaxis_transform())
    chance = rows["chance"].dropna().iloc[0]
    axis.axvline(chance, ls=(0, (3, 2)), lw=0.8, color=style.GREY, zorder=0)
    axis.text(chance + 1.5, -0.72, "chance", fontsize=6.5, color=style.GREY, va="center")
    axis.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -1.1), yticks=range(len(rows)))
    axis.set_yticklabels([names.title("arms", str(arm)) for arm in rows.index])
    axis.tick_params(axis="y", length=0)
    counts = rows["n"].dropna().astype(int).unique()
    axis.set_title(f"{title} (n = {', '.join(map(str, counts))})", loc="left")


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
