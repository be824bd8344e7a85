"""Where the last layer's caches of questions lie: Receiver, Sharer, transformed and fused (the paper's Figure 3)."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import decimal
from paper.command import command
from paper.figures import style
from paper.reading.files import read_table
from paper.writing.output import stamped, table_parser

CLOUDS = {
    "receiver": (style.GREY, "o", "Receiver"),
    "sharer": (style.BLACK, "s", "Sharer"),
    "transformed": (style.ORANGE, "^", "Sharer, transformed by an MLP"),
    "fused": (style.BLUE, "D", "C2C"),
}


def draw(points: pd.DataFrame, clouds: pd.DataFrame, stem: Path) -> None:
    """Draw a mark a question and cache; the legend says what t-SNE cannot show, from `clouds`."""
    figure, (axis,) = style.panels(1, 1, 2.9, width=5.2)
    for cache, (colour, marker, title) in CLOUDS.items():
        rows = points[points["cache"] == cache]
        about = clouds[clouds["cache"] == cache].iloc[0]
        label = f"{title}\nspread {decimal(about['spread'], 2)}, distance {decimal(about['distance'], 2)}"
        axis.scatter(rows["x"], rows["y"], s=7, c=colour, marker=marker, alpha=0.6, lw=0, label=label)
    axis.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    figure.legend(loc="outside right center", frameon=False, markerscale=1.8, labelspacing=1.1)
    style.save(figure, stem)


@command
def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--points", "--clouds").parse_args()
    with stamped(style.outputs(arguments.output_stem), [arguments.points, arguments.clouds]):
        draw(read_table(arguments.points), read_table(arguments.clouds), arguments.output_stem)


if __name__ == "__main__":
    sys.exit(main())
