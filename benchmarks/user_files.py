"""Benchmarks and training sets from a user's files: JSON lines, and for a benchmark a YAML file of a few lines.

A line is a question with options, a question without, or a whole prompt:

    {"question": "Which of these fruits is a citrus fruit?", "options": ["apple", "lemon", "plum"], "answer": "B"}
    {"question": "Which colour is a ripe banana?", "answer": "yellow"}
    {"prompt": "The colour of a ripe banana is", "answer": "yellow"}

``answer`` of a question with options is a letter or the text of an option. ``id`` (by default the number of the line)
and ``subset`` are optional. Further keys are kept, so that a prompt in the YAML file can name them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.readers.base import LETTERS, Row, RowPlace
from c2c.errors import RefusedError
from c2c.storage.formats import read_json_lines

QUESTION_FILE = "questions.jsonl"
"""The questions in the folder of a benchmark."""
GUIDE = "docs/guides/your-own-benchmark.md"
REMEDY = f"Correct the line; {GUIDE} shows each form"
CHOICE = "question, options and answer"
SCORINGS_OF_FORM = {
    CHOICE: ("letter", "logits", "text", "exact"),
    "question and answer": ("exact", "math"),
    "prompt and answer": ("exact", "math"),
}
"""The scorings that lines of each form can have; the first one is the default."""


@dataclass(frozen=True)
class UserFile:
    """A file of JSON lines, used like a data set of the hub (`benchmarks.sources.Source`).

    Args:
        path: The file.
        limit: Number of lines that are used, from the first one; None for all.
    """

    path: Path
    limit: int | None = None

    reader, subset, split = "file", None, ""
    """Attributes of a source of the hub."""

    @property
    def dataset(self) -> str:
        """The path, which serves as the hub id."""
        return str(self.path)

    def rows(self) -> Iterator[tuple[RowPlace, Row]]:
        """The questions, each with its place."""
        for number, row in enumerate(self.questions()):
            yield RowPlace("", number), row

    def questions(self, benchmark: str = "") -> list[Row]:
        """The lines as prepared questions; see `numbered_questions`."""
        return [row for _, row in self.numbered_questions(benchmark)]

    def numbered_questions(self, benchmark: str = "") -> list[tuple[int, Row]]:
        """The lines as prepared questions, each with the number of its line; a prompt becomes the question.

        Raises:
            RefusedError: If a line has none of the three forms, or another form than the lines above.
        """
        rows: list[tuple[int, Row]] = []
        lines_by_id: dict[str, int] = {}
        form = ""
        for number, line in _read_lines(self.path):
            if self.limit is not None and len(rows) == self.limit:
                break
            where = f"Line {number} of {self.path}"
            row = _question(line, where, number)
            # All lines have the form of the first one, and ids that differ.
            form = form or form_of(line)
            if form_of(line) != form:
                raise RefusedError(f"{where} must have the form of the lines above, {form}", sorted(line), REMEDY)
            if (first := lines_by_id.setdefault(row["id"], number)) != number:
                raise RefusedError(f"{where} must have an id of its own", f"{row['id']!r}, as line {first}", REMEDY)
            rows.append((number, row))
        if not rows:
            name = f"{self.path}, the questions of {benchmark}," if benchmark else str(self.path)
            raise RefusedError(f"{name} must have a line at least", "none", REMEDY)
        return rows

    def note(self) -> dict[str, Any]:
        """The source as provenance files record it."""
        return {"id": str(self.path), "source": "file"}


def _read_lines(path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a user's file, each with the number of its line; refusals name the path as the user wrote it."""
    if not path.is_file():
        remedy = f"Write it, or correct the path; {GUIDE} shows its lines"
        raise RefusedError(f"{path} must be a file of JSON lines", "no file", remedy)
    return read_json_lines(path, REMEDY, str(path))


def form_of(line: Mapping[str, Any]) -> str:
    """The form of a line, a key of `SCORINGS_OF_FORM`."""
    if "prompt" in line:
        return "prompt and answer"
    return CHOICE if "options" in line else "question and answer"


def _question(line: Mapping[str, Any], where: str, number: int) -> Row:
    """A line as a prepared question: ``id``, ``subset``, ``question``, ``options``, ``answer``, ``value``."""
    # Keys of all forms
    key = "prompt" if "prompt" in line else "question"
    for name in (key, "answer"):
        if not isinstance(line.get(name), str) or not line[name].strip():
            rule = f"{where} must have a text, not an empty one, in {name!r}"
            raise RefusedError(rule, line.get(name, f"no key {name!r}"), REMEDY)
    identity = line.get("id", f"{number:05d}")
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise RefusedError(f"{where} must have a text or a whole number in 'id'", identity, REMEDY)
    if not isinstance(subset := line.get("subset", ""), str):
        raise RefusedError(f"{where} must have a text in 'subset'", subset, REMEDY)
    text, answer = str(line[key]), line["answer"].strip()
    row = {**line, "id": str(identity), "subset": subset, "question": text if key == "prompt" else text.strip()}
    if "options" not in line:
        return {**row, "answer": answer, "value": answer}
    # Options, and the letter of the right one
    options = line["options"]
    whole = isinstance(options, list) and all(isinstance(option, str) and option.strip() for option in options)
    if not whole or not 2 <= len(options) <= len(LETTERS) or len({option.strip() for option in options}) < len(options):
        rule = f"{where} must have in 'options' a list of 2 to {len(LETTERS)} different texts, none of them empty"
        raise RefusedError(rule, options, REMEDY)
    options = [option.strip() for option in options]
    # The text of an option counts before its letter, so that options which are letters themselves can be named.
    letters = LETTERS[: len(options)]
    place = options.index(answer) if answer in options else letters.find(answer) if len(answer) == 1 else -1
    if place < 0:
        rule = f"{where} must have in 'answer' a letter from A to {letters[-1]} or the text of an option"
        raise RefusedError(rule, answer, REMEDY)
    return {**row, "options": options, "answer": LETTERS[place], "value": options[place]}


def default_scorings(path: Path) -> list[str]:
    """The scorings of a benchmark whose YAML file names none: letters of options, or exact answers.

    Raises:
        RefusedError: If the file is missing or empty.
    """
    for _, line in _read_lines(path):
        return [SCORINGS_OF_FORM[form_of(line)][0]]
    raise RefusedError(f"{path} must have a line at least", "none", REMEDY)
