"""Benchmarks as lm-eval tasks: a YAML with the prompts and a prepared file of questions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.registry import metric_registry
from lm_eval.api.task import ALL_OUTPUT_TYPES, Task
from lm_eval.tasks import TaskManager

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.question_files import REMEDY, read_questions
from c2c.evaluation.questions.task_files import GUIDE, folder_of_task, read_task_file
from c2c.evaluation.questions.templates import render
from c2c.generation.decoding import check_stops

COMPILED_TEMPLATES = 1024
"""Compiled templates that are kept: a task has about five, and a run some tens of tasks."""


def _sandbox_lm_eval() -> None:
    """Let lm-eval render the templates of all tasks in a sandbox, since a task file must not run code.

    lm-eval compiles a task's templates anew for every question and option, which takes longer than a fast model does,
    and it reads its environment from the module. So the environment is replaced there, for the whole process, and the
    templates that were used last stay compiled.
    """
    plain = utils.env
    utils.env = SandboxedEnvironment(
        loader=plain.loader, undefined=plain.undefined, keep_trailing_newline=plain.keep_trailing_newline
    )
    utils.env.filters.update(plain.filters)
    utils.env.from_string = functools.lru_cache(COMPILED_TEMPLATES)(utils.env.from_string)


_sandbox_lm_eval()
QUESTION_KEYS = ("doc_to_text", "doc_to_target", "doc_to_choice")
"""Keys of a task file that name the question, its answer and its options."""
MISFIT_ERRORS = (
    *(TemplateError, LookupError, TypeError, ValueError, SyntaxError, AttributeError, ArithmeticError),
    *(AssertionError, RecursionError),
)
"""What lm-eval raises where a task file is no task, or a question does not fit it."""


def load_tasks(tasks: Path, questions: Mapping[str, Path]) -> dict[str, Any]:
    """lm-eval's task dictionary for benchmarks whose questions are prepared files of JSON lines.

    Args:
        tasks: Folder of task files, ``<tasks>/<any>/<benchmark>.yaml``; a file beside the questions is preferred.
        questions: Prepared file of each benchmark.

    Raises:
        RefusedError: If a file is missing or holds what is no question, a task file asks for code or for other data, or
            a question does not fit its task file.
    """
    configs = []
    for benchmark, path in questions.items():
        if not path.is_file():
            raise RefusedError(f"The questions of {benchmark} must be a file", str(path), "Prepare the benchmark first")
        config = read_task_file(folder_of_task(tasks, benchmark, path), benchmark)
        _check_config(benchmark, config)
        # A key that is the name of a column alone is that column.
        columns = [name for key in QUESTION_KEYS if isinstance(name := config.get(key), str) and name.isidentifier()]
        read_questions(path, benchmark, columns)
        configs.append({**config, "task": benchmark, "dataset_kwargs": {"data_files": {"test": str(path)}}})
    try:
        loaded: dict[str, Any] = TaskManager(include_defaults=False).load(configs)
    except MISFIT_ERRORS as error:
        rule = f"The task files of {', '.join(questions)} must be tasks of lm-eval that fit their questions"
        raise RefusedError(rule, f"{type(error).__name__}: {error}", GUIDE) from error
    for task in loaded["tasks"].values():
        _check_questions(task)
    return loaded


def _check_config(benchmark: str, config: Mapping[str, Any]) -> None:
    """Refuse a task file that takes data from elsewhere, or a metric that lm-eval would fetch as code."""
    if config.get("dataset_path") != "json" or config.get("test_split") != "test":
        rule = f"dataset_path of {benchmark} must be json, and test_split test"
        remedy = "Include ../shared/questions.yaml: questions come from the prepared file"
        raise RefusedError(rule, [config.get("dataset_path"), config.get("test_split")], remedy)
    check_choice(f"output_type of {benchmark}", config.get("output_type", "generate_until"), ALL_OUTPUT_TYPES)
    metrics = config.get("metric_list") or []
    names = [entry.get("metric") if isinstance(entry, dict) else None for entry in metrics if isinstance(metrics, list)]
    unknown = [name for name in names if name not in metric_registry]
    if not isinstance(metrics, list) or unknown or any(entry.get("hf_evaluate") for entry in metrics):
        rule = f"metric_list of {benchmark} must list metrics that lm-eval itself has: others would be fetched as code"
        raise RefusedError(rule, metrics, f"Choose among {', '.join(sorted(metric_registry))}")


def _check_questions(task: Task) -> None:
    """Render each question, its gold answer and its request to the Sharer of T2T, before any model reads one."""
    metadata, choices = task.config.metadata, task.OUTPUT_TYPE == "multiple_choice"
    for doc in task.test_docs():
        where = f"Question {doc['id']!r} of {task.config.task}"
        try:
            task.doc_to_text(doc)
            gold, options = gold_of(task, doc), task.doc_to_choice(doc) if choices else ["an answer"]
        except MISFIT_ERRORS as error:
            rule = f"{where} must fit the task file, whose templates may not use Python's own attributes"
            raise RefusedError(rule, f"{type(error).__name__}: {error}", "Correct the file or the question") from error
        if not options or not all(isinstance(option, str) and option for option in options):
            raise RefusedError(f"{where} must have options that are texts, none of them empty", options, REMEDY)
        if not gold:
            raise RefusedError(f"{where} must have a gold answer", gold, REMEDY)
        render(f"metadata.t2t_question of {task.config.task}", metadata["t2t_question"], doc)


def gold_of(task: Task, doc: dict[str, Any]) -> str:
    """The gold answer as text: the option's text where the target is an index."""
    # An index where the task has options, a text otherwise.
    target = task.doc_to_target(doc)
    return str(task.doc_to_choice(doc)[target]) if isinstance(target, int) else str(target)


def answer_tokens(metadata: Mapping[str, Any], doc: Mapping[str, Any], limit: int, pair: str = "") -> int:
    """How many tokens an answer may have: what ``metadata.answer_tokens`` has for the pair or the question's set.

    Without either it is `limit`, the task's, which a set's length never exceeds.
    """
    lengths = metadata.get("answer_tokens") or {}
    return int(lengths[pair]) if pair in lengths else min(int(lengths.get(doc.get("dataset"), limit)), int(limit))


def questions_of(
    task: Task, prompts: str = "plain", limit: int | None = None, *, options: bool = False, pair: str = ""
) -> list[Question]:
    """The questions of a task, the first `limit` of them.

    Args:
        task: Of `load_tasks`.
        prompts: ``plain`` or ``chat``.
        limit: All if None.
        options: Whether a question of multiple choice gets its options, which are scored then.
        pair: Id of the pair that answers, for which the task file may have other lengths.
    """
    chat = prompts == "chat"
    chat_template = _messages_as_json if chat else None
    # lm-eval renders the prompts; a chat comes back as its messages, from which each model renders its own.
    task.build_all_requests(limit=limit, apply_chat_template=chat, chat_template=chat_template)
    questions: dict[int, Question] = {}
    for request in task.instances:
        question = questions.setdefault(int(request.doc_id or 0), question_of_request(task, request, prompts, pair))
        if options and request.request_type == "loglikelihood":
            question.options += (request.args[1],)
    return list(questions.values())


def _messages_as_json(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    return prompting.messages_as_json(messages)


def question_of_request(task: Task, request: Instance, prompts: str = "plain", pair: str = "") -> Question:
    """The question behind one of lm-eval's requests, with the T2T prompts of its task file.

    Args:
        task: The request's.
        request: In chats `prompting.messages_as_json` wrote its text.
        prompts: ``plain`` or ``chat``.
        pair: As in `questions_of`.
    """
    doc, metadata = dict(request.doc), task.config.metadata
    question = Question(
        benchmark=task.config.task,
        number=int(request.doc_id or 0),
        doc=doc,
        prompt=request.args[0],
        gold=gold_of(task, doc),
        t2t_question=metadata["t2t_question"],
        t2t_prompt=metadata["t2t_prompt"],
        agents_question=metadata.get("agents_question", ""),
        agents_prompt=metadata.get("agents_prompt", ""),
        message_tokens=(metadata.get("message_tokens") or {}).get(pair),
    )
    if request.request_type == "generate_until":
        settings = request.args[1]
        question.stops = tuple(check_stops(f"until of {task.config.task}", settings.get("until") or []))
        question.max_new_tokens = answer_tokens(
            metadata, doc, settings.get("max_gen_toks", question.max_new_tokens), pair
        )
    return prompting.chat_question(question, question.prompt) if prompts == "chat" else question
