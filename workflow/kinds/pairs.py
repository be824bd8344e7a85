"""Pairs: their models alone, and every Fuser stack that is trained for them. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from c2c.errors import RefusedError
from workflow.kinds.jobs import AnswerJob, answer_job, checkpoint_files
from workflow.settings import FuserTraining, Settings

BASELINES = "baselines"
FUSED = "fused"


def baseline_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each pair: methods without Fusers."""
    return [
        answer_job(
            settings,
            BASELINES,
            f"records/{pair}/baselines",
            [pair],
            methods := settings.baselines(pair),
            router=f"routers/{pair}" if "routing_trained" in methods else None,
            subject=f"the single models of {pair}, text to text, and routing",
        )
        for pair in settings.used_pairs
    ]


def fused_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each training of Fusers: the methods of its recipe."""
    return [fused_job(settings, run) for run in settings.runs]


def fused_job(settings: Settings, run: FuserTraining) -> AnswerJob:
    """The job in which the Fusers of a training answer; with recipe identical the Receiver is the Sharer too."""
    folder = f"fusers/{run.path}"
    return answer_job(
        settings,
        FUSED,
        f"records/{run.path}",
        [run.pair],
        settings.recipes[run.recipe]["methods"].split(),
        sharers=(f"models/{settings.pairs[run.pair][settings.sharer_role(run.recipe)]}.json",),
        fusers=(folder,),
        fuser_files=checkpoint_files([folder]),
        options={"recipe": run.recipe, "alignment": run.alignment, "seed": run.seed},
        subject=f"the Fusers {run.pair}, recipe {run.recipe}, alignment {run.alignment}, seed {run.seed}",
    )


def check_runs(settings: Settings) -> None:
    """Check that each training of Fusers is listed once, and that each control has the training it is compared with.

    Raises:
        RefusedError: A training stands twice, an adapter has no c2c, or a Receiver that is its own Sharer is trained
            in two of its pairs.
    """
    earlier: set[FuserTraining] = set()
    for run in settings.runs:
        if run in earlier:
            raise RefusedError(
                "Each fuser must be listed once in runs", run.path, "Drop the second entry or change its seed"
            )
        earlier.add(run)
    for run in settings.runs:
        if run.recipe == "adapter" and replace(run, recipe="c2c") not in earlier:
            rule = "Each adapter control must have a c2c run of the same pair, alignment and seed to be compared with"
            raise RefusedError(rule, run.path, "Give both recipes the same seeds in runs")
    # A Receiver with its own cache learns the same in each of its pairs.
    own: set[tuple[str, FuserTraining]] = set()
    for run in settings.runs:
        if settings.sharer_role(run.recipe) == "receiver" and run.pair in settings.pairs:
            key = (settings.pairs[run.pair]["receiver"], replace(run, pair=""))
            if key in own:
                rule = "A Receiver that is its own Sharer must be trained in one of its pairs"
                raise RefusedError(rule, run.path, "Drop the run of the other pair, or this one")
            own.add(key)
