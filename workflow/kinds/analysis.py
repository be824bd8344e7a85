"""Analyses of caches, one for each key of the config's block ``analysis``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.protocol import ORACLE_TASK
from paper.artefacts import read_artefacts
from workflow.settings import Settings
from workflow.validation import check_known

WITH_FUSER = ("effective_rank", "tsne", "partial")
"""Kinds that need a trained fuser; `enrichment` needs one model alone."""

PLACE = ("pair", "recipe", "alignment", "seed", "benchmark", "questions", "examples")
"""Keys that rules turn into flags and files by themselves; all others are flags of the command of an analysis."""


def kinds(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The analyses of this scale with their settings."""
    return {kind: entry for kind, entry in (config["analysis"] or {}).items() if entry is not None}


def fuser_path(entry: Mapping[str, Any]) -> str:
    """The fuser of an analysis, below ``fusers/``."""
    return f"{entry['pair']}/{entry['recipe']}/{entry['alignment']}/seed{entry['seed']}"


def numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of an analysis as flags of its command; 0 questions are all of them."""
    questions = {"questions": entry["questions"] or 0}
    return questions | {key: value for key, value in entry.items() if key not in PLACE and not isinstance(value, list)}


def prompts(settings: Settings, entry: Mapping[str, Any]) -> str:
    """The kind of prompts of an analysis: its pair's, but plain text for the released enrichment oracle."""
    return "plain" if entry["benchmark"].endswith(ORACLE_TASK) else settings.prompts(entry["pair"])


def check_analysis(settings: Settings) -> None:
    """Check the analyses against the rest of the config.

    Raises:
        RefusedError: One names a pair, fuser or benchmark that this scale does not have, or examples that do not exist;
            or the config names an artefact without its analysis.
    """
    entries, names = kinds(settings.config), settings.config["artefacts"]
    for artefact in read_artefacts():
        missing = artefact.analysis and artefact.analysis not in entries
        if missing and artefact.name in names[f"{artefact.kind}s"]:
            rule = f"The {artefact.kind} {artefact.name} of artefacts must have analysis.{artefact.analysis}"
            raise RefusedError(rule, "null", f"Drop it from artefacts, or fill analysis.{artefact.analysis}")
    for kind, entry in entries.items():
        where, remedy = f"analysis.{kind}", f"Correct it, or set analysis.{kind} to null"
        check_known(f"{where}.pair", entry["pair"], settings.used_pairs, "a pair of the config's runs", remedy)
        tasks, home = settings.tasks(entry["pair"]), f"a task of the config's benchmarks that {entry['pair']} answers"
        # The released oracle's task is asked by the analysis alone, of a benchmark that the pair answers.
        is_oracle = kind == "enrichment" and entry["benchmark"].endswith(ORACLE_TASK)
        benchmark_of = settings.data.benchmark_of
        answered = {benchmark_of[task] for task in tasks}
        if not is_oracle or benchmark_of.get(entry["benchmark"]) not in answered:
            check_known(f"{where}.benchmark", entry["benchmark"], tasks, home, remedy)
        paths = [run.path for run in settings.runs]
        if kind in WITH_FUSER and fuser_path(entry) not in paths:
            raise RefusedError(f"The fuser of {where} must be one of runs", fuser_path(entry), remedy)
        if kind == "enrichment":
            _check_examples(settings, entry, remedy)


def _check_examples(settings: Settings, entry: Mapping[str, Any], remedy: str) -> None:
    benchmarks = settings.data.benchmarks
    check_known("analysis.enrichment.examples", entry["examples"], benchmarks, "a benchmark", remedy)
    row = benchmarks[entry["examples"]]
    if row["source"] == "world" and entry["examples"] == settings.data.benchmark_of[entry["benchmark"]]:
        return
    if row["shot_split"] is None:
        rule = "Examples of the enrichment oracle must come from a split without questions of the evaluation"
        names = ", ".join(settings.data.with_shots)
        raise RefusedError(rule, entry["examples"], f"Name one of {names}, or the world's that is asked")
