"""Benchmarks and training sets of the user's own: JSON lines, and for a benchmark a YAML file of a few lines.

A line is a question with options, a question without, or a prompt that is asked as it is written:

    {"question": "Which of these fruits is a citrus fruit?", "options": ["apple", "lemon", "plum"], "answer": "B"}
    {"question": "Which colour is a ripe banana?", "answer": "yellow"}
    {"prompt": "The colour of a ripe banana is", "answer": "yellow"}

``answer`` of a question with options is a letter or the text of an option. ``id`` (else the number of the line) and
``subset`` may be there; other keys are kept, and a prompt in the YAML file may name them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.readers.base import LETTERS, Place, Row
from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import SHARED, resolve
from c2c.storage.formats import read_json_lines

QUESTION_FILE = "questions.jsonl"
"""The questions in the folder of a benchmark."""
REMEDY = "Correct the line; docs/guides/your-own-benchmark.md shows each form"
PROMPTS = {
    "letter": "choice_letter",
    "logits": "choice_logits",
    "text": "choice_text",
    "exact": "short_answer",
    "math": "math",
}
"""File below ``benchmarks/tasks/shared`` with the prompt of a scoring, where a benchmark's own file gives none."""
CHOICE_SCORINGS = ("letter", "logits", "text")


@dataclass(frozen=True)
class OwnFile:
    """A file of JSON lines, in the place of a data set of the hub (`benchmarks.sources.Source`).

    Args:
        path: The file.
        limit: Only the first lines; None for all.
    """

    path: Path
    limit: int | None = None

    reader, subset, split = "file", None, ""
    """As a source of the hub has them."""

    @property
    def dataset(self) -> str:
        """Its path, in the place of a hub id."""
        return str(self.path)

    def rows(self) -> Iterator[tuple[Place, Row]]:
        """Each question with its place."""
        for number, row in enumerate(self.questions()):
            yield Place("", number), row

    def questions(self, benchmark: str = "") -> list[Row]:
        """Its lines as prepared questions; a prompt becomes a question that is asked as it is.

        Raises:
            RefusedError: With the line, where it has none of the three forms; all lines of a file have one form.
        """
        rows: list[Row] = []
        lines_by_id: dict[str, int] = {}
        form = ""
        for number, line in read_json_lines(self.path, REMEDY):
            if self.limit is not None and len(rows) == self.limit:
                break
            where = f"Line {number} of {self.path}"
            row = _question(line, where, number)
            # Every line has the form of the first, and an id of its own.
            form = form or form_of(line)
            if form_of(line) != form:
                raise RefusedError(f"{where} must have the form of the lines above, {form}", sorted(line), REMEDY)
            if (first := lines_by_id.setdefault(row["id"], number)) != number:
                raise RefusedError(f"{where} must have an id of its own", f"{row['id']!r}, as line {first}", REMEDY)
            rows.append(row)
        if not rows:
            name = f"{self.path}, the questions of {benchmark}," if benchmark else str(self.path)
            raise RefusedError(f"{name} must have a line at least", "none", REMEDY)
        return rows

    def note(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {"id": str(self.path), "source": "file"}


def form_of(line: Mapping[str, Any]) -> str:
    """Which keys make a line what it is."""
    if "prompt" in line:
        return "prompt and answer"
    return "question, options and answer" if "options" in line else "question and answer"


def _question(line: Mapping[str, Any], where: str, number: int) -> Row:
    """A line as a prepared question: ``id``, ``subset``, ``question``, ``options``, ``answer``, ``value``."""
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
    """How questions are scored where the file of a benchmark does not say: letters of options, or exact answers.

    Raises:
        RefusedError: The file is missing or has no line.
    """
    for _, line in read_json_lines(path, REMEDY):
        return ["letter"] if "options" in line else ["exact"]
    raise RefusedError(f"{path} must have a line at least", "none", REMEDY)


def task_config(folder: Path, scoring: str, task: str, tasks: Path) -> dict[str, Any]:
    """What lm-eval's task of a benchmark under one scoring says, without its data.

    Args:
        folder: Of the benchmark.
        scoring: One of its scorings.
        task: Its id.
        tasks: ``benchmarks/tasks``, where the prompts of the protocol are.

    Raises:
        RefusedError: The YAML is none, or there is no prompt for the scoring.
    """
    own = resolve(folder / f"{folder.name}.yaml", folder)
    lines = read_json_lines(folder / QUESTION_FILE, REMEDY)
    first = next((line for _, line in lines), {})
    if scoring not in PROMPTS:
        file = folder / f"{folder.name}.yaml"
        rule = f"Each of metadata.scorings in {file}, with source file, must be one of {', '.join(PROMPTS)}"
        raise RefusedError(rule, scoring, "Correct it")
    if scoring in CHOICE_SCORINGS and "options" not in first:
        rule = f"Each line of {folder / QUESTION_FILE} must have options where it is scored by {scoring}"
        raise RefusedError(rule, sorted(first), "Add options to each line, or score by exact")
    default = resolve(tasks / SHARED / f"{PROMPTS[scoring]}.yaml", tasks)
    if "prompt" in first:
        default = {**default, "doc_to_text": "{{question}}", "gen_prefix": None}
    # A prompt of one's own is the whole prompt.
    if "doc_to_text" in own:
        default = {key: value for key, value in default.items() if key != "gen_prefix"}
    metadata = {**default["metadata"], **own["metadata"], "scoring": scoring}
    return {**default, **own, "task": task, "metadata": metadata}


def task_text(config: Mapping[str, Any], questions: Path) -> str:
    """A task as a YAML file that lm-eval can run as it is."""
    content = {**config, "dataset_kwargs": {"data_files": {"test": str(questions)}}}
    return str(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120))
