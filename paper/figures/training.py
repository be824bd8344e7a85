"""Training curves by recipe, one panel a pair: training loss (thin, averaged) and validation loss (marks).

Dotted: the validation loss where the Sharer reads another prompt. What lies between the two depends on the message.
Where the paper trained the same pair, stars are the validation loss of its Figure 13b.

Drawn from the histories of fusers, or from committed curves: ``--curves paper/records/smoke/curves.csv``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from paper.command import command
from paper.figures import style
from paper.reading import names
from paper.reading.alignments import main_alignments
from paper.reading.curves import CONFIG, MODELS, read_curves
from paper.reading.curves import HISTORY as FILE
from paper.reading.fusers import FuserRun, label, read_tables
from paper.reading.losses import losses_by_pair, paper_losses
from paper.reading.reference import PATH as REFERENCE
from paper.reading.reference import Reference
from paper.writing.output import stamped, table_parser

DERANGED_LOSS = "validation_deranged_loss"
DERANGED, PAPER_LABEL = "dotted, in the recipe's colour: deranged", "C2C in the paper"
AVERAGED = 40
"""The training loss is averaged over one in so many of the steps."""
PANELS_IN_A_ROW, SQUARE, LEGEND_COLUMNS = 3, 4, 4
"""So many panels stand in two rows of two."""
PANEL_HEIGHT, PANEL_WIDTH, LEGEND_LINE = 2.2, 3.2, 0.17
"""Inches."""


def draw(frame: pd.DataFrame, stem: Path, paper: Mapping[str, pd.Series] | None = None) -> None:
    """Draw the rows of all ``history.csv``, and the paper's validation losses by step of the pairs in `paper`."""
    paper = paper or {}
    groups = list(frame.groupby("pair", sort=False))
    columns = 2 if len(groups) == SQUARE else min(len(groups), PANELS_IN_A_ROW)
    rows = math.ceil(len(groups) / columns)
    lines = math.ceil((len(frame.groupby(["recipe", "alignment"])) + 2) / LEGEND_COLUMNS)
    width = min(style.TEXT_WIDTH, PANEL_WIDTH * columns)
    figure, axes = style.panels(rows, columns, PANEL_HEIGHT * rows + LEGEND_LINE * lines + 0.3, width=width)
    for axis, (pair, group) in zip(axes, groups, strict=False):
        _panel(axis, group, names.title("pairs", str(pair)), paper.get(str(pair)))
    style.hide_unused(axes, len(groups))
    for axis in axes[len(groups) - columns :]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("Optimiser step")
    for axis in axes[::columns]:
        axis.set_ylabel("Cross-entropy, nats")
    _legend(figure, axes)
    style.save(figure, stem)


@command
def main() -> None:
    """Command line."""
    parser = table_parser(__doc__)
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--fusers", type=Path, nargs="+", default=[], help="folders of trained fusers")
    sources.add_argument("--curves", type=Path, help="committed training curves instead")
    arguments = parser.parse_args()
    files = [folder / file for folder in arguments.fusers for file in (FILE, CONFIG)]
    with stamped(style.outputs(arguments.output_stem), [*(files or [arguments.curves]), REFERENCE]):
        if arguments.curves:
            frame = read_curves(arguments.curves)
            paper = losses_by_pair(models_of_curves(frame), Reference())
        else:
            frame, paper = read_tables(arguments.fusers, FILE), paper_losses(arguments.fusers, Reference())
        draw(frame, arguments.output_stem, paper)


def models_of_curves(curves: pd.DataFrame) -> dict[FuserRun, dict[str, str]]:
    """Receiver and Sharer of each training in a table of curves."""
    rows = curves.drop_duplicates([*FuserRun._fields])
    return {
        FuserRun(*row[:-2]): dict(zip(MODELS, row[-2:], strict=True))
        for row in rows[[*FuserRun._fields, *MODELS]].values
    }


def _panel(axis: Axes, group: pd.DataFrame, title: str, paper: pd.Series | None) -> None:
    main_of_pair = set(main_alignments(group).values())
    for (recipe, alignment), runs in group.groupby(["recipe", "alignment"], sort=False):
        main = alignment in main_of_pair
        colour = style.colour(str(recipe)) if main else style.SKY
        # Training loss: a thin line a seed, averaged over neighbouring steps.
        for _, run in runs.groupby("seed"):
            window = max(run["step"].nunique() // AVERAGED, 1)
            axis.plot(
                run["step"],
                run["loss"].rolling(window, center=True, min_periods=1).mean(),
                lw=0.6,
                color=colour,
                alpha=0.6,
            )
        # Validation loss, mean over seeds; dotted with another prompt's message.
        losses = runs.dropna(subset=["validation_loss"]).groupby("step")["validation_loss"].mean()
        name = label(str(recipe), str(alignment), not main)
        axis.plot(
            losses.index,
            losses,
            lw=1,
            ls="-" if main else (0, (2, 1)),
            marker=style.MARKERS.get(str(recipe), "o"),
            ms=3,
            color=colour,
            label=name,
        )
        losses = runs.dropna(subset=[DERANGED_LOSS]).groupby("step")[DERANGED_LOSS].mean()
        axis.plot(losses.index, losses, lw=1, ls=":", color=colour)
    if group[DERANGED_LOSS].notna().any():
        axis.plot([], [], lw=1, ls=":", color=style.BLACK, label=DERANGED)
    # The paper's losses, and the axes.
    if paper is not None:
        axis.plot(paper.index, paper, ls="", marker="*", ms=4, color=style.BLACK, label=PAPER_LABEL)
    axis.set(yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_title(title, loc="left")


def _legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One for all panels, below them, with the lines that are no recipe's last."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    last = [name for name in (DERANGED, PAPER_LABEL) if name in handles]
    order = [*(name for name in handles if name not in last), *last]
    figure.legend(
        [handles[name] for name in order], order, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False
    )


if __name__ == "__main__":
    sys.exit(main())
