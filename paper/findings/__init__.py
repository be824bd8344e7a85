"""Sections of the PDF (``sections.yaml``) with their findings: sentences whose numbers come from tidy files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from c2c.errors import RefusedError
from c2c.storage.formats import read_yaml
from paper.findings import answers, caches, channels
from paper.reading.files import read_table
from paper.reading.fusers import FuserRun, read_tables
from paper.reading.names import has_own_tables

PATH = Path(__file__).parent.parent / "sections.yaml"
KEYS = {"title", "chapter", "text", "findings"}
EVERY_FUSER = "{run}"


@dataclass(frozen=True)
class PaperSection:
    """One section: its heading, the one above, what is asked and how, and by function the files of its findings."""

    title: str
    chapter: str
    text: str
    findings: dict[str, str]

    def sentences(self, results: Path) -> list[str]:
        """The sentences of every file of the section that a results folder has."""
        return [
            sentence
            for name, source in self.findings.items()
            if (frame := _read_frame(results, source)) is not None
            for sentence in function(name)(frame)
        ]

    def sources(self, results: Path) -> list[str]:
        """Files below `results` that `sentences` reads."""
        return [str(path.relative_to(results)) for source in self.findings.values() for path in _paths(results, source)]


@cache
def read_sections(path: Path = PATH) -> tuple[PaperSection, ...]:
    """All sections in their order.

    Raises:
        RefusedError: An entry lacks a key, has an unknown one, or names a function that does not exist.
    """
    sections = []
    for row in read_yaml(path, f"Correct {path.name}"):
        if set(row) != KEYS:
            rule = f"A section must have the keys {', '.join(sorted(KEYS))}"
            raise RefusedError(rule, f"{row.get('title')}: {sorted(row)}", f"Mend {path.name}")
        for name in row["findings"]:
            function(name)
        sections.append(PaperSection(row["title"], row["chapter"], " ".join(row["text"].split()), row["findings"]))
    return tuple(sections)


def function(name: str) -> Callable[[pd.DataFrame], list[str]]:
    """The function of `paper.findings` called `name`.

    Raises:
        RefusedError: There is none.
    """
    for module in (answers, caches, channels):
        finding: Callable[[pd.DataFrame], list[str]] | None = getattr(module, name, None)
        if finding is not None and finding.__module__ == module.__name__:
            return finding
    raise RefusedError("A finding must be a function of paper/findings", name, "Name one of sections.yaml, or write it")


def _paths(results: Path, source: str) -> list[Path]:
    """The file, or those of all fusers but those of pairs that have tables of their own."""
    if EVERY_FUSER not in source:
        return [results / source] if (results / source).is_file() else []
    paths = sorted(results.glob(source.replace(EVERY_FUSER, "*/*/*/seed*")))
    return [path for path in paths if not has_own_tables(FuserRun.of(path.parent).pair)]


def _read_frame(results: Path, source: str) -> pd.DataFrame | None:
    paths = _paths(results, source)
    if not paths:
        return None
    if EVERY_FUSER in source:
        return read_tables([path.parent for path in paths], Path(source).name)
    return read_table(paths[0], empty_is_missing=True)
