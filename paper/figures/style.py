"""The look of every figure, and the one way in which figures are saved: embedded fonts, and how they are cited."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from c2c.storage.files import written_whole
from paper.command import command
from paper.reading.files import read_table
from paper.writing import citation
from paper.writing.output import path_with, stamped, table_parser

SUFFIXES = (".pdf", ".png")
TEXT_WIDTH = 6.3
"""Inches; the text block of the paper."""
RESOLUTION = 200
POINTS = 72
"""Of an inch."""
LETTER, SHORTEST = 0.56, 12
"""Mean width of a letter as a share of the font's size, and how few letters a line of a title may be asked to have."""
FIXED_BLANK = "\N{NO-BREAK SPACE}"
INPUTS = "Inputs-SHA256"
"""Key of a PNG for the start of the hash of what it was drawn from (`paper.reading.volatile.steady_hash`)."""

# Okabe and Ito's colours, told apart by all common kinds of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
BROWN = "#7B4B1E"
"""Darker than any of theirs, for a ninth."""
ARM_COLOURS = {
    "receiver": GREY,
    "sharer": BLACK,
    "routing": PURPLE,
    "t2t": VERMILION,
    "c2c": BLUE,
    "c2c_deranged": SKY,
    "c2c_same_answer": SKY,
    "c2c_zeroed": SKY,
    "adapter": GREEN,
    "projected": BROWN,
    "project": ORANGE,
    "fuse": PURPLE,
}
CHANNEL_COLOURS = {
    "text": VERMILION,
    "text_cut": VERMILION,
    "ridge": GREEN,
    "ridge_int8": GREEN,
    "ridge_int4": GREEN,
    "c2c": ORANGE,
    "c2c_on_ridge": BLUE,
    "low_rank": SKY,
    "latent": PURPLE,
    "activation": BROWN,
    "concept": BROWN,
    "layerwise": PURPLE,
    "subset": SKY,
}
CHANNEL_MARKERS = {
    "text": "o",
    "text_cut": "v",
    "ridge": "s",
    "ridge_int8": "^",
    "ridge_int4": "v",
    "c2c": "o",
    "c2c_on_ridge": "D",
    "low_rank": "s",
    "latent": "P",
    "activation": "X",
    "concept": "*",
    "layerwise": "d",
    "subset": "<",
}
OTHER_CHANNELS = (BLACK, PURPLE, SKY, GREEN)
"""Colours of channels that are not listed, such as a user's."""
MARKERS = {"c2c": "o", "adapter": "s", "project": "^", "fuse": "D", "identical": "v", "projected": "P"}


def colour(arm: str) -> str:
    """The colour of an arm in every figure."""
    return ARM_COLOURS.get(arm, GREY)


def channel_look(name: str) -> dict[str, str]:
    """Colour and marker of a channel in every figure; one that is not listed gets them from its name."""
    if name in CHANNEL_COLOURS:
        return {"color": CHANNEL_COLOURS[name], "marker": CHANNEL_MARKERS[name]}
    number = sum(map(ord, name))
    return {"color": OTHER_CHANNELS[number % len(OTHER_CHANNELS)], "marker": "hp8H"[number % 4]}


def panels(rows: int, columns: int, height: float, width: float = TEXT_WIDTH, **more: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` panels, `height` inches high, that share both axes; the panels row by row.

    What `more` names goes to ``plt.subplots`` over that: ``sharey=False``, say.
    """
    sns.set_theme(context="paper", style="ticks", rc=RC)
    options = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"} | more
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), **options)
    return figure, list(axes.flat)


def run_figure(description: str, *, table: Callable[[pd.DataFrame, Path], Any]) -> None:
    """Command line of a figure that is drawn from one table: ``--table``, ``--output-stem``.

    Args:
        description: Its first line is the help.
        table: Draws it; takes the table and the stem of the outputs.
    """

    @command
    def main() -> None:
        arguments = table_parser(description.splitlines()[0], "--table").parse_args()
        with stamped(outputs(arguments.output_stem), [arguments.table]):
            table(read_table(arguments.table, empty_is_missing=True), arguments.output_stem)

    if code := main():
        sys.exit(code)


def save(figure: Figure, stem: Path) -> None:
    """Write the figure as .pdf and .png; the same data give the same bytes."""
    sns.despine(figure)
    fit_titles(figure)
    with written_whole(path_with(stem, ".pdf")) as unfinished:
        figure.savefig(unfinished, format="pdf", metadata=pdf_metadata(stem))
    with written_whole(path_with(stem, ".png")) as unfinished:
        figure.savefig(unfinished, format="png", dpi=RESOLUTION, metadata=png_metadata(stem))
    plt.close(figure)


def pdf_metadata(stem: Path) -> dict[str, str | None]:
    """Entries of the PDF's information dictionary, without dates: how the figure is cited, where it has a caption."""
    bare: dict[str, str | None] = {"CreationDate": None, "Creator": None, "Producer": None}
    entry = citation.cite_file(path_with(stem, ".pdf").absolute())
    if entry is None:
        return bare
    entries = {"Title": entry.title, "Author": citation.authors(), "Subject": f"Cite as: {entry.sentence}"}
    return {**bare, **entries, "Keywords": " ".join(entry.bibtex().split()), "Creator": entry.id}


def png_metadata(stem: Path) -> dict[str, str | None]:
    """The text chunks of the PNG: the same under the names that PNG has, and the inputs' hash."""
    bare: dict[str, str | None] = {"Software": None}
    cited = citation.cite_file(path_with(stem, ".png").absolute())
    if cited is None:
        return bare
    entries = {"Title": cited.title, "Author": citation.authors(), "Description": cited.caption, "Source": cited.id}
    return {**bare, **entries, "Comment": f"Cite as: {cited.sentence}", "BibTeX": cited.bibtex(), INPUTS: cited.inputs}


def fit_titles(figure: Figure) -> None:
    """Break each panel's title into lines that are no wider than the panel, so that neighbours never overlap."""
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    for axis in figure.axes:
        axis.set_title("", loc="left")
    # Panels have their width once everything but the titles is laid out.
    figure.draw_without_rendering()
    letter = LETTER * float(RC["axes.titlesize"]) / POINTS * figure.dpi
    for axis, title in zip(figure.axes, titles, strict=True):
        letters = max(int(axis.get_window_extent().width / letter), SHORTEST)
        axis.set_title(wrapped(title, letters), loc="left")


def wrapped(title: str, letters: int) -> str:
    """A title in lines of at most so many letters; its own line breaks stay, and a Sharer begins a line if need be.

    What stands between brackets is not torn apart, nor are words at their hyphens.
    """
    if any(len(line) > letters for line in title.split("\n")):
        title = title.replace(" from ", "\nfrom ", 1)
    text = re.sub(r"\([^)\n]*\)", lambda match: match.group().replace(" ", FIXED_BLANK), title)
    lines = [textwrap.wrap(line, letters, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")]
    return "\n".join("\n".join(line) for line in lines)


def outputs(stem: Path) -> list[Path]:
    """The files that `save` writes."""
    return [path_with(stem, suffix) for suffix in SUFFIXES]


def hide_unused(axes: Sequence[Axes], count: int) -> None:
    """Remove the panels behind the first `count`."""
    for axis in axes[count:]:
        axis.set_visible(False)


RC: dict[str, str | float] = {
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
