"""Progressive fusion: accuracy by the share of each prompt that is fused, with its control (the paper's Figure 11)."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from paper.command import command
from paper.figures import style
from paper.reading import names
from paper.reading.files import read_table
from paper.tables.partial import SIDES, arms_of, build
from paper.writing.output import stamped, table_parser

LINES = {"": ("o", "-"), "deranged_": ("x", (0, (3, 2)))}


def draw(accuracy: pd.DataFrame, stem: Path) -> None:
    """Draw the accuracies of one fuser, a panel a side."""
    frame = build(accuracy)
    figure, axes = style.panels(1, len(SIDES), 2.3)
    for axis, (side, title) in zip(axes, SIDES.items(), strict=True):
        _panel(axis, frame[frame["side"] == side].sort_values("share"))
        axis.set_title(f"{title.capitalize()} part of the prompt", loc="left")
        axis.set(xlabel="Tokens that are fused, %", ylim=(0, 100), xticks=sorted(frame["share"].unique()))
    axes[0].set_ylabel("Accuracy, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    style.save(figure, stem)


@command
def main() -> None:
    """Command line."""
    arguments = table_parser(__doc__, "--accuracy").parse_args()
    with stamped(style.outputs(arguments.output_stem), [arguments.accuracy]):
        draw(read_table(arguments.accuracy), arguments.output_stem)


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for arm, (prefix, (marker, line)) in zip(arms_of(rows), LINES.items(), strict=True):
        value = rows[f"{prefix}value"]
        reach = [value - rows[f"{prefix}low"], rows[f"{prefix}high"] - value]
        axis.errorbar(
            *(rows["share"], value),
            **{"yerr": reach, "marker": marker, "ls": line, "ms": 3.5, "lw": 1.1, "clip_on": False},
            **{"color": style.colour(arm), "label": names.title("arms", arm)},
        )


if __name__ == "__main__":
    sys.exit(main())
