"""The trained router of a pair: it learns from both models' answers to training questions. Imports no torch."""

from __future__ import annotations

from c2c.errors import RefusedError
from workflow.kinds.jobs import AnswerJob, answer_job
from workflow.settings import Settings

ROUTER = "router"


def router_pairs(settings: Settings) -> list[str]:
    """Pairs with a trained router."""
    return [pair for pair in settings.used_pairs if "routing_trained" in settings.baselines(pair)]


def router_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each pair, in which each model alone answers training questions. Its answers are no records."""
    jobs = []
    for pair in router_pairs(settings):
        tasks = settings.router_tasks(pair)
        benchmarks = [settings.data.benchmark_of[task] for task in tasks]
        jobs.append(
            answer_job(
                settings,
                ROUTER,
                f"routers/{pair}/answers",
                [pair],
                ["receiver", "sharer"],
                tasks=tasks,
                questions=tuple(f"data/training_questions/{benchmark}.jsonl" for benchmark in benchmarks),
                most_questions=settings.config["router"]["questions"],
                subject=f"the single models of {pair}, training questions for its router",
            )
        )
    return jobs


def check_router(settings: Settings) -> None:
    """Check that a trained router has a task to learn from.

    Raises:
        RefusedError: No benchmark of the config has a training split.
    """
    learned = [task for pair in settings.used_pairs for task in settings.router_tasks(pair)]
    if "routing_trained" in settings.config["baselines"] and not learned:
        rule = "routing_trained must learn from a benchmark whose data set has a training split"
        choices = ", ".join(settings.data.with_training_questions)
        raise RefusedError(rule, settings.config["benchmarks"], f"Add one of {choices}, or drop routing_trained")
