"""Training examples in the words of the tasks: what a task file asks, and the answer that its scoring calls right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.readers.base import LETTERS, Row
from c2c.errors import check_choice
from c2c.evaluation.protocol import CORRECTED, RELEASED
from c2c.evaluation.questions.task_files import SHARED, resolve
from c2c.evaluation.questions.templates import render

PROMPT_FILES = {
    "letter": f"{SHARED}/choice_letter",
    "text": f"{SHARED}/choice_text",
    "math": f"{SHARED}/math",
    "longbench": "longbench/longbench",
}
"""File with the prompts of a way to ask, below the folder of the tasks."""
RELEASED_PROMPT_FILES = {
    "letter": f"{SHARED}/released_training",
    "math": f"{SHARED}/released_math_training",
    "longbench": "longbench/longbench_released",
}
"""The same in the words of the released code, which has no training set whose answers are texts of options."""


@dataclass(frozen=True)
class PromptFormat:
    """A way to ask.

    Args:
        name: ``letter``, ``text``, ``math`` or ``longbench``, as the scorings are called.
        config: The task file that it is taken from. Its ``doc_to_target`` is what a letter is answered with: the column
            that has the letter, or a sentence with it.
    """

    name: str
    config: Mapping[str, Any]

    @classmethod
    def load(cls, tasks: Path, name: str, protocol: str = CORRECTED) -> PromptFormat:
        """The prompts of `name` from a folder of tasks; with the protocol ``released`` those of the released code.

        Raises:
            RefusedError: There is no such way to ask, or its file is missing.
        """
        return cls(name, resolve(prompt_file(tasks, name, protocol), tasks))

    def example(self, question: Row) -> Row:
        """A question as a training example: ``id``, ``prompt``, ``response``, ``opening``.

        The prompt is that of lm-eval in plain text and ends with the `opening` of the answer (``Answer:``); in a chat
        the part before it is the user's turn, and the opening begins the assistant's.

        Raises:
            RefusedError: The prompt names a column that the question lacks.
        """
        where = f"The prompt of questions that are asked as {self.name}"
        remedy = f"They have: {', '.join(question)}; choose another asked_as"
        opening = render(where, str(self.config.get("gen_prefix") or ""), question, remedy)
        block = render(where, self.config["doc_to_text"], question, remedy)
        response = self._response(question, where, remedy)
        return {"id": question["id"], "prompt": block + opening, "response": response, "opening": opening}

    def _response(self, question: Row, where: str, remedy: str) -> str:
        if self.name == "text":
            # A question without options (of a user's own file) has its answer as text.
            return str(
                question["options"][LETTERS.index(question["answer"])] if "options" in question else question["answer"]
            )
        if self.name == "math":
            return f"{question['solution']}\nAnswer: {question['answer']}".strip()
        if self.name == "longbench":
            return str(question["answers"][0])
        target = str(self.config["doc_to_target"])
        return str(question[target]) if target in question else render(where, target, question, remedy)


def prompt_file(tasks: Path, name: str, protocol: str = CORRECTED) -> Path:
    """The file with the prompts of a way to ask.

    Raises:
        RefusedError: The protocol has no such way to ask.
    """
    files = RELEASED_PROMPT_FILES if protocol == RELEASED else PROMPT_FILES
    return tasks / f"{files[check_choice(f'A way to ask with the prompts of protocol {protocol}', name, files)]}.yaml"
