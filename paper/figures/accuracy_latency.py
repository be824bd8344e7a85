"""Accuracy against the mean time per question: one panel a pair, on each benchmark that was timed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from paper import names
from paper.figures import style
from paper.output import stamped, table_parser


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the timed rows of the main table's `frame`."""
    timed = frame.dropna(subset=["time_ms", "value"])
    groups = list(timed.groupby(["pair", "benchmark"], sort=False))
    figure, axes = style.panels(1, max(len(groups), 1), 2.25, width=min(style.TEXT_WIDTH, 3.2 * max(len(groups), 1)))
    for axis, ((pair, benchmark), rows) in zip(axes, groups, strict=False):
        title = f"{names.title('pairs', str(pair))}, {names.title('benchmarks', str(benchmark))}"
        _panel(axis, rows, f"{title} (n = {int(rows['n'].max())})")
    axes[0].set_ylabel("Accuracy, %")
    if not groups:
        axes[0].set_title("no method was timed", loc="left")
    style.save(figure, stem)


def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--table").parse_args()
    with stamped(style.outputs(arguments.output_stem), [arguments.table]):
        frame = pd.read_csv(arguments.table, keep_default_na=False, na_values=[""])
        draw(frame, arguments.output_stem)


def _panel(axis: Axes, rows: pd.DataFrame, title: str) -> None:
    for rank, row in enumerate(rows.sort_values("time_ms").itertuples()):
        xerr, yerr = ([[mean - low], [high - mean]] for mean, low, high in _reach(row))
        colour = style.colour(row.arm)
        axis.errorbar(row.time_ms, row.value, xerr=xerr, yerr=yerr, fmt="o", ms=4.5, lw=1, color=colour, clip_on=False)
        # Points that lie side by side get their names at different heights.
        below = (-14, -26, -38)[rank % 3] if row.value > 50 else 14
        axis.annotate(
            names.title("arms", row.arm),
            (row.time_ms, row.value),
            xytext=(0, below),
            textcoords="offset points",
            ha="center",
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 3},
        )
    axis.axhline(rows["chance"].iloc[0], ls=(0, (3, 2)), lw=0.8, color=style.GREY, zorder=0)
    axis.annotate(
        "chance",
        (1, rows["chance"].iloc[0]),
        xycoords=axis.get_yaxis_transform(),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=6.5,
        color=style.GREY,
    )
    axis.set(xscale="log", ylim=(0, 103), xlabel="Mean time per question, ms")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.15)
    axis.set_title(title, loc="left")


def _reach(row: object) -> list[tuple[float, float, float]]:
    numbers = [("time_ms", "time_low_ms", "time_high_ms"), ("value", "low", "high")]
    return [tuple(getattr(row, name) for name in group) for group in numbers]  # type: ignore[misc]


if __name__ == "__main__":
    main()
