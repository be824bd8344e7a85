"""The analyses of caches as the workflow sees them: what the config's block ``analysis`` asks for. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from c2c.errors import RefusedError
from workflow.data import SHOT_SPLITS
from workflow.validation import check_known

if TYPE_CHECKING:
    from workflow.settings import Settings

WITH_FUSER = ("effective_rank", "tsne", "partial")
"""Kinds that need a trained fuser; `enrichment` needs one model alone."""

PLACE = ("pair", "recipe", "alignment", "seed", "benchmark", "questions", "examples")
"""Keys of a kind that rules hand on by themselves; all others are flags of its command."""

TABLES: dict[str, dict[str, str]] = {
    "enrichment": {"accuracy": "analysis/enrichment/accuracy.csv", "orders": "analysis/enrichment/orders.csv"},
    "effective_rank": {"ranks": "analysis/effective_rank/ranks.csv"},
    "partial": {"accuracy": "analysis/partial/accuracy.csv"},
}
"""By table, which is named as its kind: the files below the results folder that its command reads, by flag."""

FIGURES: dict[str, dict[str, str]] = {
    "enrichment": {"table": "tables/enrichment.csv"},
    "effective_rank": {"ranks": "analysis/effective_rank/ranks.csv"},
    "tsne": {"points": "analysis/tsne/points.csv", "clouds": "analysis/tsne/clouds.csv"},
    "partial": {"accuracy": "analysis/partial/accuracy.csv"},
}
"""The same for figures."""


def kinds(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The analyses of this scale with their settings."""
    return {kind: given for kind, given in (config["analysis"] or {}).items() if given is not None}


def artefacts(config: Mapping[str, Any]) -> list[str]:
    """Tables and figures of this scale's analyses, below the results folder."""
    found = kinds(config)
    tables = [f"tables/{name}.csv" for name in TABLES if name in found]
    return [*tables, *(f"figures/{name}.png" for name in FIGURES if name in found)]


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
        RefusedError: One names a pair, fuser or benchmark that this scale has not, or examples that there are none of.
    """
    for kind, given in kinds(settings.config).items():
        where, remedy = f"analysis.{kind}", f"Correct it, or set analysis.{kind} to null"
        check_known(f"{where}.pair", given["pair"], settings.used_pairs, remedy)
        check_known(f"{where}.benchmark", given["benchmark"], settings.tasks(given["pair"]), remedy)
        paths = [run.path for run in settings.runs]
        if kind in WITH_FUSER and fuser_path(given) not in paths:
            raise RefusedError(f"The fuser of {where} is one of runs", fuser_path(given), remedy)
        if kind == "enrichment":
            _check_examples(settings, given, remedy)


def _check_examples(settings: Settings, given: Mapping[str, Any], remedy: str) -> None:
    known = settings.data.benchmarks
    check_known("analysis.enrichment.examples", given["examples"], known, remedy)
    row, asked = known[given["examples"]], settings.data.benchmark_of[given["benchmark"]]
    if row["source"] == "world" and given["examples"] == asked:
        return
    if row["source"] != "hub" or row["reader"] not in SHOT_SPLITS:
        rule = "Examples of the enrichment oracle come from a split that nobody is asked"
        readers = ", ".join(sorted(SHOT_SPLITS))
        raise RefusedError(
            rule, given["examples"], f"Name a benchmark of the readers {readers}, or the world's that is asked"
        )
