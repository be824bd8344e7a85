"""The look of every figure, and the one way in which figures are saved: embedded fonts, metadata without dates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.output import beside

SUFFIXES = (".pdf", ".png")
TEXT_WIDTH = 6.3
"""Inches; the text block of the paper."""
RESOLUTION = 200

# Okabe and Ito's colours, told apart by all common kinds of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
ARM_COLOURS = {
    "receiver": GREY,
    "sharer": BLACK,
    "routing": PURPLE,
    "t2t": VERMILION,
    "c2c": BLUE,
    "c2c_deranged": SKY,
    "c2c_zeroed": SKY,
    "adapter": GREEN,
    "project": ORANGE,
    "fuse": PURPLE,
}
MARKERS = {"c2c": "o", "adapter": "s", "project": "^", "fuse": "D", "identical": "v"}


def colour(arm: str) -> str:
    """The colour of an arm in every figure."""
    return ARM_COLOURS.get(arm, GREY)


def panels(
    rows: int, columns: int, height: float, width: float = TEXT_WIDTH, *, share_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` panels, `height` inches high, that share their axes; the panels row by row."""
    sns.set_theme(context="paper", style="ticks", rc=RC)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), sharex=share_x, sharey=True, squeeze=False, layout="constrained"
    )
    return figure, list(axes.flat)


def save(figure: Figure, stem: Path) -> None:
    """Write the figure as .pdf and .png; the same data give the same bytes."""
    sns.despine(figure)
    for axis in figure.axes:
        axis.set_title(wrapped(axis.get_title(loc="left")), loc="left")
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(beside(stem, ".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(beside(stem, ".png"), dpi=RESOLUTION, metadata={"Software": None})
    plt.close(figure)


def wrapped(title: str) -> str:
    """A title that is too long for a panel, with its Sharer on a line of its own."""
    return title.replace(" from ", "\nfrom ", 1) if len(title) > 30 and "\n" not in title else title


def outputs(stem: Path) -> list[Path]:
    """The files that `save` writes."""
    return [beside(stem, suffix) for suffix in SUFFIXES]


def hide_unused(axes: Sequence[Axes], used: int) -> None:
    """Remove the panels behind the first `used`."""
    for axis in axes[used:]:
        axis.set_visible(False)


RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "pdf.fonttype": 42,
    "svg.hashsalt": "c2c",
}
