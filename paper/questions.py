"""Questions that people ask, with the answers of ``questions.yaml``: as a page, and for ``c2c claims show``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2c.storage.formats import read_yaml
from paper.facts import fill

PATH = Path(__file__).with_name("questions.yaml")
WIDTH = 118
NO_BREAK_PERCENT = "\N{NO-BREAK SPACE}%"
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
HEAD = """\
# Questions people ask

Of the paper and of its [reference implementation](https://github.com/thu-nics/C2C), with short answers. The numbers
are read from the files of this repository when the page is built. Each command runs from the repository's root, in
seconds and without a network.
"""


@dataclass(frozen=True, kw_only=True)
class AnswerSource:
    """Where a question was asked, or what its answer rests on.

    Args:
        text: In words.
        address: A page of ``docs/`` or of the web.
    """

    text: str
    address: str

    def place(self) -> str:
        """The address from the repository's root."""
        return self.address if "://" in self.address else f"docs/{self.address}"


@dataclass(frozen=True, kw_only=True)
class ReaderQuestion:
    """A question and its answer, with the numbers in place.

    Args:
        question: One sentence, which is the heading on the page.
        answer: Markdown; links are relative to ``docs/``.
        command: Answers too, from the repository's root.
        about: Tables, figures and claims of which it is, as ``c2c claims show`` names them.
        sources: At least one.
    """

    question: str
    answer: str
    command: str
    about: list[str] = field(default_factory=list)
    sources: list[AnswerSource]

    def section(self) -> str:
        """The question as a section of the page."""
        sources = ", ".join(f"[{source.text}]({source.address})" for source in self.sources)
        command = f"```text\n{self.command}\n```"
        return f"## {self.question}\n\n{self.answer}\n\n{command}\n\nSources: {sources}.\n"

    def lines(self) -> Iterator[str]:
        """The question as text for a terminal, without the links of the answer."""
        yield f"  {self.question}"
        answer = LINK.sub(r"\1", self.answer)
        yield from textwrap.wrap(answer, WIDTH, initial_indent="    ", subsequent_indent="    ")
        yield from (f"    {source.text}: {source.place()}" for source in self.sources)


def read_questions(key: str = "", path: Path = PATH) -> list[ReaderQuestion]:
    """The questions about a table, figure or claim, or all of them, in the order of the file.

    Raises:
        RefusedError: A placeholder names what its file does not hold.
    """
    entries: list[dict[str, Any]] = read_yaml(path, f"Restore {path.name}")
    return [
        ReaderQuestion(
            question=fill(entry["question"]).replace(" %", NO_BREAK_PERCENT),
            answer=fill(entry["answer"]).strip().replace(" %", NO_BREAK_PERCENT),
            command=entry["command"],
            about=entry["about"],
            sources=[AnswerSource(**source) for source in entry["sources"]],
        )
        for entry in entries
        if not key or key in entry["about"]
    ]


def lines_about(key: str) -> list[str]:
    """What ``c2c claims show`` prints of the questions about a table, figure or claim; nothing where there are none."""
    lines = [line for question in read_questions(key) for line in question.lines()]
    return ["", "Questions people ask:", *lines] if lines else []


def page() -> str:
    """The page "Questions people ask"."""
    return "\n".join([HEAD, *(question.section() for question in read_questions())])
