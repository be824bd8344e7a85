"""Checks of the config: against its tables, and by the rules of the programs that will read it. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.world.sizes import check_heads
from benchmarks.world.sizes import check_world as check_sizes
from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import FUSER_METHODS, METHODS
from c2c.models.hub import MIRRORS
from c2c.settings import AUTO
from paper.artefacts import of_kind, read_artefacts, required_files
from paper.modules import check_module
from workflow.config import check_training
from workflow.data import check_benchmarks, check_training_set
from workflow.kinds.pairs import check_runs
from workflow.kinds.registry import check_kinds
from workflow.kinds.released import check_released
from workflow.kinds.testbed import check_bed
from workflow.settings import Settings
from workflow.validation import check_known, check_row


def check_world(config: Mapping[str, Any]) -> None:
    """Check the sizes of the knowledge-gap world and of its models, where the config has one.

    Raises:
        RefusedError: No such world or model can be made.
    """
    if "world" not in config:
        return
    world = config["world"]
    _at("world", check_sizes, world["entities"], world["attributes"], world["values"])
    _at("world.pretraining", check_heads, world["pretraining"]["hidden"])
    for name, model in world["models"].items():
        if "hidden" in model:
            _at(f"world.models.{name}", check_heads, model["hidden"])


def check_artefacts(config: Mapping[str, Any]) -> None:
    """Check that the tables and figures of the config exist, and that those of the paper are among them.

    Raises:
        RefusedError: One is not in ``paper/artefacts.yaml``, an entry there has no module that can be run, or the paper
            is to be made without one that it needs.
    """
    artefacts = config["artefacts"]
    for kind in ("table", "figure"):
        for name in artefacts[f"{kind}s"]:
            names = of_kind(kind)
            check_known(
                f"A {kind} of artefacts", name, names, f"a {kind} of paper/artefacts.yaml", f"Names: {', '.join(names)}"
            )
    for artefact in read_artefacts():
        check_module(artefact)
    if not artefacts["paper"]:
        return
    for kind in ("tables", "figures"):
        names = [Path(name).stem for name in required_files() if name.startswith(f"{kind}/")]
        if missing := [name for name in names if name not in artefacts[kind]]:
            rule = f"A paper must have the {kind} {', '.join(names)}"
            raise RefusedError(
                rule, f"artefacts.{kind} without {', '.join(missing)}", "Add them, or set artefacts.paper to false"
            )


def check_mirrors(environment: Mapping[str, str] = os.environ) -> None:
    """Check that each folder of C2C_HUB_MIRROR exists on the machine that plans the run.

    Raises:
        RefusedError: One does not.
    """
    for folder in filter(None, environment.get(MIRRORS, "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise RefusedError(
                f"Each folder of {MIRRORS} must exist", folder, f"Correct the path, or unset {MIRRORS} to use the hub"
            )


def check_settings(settings: Settings, root: Path) -> None:
    """Check the config against the tables, and the tables against the files below `root`.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    for run in settings.config["runs"]:
        check_row("The pair of a run", run["pair"], settings.pairs, "pairs")
        check_row("The recipe of a run", run["recipe"], settings.recipes, "recipes")
    _check_recipes(settings)
    check_released(settings)
    check_runs(settings)
    _check_pairs(settings)
    _check_benchmarks(settings, root)
    _check_training(settings, root)
    _check_latency(settings)
    check_kinds(settings, root)
    check_bed(settings)


def _at(place: str, check: Any, *values: int) -> None:
    """Run a check of another package; a refusal is prefixed with the place of the value in the config."""
    try:
        check(*values)
    except RefusedError as refusal:
        raise RefusedError(f"config.{place}: {refusal.rule}", refusal.received, refusal.remedy) from None


def _check_recipes(settings: Settings) -> None:
    """Check that recipes name methods that use a pair's Fusers, each once, and that none has the id of a method."""
    for recipe, row in settings.recipes.items():
        methods = (row["methods"] or "").split()
        for name in methods:
            home, remedy = "a method that uses a pair's Fusers", "Correct config/recipes.tsv"
            check_known(f"A method of recipe {recipe!r}", name, FUSER_METHODS, home, remedy)
        if not methods or len(set(methods)) < len(methods):
            rule = f"Recipe {recipe!r} must name its methods, each once"
            raise RefusedError(rule, row["methods"], "Correct config/recipes.tsv")
        if recipe in METHODS and recipe != "c2c":
            rule = "The id of a recipe must not be that of a method, since both name the arm in tables"
            raise RefusedError(rule, recipe, "Rename it in config/recipes.tsv")


def _check_pairs(settings: Settings) -> None:
    for pair in settings.used_pairs:
        row = settings.pairs[pair]
        for role in ("receiver", "sharer"):
            check_row(f"The {role} of pair {pair!r}", row[role], settings.models, "models")
        sets = settings.training_sets
        check_row(f"The training set of pair {pair!r}", row["training_set"], sets, "training_sets")
    for name, model in settings.teachers.items():
        check_row(f"The teacher of {name!r}", model, settings.models, "models")
    for model in settings.used_models:
        _check_source(settings, "models", model)
        if settings.models[model]["source"] == "world":
            models = settings.config["world"]["models"]
            check_known(
                "A model of the knowledge-gap world", model, models, "a key of world.models", "Add it to world.models"
            )


def _check_benchmarks(settings: Settings, root: Path) -> None:
    for task in check_benchmarks(settings.data, root):
        _check_source(settings, "benchmarks", settings.data.benchmark_of[task], "split", "reader")
    for pair in settings.used_pairs:
        for name in (settings.pairs[pair]["benchmarks"] or "").split():
            check_known(
                f"A benchmark of pair {pair!r}",
                name,
                settings.benchmarks,
                "the name of a benchmark",
                "Correct config/pairs.tsv",
            )
        if not settings.tasks(pair):
            rule = f"Pair {pair!r} must be asked at least one of the config's benchmarks"
            raise RefusedError(rule, settings.pairs[pair]["benchmarks"], "Add a task of theirs to benchmarks")


def _check_training(settings: Settings, root: Path) -> None:
    for run in settings.runs:
        training = settings.training_of(run.pair, run.recipe, run.alignment)
        check_training(f"The training of {run.path}", training, settings.processes.get("processes", 1))
        if run.recipe == "adapter" and training != settings.training_of(run.pair, "c2c", run.alignment):
            rule = "An adapter must be trained as the c2c that it is the control of"
            raise RefusedError(rule, run.path, "Give both entries of runs the same training")
    _check_together(settings)
    for name in settings.used_training_sets:
        for part in check_training_set(settings.data, name, root):
            _check_source(settings, "training_sets", part, "split", "reader")


def _check_together(settings: Settings) -> None:
    """Check that trainings of one job have batches and an order in common."""
    for folder, runs in settings.trained_together.items():
        trainings = [settings.training_of(run.pair, run.recipe, run.alignment) for run in runs]
        if any(training["order_seed"] < 0 for training in trainings):
            rule = "Trainings with frozen: together must have an order_seed, which all of them share"
            raise RefusedError(rule, f"{trainings[0]['order_seed']} of {folder}", "Set training.order_seed, such as 0")
        if any(training["micro_batch_tokens"] == AUTO for training in trainings):
            rule = "Trainings with frozen: together must have a number of micro_batch_tokens"
            raise RefusedError(rule, f"{AUTO} of {folder}", "Set a number, or 0, or set frozen: live")
        for name in ("order_seed", "batch_size", "micro_batch_size", "micro_batch_tokens"):
            if len({training[name] for training in trainings}) > 1:
                rule = f"Trainings of one pair with frozen: together must have the same {name}"
                received = ", ".join(str(training[name]) for training in trainings)
                raise RefusedError(rule, f"{received} of {folder}", "Set it alike, or set frozen: live for some")


def _check_latency(settings: Settings) -> None:
    latency = settings.config["latency"]
    if latency is None:
        artefacts = settings.config["artefacts"]
        timed = [entry.stem for entry in read_artefacts() if entry.timed and entry.name in artefacts[f"{entry.kind}s"]]
        if timed:
            rule = "Artefacts of times must have the key latency"
            raise RefusedError(rule, sorted(timed), "Drop them from artefacts, or fill latency")
        return
    measured = settings.config["benchmarks"]
    for task in latency["benchmarks"]:
        check_known("A task of latency.benchmarks", task, measured, "a task of the config's benchmarks", "Correct it")
    for recipe in latency.get("recipes", []):
        check_row("A recipe of latency.recipes", recipe, settings.recipes, "recipes")
        if recipe == "c2c":
            rule = "latency.recipes must name other recipes than c2c, which latency.methods times"
            raise RefusedError(rule, recipe, "Drop it")
    for pair in settings.timed_pairs:
        if "c2c" in latency["methods"] and not any((r.pair, r.recipe) == (pair, "c2c") for r in settings.runs):
            rule = "Latency of c2c must be measured with a fuser of recipe c2c of each pair"
            raise RefusedError(rule, pair, "Add a c2c run of this pair, or drop c2c from latency.methods")


def _check_source(settings: Settings, table: str, name: str, *columns: str) -> None:
    row = getattr(settings, table)[name]
    if row["source"] == "world" and "world" not in settings.config:
        rule = "What comes from the knowledge-gap world must have the config key 'world'"
        raise RefusedError(rule, name, "Use --profile smoke, or add the key as config/smoke.yaml has it")
    for column in ("hub_id", "revision", *columns):
        if row["source"] == "hub" and row[column] is None:
            place = "The metadata of a benchmark" if table == "benchmarks" else f"A row of config/{table}.tsv"
            rule = f"{place} with source hub must fill {column!r}"
            raise RefusedError(rule, f"{name}: empty", f"Fill in {column}")
