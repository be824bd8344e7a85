"""What the prompts are worth: runs that also answer with the prompts of the released code. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from c2c.errors import RefusedError
from c2c.evaluation.protocol import RELEASED_TASK
from workflow.kinds.jobs import AnswerJob, answer_job
from workflow.kinds.pairs import fused_job
from workflow.settings import FuserTraining, Settings

RELEASED_PROMPTS = "released_prompts"
ALONE = ("receiver", "sharer")
"""Methods of a pair without Fusers that answer with both sets of prompts."""


def released_tasks(settings: Settings, pair: str) -> list[str]:
    """The tasks of a pair with the released prompts, of those that have them."""
    released = [f"{task}{RELEASED_TASK}" for task in settings.tasks(pair)]
    return [task for task in released if task in settings.data.benchmark_of]


def released_prompts_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each pair that has a run with ``released_prompts``, and one for each training of such a run."""
    entries = [entry for entry in settings.config["runs"] if entry.get(RELEASED_PROMPTS)]
    jobs = [
        answer_job(
            settings,
            RELEASED_PROMPTS,
            f"records/{pair}/baselines.{RELEASED_PROMPTS}",
            [pair],
            ALONE,
            tasks=released_tasks(settings, pair),
            subject=f"the single models of {pair}, with the released prompts",
        )
        for pair in dict.fromkeys(entry["pair"] for entry in entries)
    ]
    for entry in entries:
        for seed in entry["seeds"]:
            job = fused_job(settings, FuserTraining(entry["pair"], entry["recipe"], entry["alignment"], seed))
            tasks = released_tasks(settings, entry["pair"])
            questions = tuple(f"data/benchmarks/{settings.data.benchmark_of[task]}.jsonl" for task in tasks)
            jobs.append(
                replace(
                    job,
                    kind=RELEASED_PROMPTS,
                    path=f"{job.path}.{RELEASED_PROMPTS}",
                    methods=("c2c",),
                    tasks=tuple(tasks),
                    questions=questions,
                    subject=f"{job.subject}, with the released prompts",
                )
            )
    return jobs


def check_released_prompts(settings: Settings) -> None:
    """Check that the pair of each run with ``released_prompts`` answers a task that has them.

    Raises:
        RefusedError: No task of the pair has released prompts.
    """
    for entry in settings.config["runs"]:
        if entry.get(RELEASED_PROMPTS) and not released_tasks(settings, entry["pair"]):
            rule = f"Pair {entry['pair']!r} of a run with released_prompts must have a task with the released prompts"
            received = " ".join(settings.tasks(entry["pair"]))
            raise RefusedError(rule, received, f"Add such a task, or drop {RELEASED_PROMPTS}")
