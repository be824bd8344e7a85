"""Benchmarks as lm-eval tasks: a YAML with the prompts and a prepared file of questions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from c2c.decoding import check_stops
from c2c.errors import RefusedError
from c2c.evaluation import prompting
from c2c.evaluation.answering import Question
from c2c.evaluation.task_files import read_task_file

# lm-eval compiles a task's jinja templates anew for every question and option: most of the time of a fast model.
utils.env.from_string = functools.cache(utils.env.from_string)


def load_tasks(tasks: Path, questions: Mapping[str, Path]) -> dict[str, Any]:
    """lm-eval's task dictionary for benchmarks whose questions are prepared files of JSON lines.

    Args:
        tasks: Folder of task files, ``<tasks>/<any>/<benchmark>.yaml``.
        questions: Prepared file of each benchmark.

    Raises:
        RefusedError: If a file is missing.
    """
    configs = []
    for benchmark, path in questions.items():
        if not path.is_file():
            raise RefusedError(f"The questions of {benchmark} must be a file", str(path), "Prepare the benchmark first")
        config = read_task_file(tasks, benchmark)
        configs.append({**config, "task": benchmark, "dataset_kwargs": {"data_files": {"test": str(path)}}})
    return TaskManager(include_defaults=False).load(configs)


def gold_of(task: Task, doc: dict[str, Any]) -> str:
    """The gold answer as text: the option's text where the target is an index."""
    target = task.doc_to_target(doc)
    return str(task.doc_to_choice(doc)[target]) if isinstance(target, int) else str(target)


def answer_tokens(metadata: Mapping[str, Any], doc: Mapping[str, Any], limit: int) -> int:
    """How many tokens an answer may have: that of the question's set (``metadata.answer_tokens``), or the task's."""
    return min(int(metadata.get("answer_tokens", {}).get(doc.get("dataset"), limit)), int(limit))


def questions_of(
    task: Task, prompts: str = "plain", limit: int | None = None, *, options: bool = False
) -> list[Question]:
    """The questions of a task, the first `limit` of them.

    Args:
        task: Of `load_tasks`.
        prompts: ``plain`` or ``chat``.
        limit: All if None.
        options: With the options that are weighed, where there are such; else each question is one to be read alone.
    """
    chat = prompts == "chat"
    render = _as_text if chat else None
    task.build_all_requests(limit=limit, apply_chat_template=chat, chat_template=render)
    asked: dict[int, Question] = {}
    for request in task.instances:
        question = asked.setdefault(int(request.doc_id or 0), describe(task, request, prompts))
        if options and request.request_type == "loglikelihood":
            question.options += (request.args[1],)
    return list(asked.values())


def _as_text(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    return prompting.as_text(messages)


def describe(task: Task, request: Instance, prompts: str = "plain") -> Question:
    """The question behind one of lm-eval's requests, with the T2T prompts of its task file.

    Args:
        task: The request's.
        request: In chats its text is that of `prompting.as_text`.
        prompts: ``plain`` or ``chat``.
    """
    doc, metadata = dict(request.doc), task.config.metadata
    question = Question(
        benchmark=task.config.task,
        number=int(request.doc_id or 0),
        doc=doc,
        prompt=request.args[0],
        gold=gold_of(task, doc),
        message_prompt=metadata["t2t_question"],
        told_prompt=metadata["t2t_prompt"],
        agents_question=metadata.get("agents_question", ""),
        agents_prompt=metadata.get("agents_prompt", ""),
    )
    if request.request_type == "generate_until":
        settings = request.args[1]
        question.stops = tuple(check_stops(f"until of {task.config.task}", settings.get("until") or []))
        question.max_new_tokens = answer_tokens(metadata, doc, settings.get("max_gen_toks", question.max_new_tokens))
    return prompting.in_chat(question, question.prompt) if prompts == "chat" else question
