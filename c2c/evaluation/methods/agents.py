"""Two agents (paper, Table 15): an interpreter, the Sharer, analyses the problem; a solver, the Receiver, answers it.

`t2t_agents` hands the analysis over as text. `t_c2c` does too, and fuses the solver's prompt, with the analysis in it,
with the Sharer's cache of that prompt. Its control `t_c2c_deranged` keeps the text and fuses another question's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.task_files import folder_of_task, read_task_file
from c2c.evaluation.questions.templates import render
from c2c.evaluation.readers.load import fused_reader
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.evaluation.readers.reader import SingleReader
from c2c.models.pair import Pair

AGENT_PROMPTS = ("agents_question", "agents_prompt")


def has_agents(tasks: Path, task: str) -> bool:
    """Whether a task has the prompts of interpreter and solver."""
    metadata = read_task_file(tasks, task)["metadata"]
    return all(metadata.get(key) for key in AGENT_PROMPTS)


def check_agents(tasks: Path, questions: Mapping[str, Path]) -> None:
    """Refuse tasks without the prompts of interpreter and solver.

    Raises:
        RefusedError: With those tasks.
    """
    folders = {task: folder_of_task(tasks, task, path) for task, path in questions.items()}
    if missing := [task for task, folder in folders.items() if not has_agents(folder, task)]:
        rule = f"A task that two agents answer must have the metadata {' and '.join(AGENT_PROMPTS)}"
        raise RefusedError(rule, ", ".join(missing), "Include ../shared/agents.yaml in its file, or ask other methods")


class Agents(TextToText):
    """The interpreter's analyses are written first, as T2T writes its messages; then the solver answers.

    Args:
        name: ``t2t_agents``, ``t_c2c`` or ``t_c2c_deranged``.
        pair: The solver is its Receiver, the interpreter its Sharer.
        fuser: Folder of a trained fuser, for the methods that fuse.
        accept: Lines of the fuser's contract that may differ, by name.
        **options: ``token_budget`` and ``store`` of `Method`.
    """

    def __init__(self, name: str, pair: Pair, fuser: str = "", accept: Sequence[str] = (), **options: Any) -> None:
        super().__init__(pair, **options)
        self.name = name
        self.sharer.name = "agents analysis"
        reader: Any = SingleReader(pair.receiver)
        if sharer_cache := DECLARATIONS[name].sharer_cache:
            reader = fused_reader(pair, fuser, sharer_cache, accept, PromptMemory(pair.sharer))
        self.reader = reader
        self.receiver = Method(name, reader, self.token_budget, self.sharer.store)

    def sharer_question(self, question: Question) -> Question:
        """The question as the interpreter reads it."""
        return prompting.message_question(replace(question, t2t_question=question.agents_question))

    def receiver_question(self, question: Question, message: str) -> Question:
        """The question as the solver reads it; in chats the user's message holds the analysis, so that it is fused."""
        values = {**question.doc, "message": message, "prompt": question.prompt}
        prompt = render(f"agents_prompt of {question.benchmark}", question.agents_prompt, values)
        messages = [dict(turn) for turn in question.messages]
        for turn in [turn for turn in messages if turn["role"] == "user"][-1:]:
            turn["content"] = prompt
        return replace(question, prompt=prompt, messages=tuple(messages))


def build(name: str, inputs: MethodInputs) -> Agents:
    """Two agents of a pair, with or without its Fusers."""
    fuser = inputs.fusers[0] if DECLARATIONS[name].fusers else ""
    return Agents(name, inputs.pair, fuser, inputs.accept, token_budget=inputs.token_budget, store=inputs.store)
