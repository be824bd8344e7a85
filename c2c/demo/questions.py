"""The questions that the live page offers, and its wording of text to text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.questions.question_files import read_questions
from c2c.evaluation.questions.task_files import read_task_file
from c2c.evaluation.questions.templates import render, variables
from c2c.generation.decoding import check_stops
from c2c.storage.formats import read_yaml

QUESTIONS_FILE = Path(__file__).with_name("questions.yaml")
MOST_EXAMPLES = 200
"""Questions of a file that the page offers; nobody chooses from a longer list."""


@dataclass(frozen=True)
class ExampleQuestion:
    """A question that a person can choose.

    Args:
        prompt: What both models read.
        private: What the Sharer alone reads.
        answer: The gold answer; empty if it is not known.
        doc: The line of its file, whose columns wordings may name.
    """

    prompt: str
    private: str = ""
    answer: str = ""
    doc: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuestionSet:
    """Example questions with the settings of their task.

    Args:
        examples: At least one.
        wordings: ``t2t_question`` and ``t2t_prompt``, the preferred ones first.
        stops: Strings that end an answer in plain prompts.
        max_new_tokens: Longest answer, in tokens.
    """

    examples: Sequence[ExampleQuestion]
    wordings: Sequence[Mapping[str, str]]
    stops: tuple[str, ...] = ()
    max_new_tokens: int = 24

    def example(self, prompt: str) -> ExampleQuestion | None:
        """The example with this prompt, or None."""
        return next((example for example in self.examples if example.prompt == prompt), None)

    def wording_for(self, doc: Mapping[str, Any]) -> Mapping[str, str]:
        """The first wording whose request can be made of `doc`, and that shows its private line to the Sharer."""
        for wording in self.wordings:
            names = variables("t2t_question", wording["t2t_question"])
            if names <= set(doc) and (not doc.get("private") or "private" in names):
                return wording
        return self.wordings[-1]

    def donors(self, prompt: str, private: str) -> list[ExampleQuestion]:
        """Examples that a wrong message can be about: with another answer, those of the nearest length first."""
        example = self.example(prompt)
        answer = "" if example is None else example.answer
        donors = [
            donor
            for donor in self.examples
            if (donor.prompt, donor.private) != (prompt, private) and (not answer or donor.answer != answer)
        ]
        length = len(prompt) + len(private)
        return sorted(donors, key=lambda donor: abs(len(donor.prompt) + len(donor.private) - length))


def package_questions(*, chat: bool) -> QuestionSet:
    """The questions of this package.

    Args:
        chat: Whether the models read a question as a user's message; otherwise they continue a text.
    """
    content = read_yaml(QUESTIONS_FILE, "Install c2c again")
    template = "{{question}}" if chat else content["doc_to_text"]
    settings = content["generation_kwargs"]
    return QuestionSet(
        _examples(content["questions"], template),
        [content["metadata"]],
        () if chat else tuple(settings["until"]),
        settings["max_gen_toks"],
    )


def file_questions(path: Path, tasks: Path | None, *, chat: bool) -> QuestionSet:
    """The questions of a file of JSON lines, as ``c2c generate`` takes them.

    Args:
        path: Each line has ``id`` and the columns that the task's prompt names, or ``question`` without a task;
            optionally ``answer`` and ``private``.
        tasks: Folder of task files, of which ``<name of the file>.yaml`` has the prompt, the wording of text to text
            and the limits of an answer; those of the package are used without one.
        chat: As in `package_questions`.

    Raises:
        RefusedError: If a file is missing or does not fit.
    """
    if not path.is_file():
        raise RefusedError("The questions must be a file of JSON lines", str(path), "Name one after --questions")
    defaults = package_questions(chat=chat)
    task = {} if tasks is None else read_task_file(tasks, path.stem)
    docs = read_questions(path, path.stem, () if task else ("question",))[:MOST_EXAMPLES]
    template = "{{question}}" if chat else read_yaml(QUESTIONS_FILE, "Install c2c again")["doc_to_text"]
    settings = task.get("generation_kwargs") or {}
    stops = check_stops(f"until of {path.stem}", settings.get("until") or list(defaults.stops))
    return QuestionSet(
        _examples(docs, task.get("doc_to_text", template), task.get("gen_prefix") or ""),
        [*([task["metadata"]] if task else []), *defaults.wordings],
        () if chat else tuple(stops),
        int(settings.get("max_gen_toks", defaults.max_new_tokens)),
    )


def _examples(docs: Iterable[Mapping[str, Any]], template: str, prefix: str = "") -> list[ExampleQuestion]:
    """The questions of some lines, by the template of their prompts; `prefix` opens the answer."""
    return [
        ExampleQuestion(
            render("doc_to_text of the live page", template, doc) + render("gen_prefix", prefix, doc),
            str(doc.get("private") or ""),
            str(doc.get("answer") or ""),
            doc,
        )
        for doc in docs
    ]
