"""Fusers that are kept before their last step (Table 12, Figure 13). Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from workflow.kinds.jobs import AnswerJob
from workflow.kinds.pairs import fused_job
from workflow.settings import FuserTraining, Settings

KEPT = "kept"


def kept_steps(settings: Settings) -> list[tuple[FuserTraining, int]]:
    """Each training with each step at which its Fusers are kept, in the config's order."""
    return [
        (run, step)
        for run in settings.runs
        for step in settings.training_of(run.pair, run.recipe, run.alignment).get("keep_steps", [])
    ]


def kept_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each kept step, whose Fusers answer as those of the last step do."""
    jobs = []
    for run, step in kept_steps(settings):
        job, folder = fused_job(settings, run), f"fusers/{run.path}.steps"
        jobs.append(
            replace(
                job,
                kind=KEPT,
                path=f"{job.path}.step{step}",
                fusers=(f"{folder}/step{step}",),
                fuser_files=(folder,),
                options={**job.options, "recipe": f"{run.recipe}@{step}"},
                subject=f"{job.subject}, after step {step}",
            )
        )
    return jobs
