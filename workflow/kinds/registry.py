"""All kinds in their order. A new kind is a module of this folder and an entry here. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workflow.kinds.agents import agent_answers, check_agents
from workflow.kinds.analysis import check_analysis
from workflow.kinds.groups import check_groups, group_answers
from workflow.kinds.jobs import AnswerJob
from workflow.kinds.latent import check_latent, latent_answers, latent_names, latent_tokenised
from workflow.kinds.pairs import baseline_answers, fused_answers
from workflow.kinds.released import released_answers
from workflow.kinds.released_prompts import check_released_prompts, released_prompts_answers
from workflow.kinds.router import check_router
from workflow.kinds.same_answer import check_same_answer, same_answer_answers
from workflow.kinds.single import check_single, single_answers
from workflow.kinds.steps import kept_answers
from workflow.settings import Settings

ANSWERS: tuple[Callable[[Settings], list[AnswerJob]], ...] = (
    baseline_answers,
    fused_answers,
    same_answer_answers,
    released_prompts_answers,
    kept_answers,
    group_answers,
    released_answers,
    single_answers,
    agent_answers,
    latent_answers,
)
"""What each kind answers, in the order in which records are scored."""


def answer_jobs(settings: Settings) -> list[AnswerJob]:
    """All jobs that write records of a scale."""
    return [job for answers in ANSWERS for job in answers(settings)]


def tokenised_folders(settings: Settings) -> list[str]:
    """The folders of tokenised training sets below ``data/tokenised``, each once."""
    folders = [settings.tokenised(run.pair, run.recipe, run.alignment) for run in settings.runs]
    for name in latent_names(settings):
        folders += latent_tokenised(settings, name)
    return list(dict.fromkeys(folders))


def check_kinds(settings: Settings, root: Path) -> None:
    """Check the entries of all kinds against the config, its tables, and the files below `root`.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    check_router(settings)
    check_groups(settings)
    check_latent(settings)
    check_single(settings)
    check_agents(settings, root)
    check_analysis(settings)
    check_same_answer(settings)
    check_released_prompts(settings)
