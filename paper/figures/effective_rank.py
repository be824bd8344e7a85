"""Effective rank of keys and values by layer: Sharer, Receiver, fused cache, and a control (the paper's Figure 12)."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from paper.command import command
from paper.figures import style
from paper.reading.files import read_table
from paper.tables.effective_rank import CACHES
from paper.writing.columns import HALF_TITLES
from paper.writing.output import stamped, table_parser

LINES = {
    "sharer": (style.BLACK, "s", "-"),
    "receiver": (style.GREY, "o", "-"),
    "fused": (style.BLUE, "o", "-"),
    "fused_deranged": (style.SKY, "x", (0, (3, 2))),
}


def draw(ranks: pd.DataFrame, stem: Path) -> None:
    """Draw the ranks of one fuser, a panel a half."""
    figure, axes = style.panels(1, len(HALF_TITLES), 2.3)
    for axis, (half, title) in zip(axes, HALF_TITLES.items(), strict=True):
        _panel(axis, ranks[ranks["half"] == half])
        axis.set_title(title.capitalize(), loc="left")
        axis.set_xlabel("Receiver layer")
    axes[0].set_ylabel("Effective rank")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    style.save(figure, stem)


@command
def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--ranks").parse_args()
    with stamped(style.outputs(arguments.output_stem), [arguments.ranks]):
        draw(read_table(arguments.ranks), arguments.output_stem)


def _panel(axis: Axes, ranks: pd.DataFrame) -> None:
    for cache, (colour, marker, line) in LINES.items():
        rows = ranks[ranks["cache"] == cache].sort_values("layer")
        axis.plot(
            *(rows["layer"], rows["effective_rank"]),
            **{"color": colour, "marker": marker, "ls": line, "ms": 3.5, "lw": 1.1, "label": CACHES[cache]},
        )
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


if __name__ == "__main__":
    sys.exit(main())
