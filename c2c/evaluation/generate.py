"""Generate the records of a pair or a group: all methods on all benchmarks, one row a question and method."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lm_eval.evaluator import evaluate

from c2c.alignment.derangement import OTHER_QUESTION, check_golds
from c2c.evaluation import schema
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.store import check_free, open_store
from c2c.evaluation.methods.agents import check_agents
from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.evaluation.methods.inputs import MethodInputs, compiled_writing
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import gold_of, load_tasks, question_of_request
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.reader import text_hash
from c2c.evaluation.run import GenerationRun
from c2c.evaluation.token_budget import measure_budget
from c2c.models.pair import load_models

ANSWER_COLUMNS = (
    "output_text",
    "output_ids",
    "choice_scores",
    "choice_tokens",
    "message",
    "sharer_question_id",
    "routed_to",
    "confidence",
    "tokens_in",
    "tokens_out",
    "sharer_tokens_in",
    "sharer_tokens_out",
    "time_s",
    "error",
)
"""Columns of records that are fields of `c2c.evaluation.answers.answer.Answer`."""


def generate(run: GenerationRun, notes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Answer all questions by all methods, and write the records.

    Args:
        run: What is answered.
        notes: Gets what provenance should know: ``contract``, if there are Fusers, and a measured ``token_budget``.

    Returns:
        The records, one row a question and method (`c2c.evaluation.schema.RECORD_SCHEMA`).

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    # 1. Checks, before a model is loaded
    if any(DECLARATIONS[method].agents for method in run.methods):
        check_agents(run.tasks, run.benchmarks)
    check_free(run.output)
    tasks = load_tasks(run.tasks, run.benchmarks)
    check_controls(run, tasks)
    # 2. Models
    receiver, *sharers = load_models(list(run.models.values()), run.dtype)
    prompting.check_prompts(run.prompts, [receiver, *sharers])
    with open_store(run.output, run.fingerprint()) as store:
        budget = run.token_budget
        if isinstance(budget, str):
            budget = store.budget(lambda: measure_budget([receiver, *sharers]))
            if notes is not None:
                notes["token_budget"] = budget
        # 3. All methods, before the first of them answers
        inputs = MethodInputs(
            receiver,
            sharers,
            run.fusers,
            run.fusion,
            run.accept_difference,
            run.router,
            budget,
            store,
            panel=(receiver, *sharers),
        )
        methods = inputs.build_together(run.methods)
        # 4. Answers
        rows: list[dict[str, Any]] = []
        with compiled_writing(list(methods.values()), run.compile):
            for name, method in methods.items():
                questions = _answer_tasks(method, tasks, run)
                note_contract(method.reader, notes)
                columns = run.columns(name)
                # By benchmark and number, whatever order lm-eval asked in.
                for key, question in sorted(questions.items()):
                    rows.append(record(columns, name, question, method.answers[key], tasks))
        return write_answers(rows, run.output, notes)


def check_controls(run: GenerationRun, tasks: dict[str, Any]) -> None:
    """Refuse benchmarks whose gold answers leave a control of the run without another question for one of them.

    Raises:
        RefusedError: As `c2c.alignment.derangement.check_golds`.
    """
    controls = {DECLARATIONS[method].sharer_cache for method in run.methods} & OTHER_QUESTION.keys()
    for name, task in tasks["tasks"].items() if controls else ():
        golds = [gold_of(task, doc) for doc in task.test_docs()][: run.limit or None]
        for control in sorted(controls):
            check_golds(control, golds, name)


def note_contract(reader: object, notes: dict[str, Any] | None) -> None:
    """Put into `notes` how the models differ from the Fusers' contract, if `reader` uses Fusers that have one."""
    model = reader.model if isinstance(reader, FusedReader) else None
    if notes is not None and model is not None and model.contract_check:
        notes["contract"] = model.contract_check.to_dict()


def write_answers(rows: list[dict[str, Any]], output: Path, notes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Write the records of a run, and say on stderr how many questions of each method failed.

    Args:
        rows: Of `record`.
        output: Parquet file.
        notes: Gets ``records``, the numbers of rows and of failed questions.

    Returns:
        The records.
    """
    frame = schema.frame_of(rows, schema.RECORD_SCHEMA)
    schema.write_records(frame, output)
    failed = frame[frame["error"].fillna("") != ""]
    if notes is not None:
        notes["records"] = {"rows": len(frame), "failed": len(failed)}
    for (benchmark, method), rows_failed in failed.groupby(["benchmark", "method"]):
        count = int(((frame["method"] == method) & (frame["benchmark"] == benchmark)).sum())
        error = rows_failed["error"].iloc[0]
        text = f"{len(rows_failed)} of {count} question(s) of {benchmark} failed, the first with {error}"
        print(f"{method}: {text}", file=sys.stderr)
    return frame


def _answer_tasks(method: Method, tasks: dict[str, Any], run: GenerationRun) -> dict[tuple[str, int], Question]:
    """Run one method through lm-eval; returns the questions by benchmark and number."""
    questions: dict[tuple[str, int], Question] = {}

    def question_of(request: Any) -> Question:
        key = (request.task_name, int(request.doc_id))
        if key not in questions:
            questions[key] = question_of_request(tasks["tasks"][request.task_name], request, run.prompts, run.pair)
        return questions[key]

    method.question_of = question_of
    for task in tasks["tasks"].values():
        # lm-eval only asks: answers are scored from the records.
        task.override_metric(metric_name="bypass")
    chat = run.prompts == "chat"
    evaluate(method, tasks, limit=run.limit or None, bootstrap_iters=0, apply_chat_template=chat)
    return questions


def record(
    who: Mapping[str, Any], method: str, question: Question, answer: Answer, tasks: dict[str, Any], setting: str = ""
) -> dict[str, Any]:
    """One answered question as a row of `c2c.evaluation.schema.RECORD_SCHEMA`; `who` says who answers."""
    task = tasks["tasks"][question.benchmark]
    # Options that are read from a letter are shown in the prompt, though none of them is weighed.
    shown = question.doc.get("options") if task.config.metadata["scoring"] == "letter" else None
    choices = task.doc_to_choice(question.doc) if task.OUTPUT_TYPE == "multiple_choice" else shown
    answered = {name: getattr(answer, name) for name in ANSWER_COLUMNS}
    # Every answer has a confidence, which is a column of the methods that decide by it alone.
    if not (method in DECLARATIONS and DECLARATIONS[method].confidence):
        answered["confidence"] = None
    return {
        **answered,
        **who,
        "benchmark": question.benchmark,
        "setting": setting,
        "subset": str(question.doc.get("subset") or ""),
        "scoring": task.config.metadata["scoring"],
        "question_id": str(question.doc["id"]),
        "question_hash": text_hash(json.dumps(question.doc, sort_keys=True)),
        "prompt_hash": text_hash(answer.prompt_read or question.prompt),
        "opening": task.doc_to_prefix(question.doc) or "",
        "gold": question.gold,
        "choices": choices,
    }
