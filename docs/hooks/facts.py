"""Numbers of pages from files, when the site is built: placeholders, rows of a card, and the page of questions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from paper.facts import fill
from paper.questions import page

TABLES = "paper/records/smoke/tables"
"""Of the card that the page on score cards explains."""
CARD = "pair=gap_a task=world_word measure=choice"
"""The rows of that card."""
INTERVALS = ("choice", "cag", "communication", "donor", "of_full", "bits")
"""Columns of a card that have an interval."""
COLUMNS = ("Channel", "Right, %", "CAG", "Communication", "Donor named, %", "Of full, %", "Bits", "Evidence")
"""Of the card: those that fit beside each other on a page."""
QUESTIONS = "questions.md"
ROOT = Path(__file__).resolve().parents[2]
INTERVAL = re.compile(r"\[[+−\d.]+, [+−\d.]+\]")
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
SHORT = re.compile(r"\{(card|gain):(\w+) ([\w:+.]+)\}")
ROWS = re.compile(r"^\{rows:([^{}]+)\}$", flags=re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of questions."""
    files.append(File.generated(config, QUESTIONS, content=page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put rows and numbers in their places."""
    return complete(markdown)


def complete(markdown: str) -> str:
    """A page with the rows and numbers of its placeholders.

    Those of `paper.facts`, and three for the card that one page explains: ``{card:CHANNEL COLUMN}``,
    ``{gain:CHANNEL GAIN}``, and on a line alone ``{rows:TITLE; TITLE}`` for rows of the card as it is printed.
    """
    short = ROWS.sub(lambda match: card_rows(match[1].split("; ")), markdown)
    return _unbroken(fill(SHORT.sub(_whole, short)))


def _whole(match: re.Match[str]) -> str:
    """The placeholder of `paper.facts` that a short one is for."""
    kind, channel, column = match.groups()
    if kind == "gain":
        return f"{{interval:{TABLES}/testbed_gains.csv value:+.1f {CARD} channel={channel} gain={column}}}"
    name = column.partition(":")[0]
    return f"{{{'interval' if name in INTERVALS else 'cell'}:{TABLES}/scorecard.csv {column} {CARD} channel={channel}}}"


def card_rows(titles: list[str]) -> str:
    """Some rows and columns of the card as it is printed, in the order of the file.

    Raises:
        ValueError: The card has no such row.
    """
    text = (ROOT / TABLES / "scorecard.md").read_text(encoding="utf-8")
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, rule, *lines = ([cell.strip() for cell in cells] for cells in table)
    places = [head.index(column) for column in COLUMNS]
    channel = places[0]
    if absent := set(titles) - {cells[channel] for cells in lines}:
        raise ValueError(f"The card must have a row for each title; none for {', '.join(sorted(absent))}")
    chosen = [head, rule, *(cells for cells in lines if cells[channel] in titles)]
    return "\n".join(f"| {' | '.join(cells[place] for place in places)} |" for cells in chosen)


def _unbroken(text: str) -> str:
    """A text whose intervals stay on one line each."""
    return INTERVAL.sub(lambda match: match[0].replace(" ", NO_BREAK_SPACE), text)
