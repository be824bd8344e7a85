"""Analyses of caches, one for each key of the config's block ``analysis``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from c2c.errors import RefusedError
from paper.artefacts import read_artefacts
from workflow.settings import Settings
from workflow.validation import check_known

WITH_FUSER = ("effective_rank", "tsne", "partial")
"""Kinds that need a trained fuser; `enrichment` needs one model alone."""

PLACE = ("pair", "recipe", "alignment", "seed", "benchmark", "questions", "examples")
"""Keys of a kind that rules hand on by themselves; all others are flags of its command."""


def kinds(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The analyses of this scale with their settings."""
    return {kind: given for kind, given in (config["analysis"] or {}).items() if given is not None}


def fuser_path(given: Mapping[str, Any]) -> str:
    """The fuser of an analysis, below ``fusers/``."""
    return f"{given['pair']}/{given['recipe']}/{given['alignment']}/seed{given['seed']}"


def numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """What an analysis is told beside models, fuser and files; of all questions their number is 0."""
    asked = {"questions": given["questions"] or 0}
    return asked | {key: value for key, value in given.items() if key not in PLACE and not isinstance(value, list)}


def check_analysis(settings: Settings) -> None:
    """The analyses against the rest of the config.

    Raises:
        RefusedError: One names a pair, fuser or benchmark that this scale has not, or examples that there are none of;
            or an artefact is wanted without its analysis.
    """
    made, wanted = kinds(settings.config), settings.config["artefacts"]
    for each in read_artefacts():
        if each.analysis and each.analysis not in made and each.name in wanted[f"{each.kind}s"]:
            rule = f"The {each.kind} {each.name} of artefacts must have analysis.{each.analysis}"
            raise RefusedError(rule, "null", f"Drop it from artefacts, or fill analysis.{each.analysis}")
    for kind, given in kinds(settings.config).items():
        where, remedy = f"analysis.{kind}", f"Correct it, or set analysis.{kind} to null"
        check_known(f"{where}.pair", given["pair"], settings.used_pairs, remedy)
        check_known(f"{where}.benchmark", given["benchmark"], settings.tasks(given["pair"]), remedy)
        paths = [run.path for run in settings.runs]
        if kind in WITH_FUSER and fuser_path(given) not in paths:
            raise RefusedError(f"The fuser of {where} must be one of runs", fuser_path(given), remedy)
        if kind == "enrichment":
            _check_examples(settings, given, remedy)


def _check_examples(settings: Settings, given: Mapping[str, Any], remedy: str) -> None:
    known = settings.data.benchmarks
    check_known("analysis.enrichment.examples", given["examples"], known, remedy)
    row, asked = known[given["examples"]], settings.data.benchmark_of[given["benchmark"]]
    if row["source"] == "world" and given["examples"] == asked:
        return
    if row["shot_split"] is None:
        rule = "Examples of the enrichment oracle must come from a split that nobody is asked"
        others = ", ".join(settings.data.with_shots)
        raise RefusedError(rule, given["examples"], f"Name one of {others}, or the world's that is asked")
