"""The control `c2c_same_answer`, on the tasks that a run names for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.user_files import QUESTION_FILE, UserFile
from c2c.alignment.derangement import check_golds
from c2c.errors import RefusedError
from workflow.kinds.jobs import AnswerJob
from workflow.kinds.pairs import fused_job
from workflow.settings import FuserTraining, Settings
from workflow.validation import check_known

SAME_ANSWER = "same_answer"
LETTER_SCORINGS = ("letter", "logits")
"""Scorings whose gold answers are letters of options."""


def same_answer_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each training whose run names tasks for the control."""
    jobs = []
    for entry in settings.config["runs"]:
        if not (tasks := tuple(entry.get("same_answer", ()))):
            continue
        for seed in entry["seeds"]:
            job = fused_job(settings, FuserTraining(entry["pair"], entry["recipe"], entry["alignment"], seed))
            questions = dict(zip(job.tasks, job.questions, strict=True))
            jobs.append(
                replace(
                    job,
                    kind=SAME_ANSWER,
                    path=f"{job.path}.same_answer",
                    methods=("c2c_same_answer",),
                    tasks=tasks,
                    questions=tuple(questions[task] for task in tasks),
                    subject=f"{job.subject}, messages of other questions with the same answer",
                )
            )
    return jobs


def check_same_answer(settings: Settings) -> None:
    """Check, before anything is trained, that the control has a message and partners on each task that a run names.

    Raises:
        RefusedError: Fusers of the run read no cache; the pair does not answer the task; or the task's gold answers
            are neither letters nor values of the world nor, in questions of your own, those of two questions or more.
    """
    for entry in settings.config["runs"]:
        for task in entry.get("same_answer", ()):
            _check_task(settings, entry, task)


def _check_task(settings: Settings, entry: Mapping[str, Any], task: str) -> None:
    # 1. Fusers with a message, and a task of the pair
    if settings.recipes[entry["recipe"]]["sharer_cache"] == "zeroed":
        rule = "A run with same_answer must have a recipe whose Fusers read the Sharer's cache"
        raise RefusedError(rule, entry["recipe"], "Name the tasks in the run of another recipe")
    home, remedy = f"a task that pair {entry['pair']!r} answers", "Correct same_answer, or drop it"
    check_known("A task of same_answer", task, settings.tasks(entry["pair"]), home, remedy)
    # 2. Gold answers that several questions share
    scoring, benchmark = settings.data.scoring_of(task), settings.data.benchmark_of[task]
    source = settings.benchmarks[benchmark]["source"]
    if source == "file":
        rows = UserFile(Path(settings.data.own_folder(benchmark)) / QUESTION_FILE).questions(task)
        check_golds(SAME_ANSWER, [row["answer" if scoring in LETTER_SCORINGS else "value"] for row in rows], task)
    elif scoring not in LETTER_SCORINGS and source != "world":
        raise RefusedError(
            "A task of same_answer must have gold answers that several questions share: letters or values of the world",
            f"{task}, scoring {scoring}",
            f"Name the task with scoring {' or '.join(LETTER_SCORINGS)}, or drop it from same_answer",
        )
