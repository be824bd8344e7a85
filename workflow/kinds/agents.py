"""Two agents (Table 15): the Sharer interprets the problem, the Receiver solves it. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import AGENT_METHODS
from workflow.data import TASKS
from workflow.kinds.jobs import AnswerJob, answer_job, checkpoint_files
from workflow.settings import FuserTraining, Settings
from workflow.validation import check_row

AGENTS = "agents"


def agent_runs(settings: Settings) -> list[FuserTraining]:
    """The trainings whose Fusers the agents use, one for each pair, in the config's order."""
    return [
        FuserTraining(entry["pair"], "c2c", entry["alignment"], entry["seed"])
        for entry in settings.config.get("agents", [])
    ]


def agent_tasks(settings: Settings, pair: str, tasks: Path = TASKS) -> list[str]:
    """The tasks of a pair whose files have prompts for interpreter and solver."""
    metadata = {task: settings.data.task_config(task, tasks)["metadata"] for task in settings.tasks(pair)}
    return [task for task, keys in metadata.items() if "agents_prompt" in keys]


def agent_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each pair: by text, and by text and cache."""
    return [
        answer_job(
            settings,
            AGENTS,
            f"records/agents/{run.pair}",
            [run.pair],
            AGENT_METHODS,
            tasks=agent_tasks(settings, run.pair),
            fusers=(f"fusers/{run.path}",),
            fuser_files=checkpoint_files([f"fusers/{run.path}"]),
            options={"recipe": run.recipe, "alignment": run.alignment, "seed": run.seed},
            subject=f"{run.pair} as interpreter and solver",
        )
        for run in agent_runs(settings)
    ]


def check_agents(settings: Settings, root: Path) -> None:
    """Check that each pair of two agents has a c2c run, and a task with prompts for interpreter and solver.

    Raises:
        RefusedError: Otherwise, or if a pair stands twice.
    """
    runs = agent_runs(settings)
    pairs = [run.pair for run in runs]
    for run in runs:
        check_row("The pair of two agents", run.pair, settings.pairs, "pairs")
        if run not in settings.runs or pairs.count(run.pair) > 1:
            rule = "Two agents must be asked once a pair, with a c2c run of their alignment and seed"
            raise RefusedError(rule, run.path, "Add it to runs, or correct the entry of agents")
        if not agent_tasks(settings, run.pair, root / TASKS):
            rule = f"Pair {run.pair!r} must be asked a task with agents_question and agents_prompt"
            raise RefusedError(rule, " ".join(settings.tasks(run.pair)), "Add such a task, as gsm8k, or drop the entry")
