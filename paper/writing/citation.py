"""How a table, a figure or the paper is cited: its id, its caption, and a BibTeX entry that names data and version.
Titles and captions stand in ``artefacts.yaml`` (that of the paper in ``workflow/report``), authors and version in
``CITATION.cff``, and nowhere else. An entry has neither date nor commit, so that the same data give the same
bytes; both stand in the provenance file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.storage.formats import read_yaml
from c2c.storage.markup import latex
from paper.artefacts import of_kind
from paper.reading.volatile import steady_hash

ROOT = Path(__file__).resolve().parents[2]
CFF = ROOT / "CITATION.cff"
PAPER_CAPTION = ROOT / "workflow/report/paper.rst"
"""The caption of the paper: a sentence in bold, and a paragraph."""
KIND_OF_FOLDER = {"tables": "table", "figures": "figure", "paper": "paper"}
"""Folders of a scale's results whose files are cited, and what is in them."""
BOLD = re.compile(r"\*\*(.+?)\*\*\s*(.*?)\n\s*\n", re.DOTALL)
HASH_LENGTH = 16

_inputs: ContextVar[Callable[[], str]] = ContextVar(
    "hash of the inputs of the artefact that is being made", default=str
)


@dataclass(frozen=True)
class Citation:
    """What a reader needs to cite one artefact.

    Args:
        kind: ``table``, ``figure`` or ``paper``.
        name: Its id: the name of its files, without suffix.
        scale: The scale of the replication that it is of.
        title: What it shows, without a full stop.
        caption: How it is to be read.
        inputs: Start of the SHA-256 of what it was made from (`steady_hash`); empty where that is not known.
    """

    kind: str
    name: str
    scale: str
    title: str
    caption: str
    inputs: str = ""

    @property
    def id(self) -> str:
        """``c2c-smoke-table-main``: the key of the BibTeX entry."""
        return "-".join(["c2c", self.scale, self.kind, *([self.name] if self.kind != self.name else [])])

    @property
    def place(self) -> str:
        """``table main of the smoke scale``."""
        title = self.kind if self.kind == self.name else f"{self.kind} {self.name}"
        return f"{title} of the {self.scale} scale"

    @property
    def sentence(self) -> str:
        """The citation in words."""
        about = software()
        made_from = f", inputs {self.inputs}" if self.inputs else ""
        text = f"{self.title} ({self.place}{made_from})"
        return f"{authors()}: {text}. {about['title']}, version {about['version']}."

    def bibtex(self) -> str:
        """A BibTeX entry."""
        about = software()
        made_from = f", inputs SHA-256 {self.inputs}" if self.inputs else ""
        fields = {
            "author": " and ".join(_entity(author) or _person(author) for author in about["authors"]),
            "title": f"{{{latex(self.title)}}}",
            "howpublished": latex(f"{about['title']}, version {about['version']}"),
            "note": latex(f"{self.place[0].upper()}{self.place[1:]}{made_from}. Replicates arXiv:{arxiv_number()}"),
        }
        lines = [f"  {name:12} = {{{value}}}," for name, value in fields.items()]
        # A key has no sign that ends it.
        return "\n".join([f"@misc{{{re.sub('[^A-Za-z0-9._-]+', '_', self.id)},", *lines, "}"])

    def described(self) -> dict[str, str]:
        """The same as JSON has it, for provenance."""
        return {
            "id": self.id,
            "title": self.title,
            "caption": self.caption,
            "cite": self.sentence,
            "bibtex": self.bibtex(),
        }


def cite(kind: str, name: str, scale: str, inputs: Callable[[], str] = str) -> Citation | None:
    """The citation of the paper, or of an artefact of the registry; None for any other, and without a scale.

    Args:
        kind: ``table``, ``figure`` or ``paper``.
        name: Its id.
        scale: The scale of the replication that it is of.
        inputs: Gives the hash of what it was made from; called only for what is cited.
    """
    if not scale or (kind != "paper" and name not in of_kind(kind)):
        return None
    artefact = None if kind == "paper" else of_kind(kind)[name]
    title, caption = (artefact.title, artefact.caption) if artefact else _of_paper()
    return Citation(kind, name, scale, title, caption, inputs()[:HASH_LENGTH])


def cite_file(path: Path) -> Citation | None:
    """The citation of a file in the layout of results, ``<scale>/<folder>/<name>``; None for one that is not cited."""
    kind = KIND_OF_FOLDER.get(path.parent.name)
    # What is cited is the artefact, in whichever of its files; a name may have a dot.
    return cite(kind, path.stem, path.parent.parent.name, _inputs.get()) if kind else None


@contextmanager
def made_from(inputs: Iterable[Path]) -> Iterator[None]:
    """Inside, citations of files name these inputs, which are hashed once."""
    paths = tuple(inputs)
    token = _inputs.set(cache(lambda: steady_hash(paths) if paths else ""))
    try:
        yield
    finally:
        _inputs.reset(token)


@cache
def software() -> dict[str, Any]:
    """The content of CITATION.cff."""
    content: dict[str, Any] = read_yaml(CFF, f"Correct {CFF.name}")
    return content


def authors() -> str:
    """Names of the authors of this software."""
    return ", ".join(str(author.get("name") or _person(author)) for author in software()["authors"])


def arxiv_number() -> str:
    """Of the paper that is replicated."""
    return str(software()["references"][0]["identifiers"][0]["value"]).removeprefix("arXiv:")


def _of_paper() -> tuple[str, str]:
    """Title and caption of the paper.

    Raises:
        RefusedError: The text of the report does not open with them.
    """
    text = BOLD.search(PAPER_CAPTION.read_text(encoding="utf-8"))
    if text is None:
        raise RefusedError(
            "A caption must open with a sentence in bold and a paragraph", str(PAPER_CAPTION), "Write it so"
        )
    title, caption = (" ".join(part.split()) for part in text.groups())
    return title.rstrip("."), caption


def _person(author: dict[str, str]) -> str:
    return f"{author['given-names']} {author['family-names']}"


def _entity(author: dict[str, str]) -> str:
    """A group, in braces, so that BibTeX takes its name for one."""
    return f"{{{author['name']}}}" if "name" in author else ""
