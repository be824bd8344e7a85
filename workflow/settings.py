"""What a run of the workflow consists of: the config and its tables, checked together before any job starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from workflow.data import Data, check_benchmarks, check_training_set
from workflow.validation import Table, check_config, check_known, read_table

TABLES = ("models", "pairs", "recipes", "benchmarks", "training_sets")

OWN_TOKENS = ".receiver"
"""Behind a pair's id where its Receiver is the Sharer too."""


@dataclass(frozen=True)
class Run:
    """One fuser to train: its path below ``fusers/`` and, with ``.parquet``, below ``records/``."""

    pair: str
    recipe: str
    alignment: str
    seed: int

    @property
    def path(self) -> str:
        """``<pair>/<recipe>/<alignment>/seed<seed>``."""
        return f"{self.pair}/{self.recipe}/{self.alignment}/seed{self.seed}"


@dataclass(frozen=True)
class Settings:
    """A checked config with its tables."""

    config: Mapping[str, Any]
    models: Table
    pairs: Table
    recipes: Table
    benchmarks: Table
    training_sets: Table

    @property
    def runs(self) -> list[Run]:
        """All fusers of this scale, in the config's order."""
        return [
            Run(entry["pair"], entry["recipe"], entry["alignment"], seed)
            for entry in self.config["runs"]
            for seed in entry["seeds"]
        ]

    @property
    def used_pairs(self) -> list[str]:
        """Pairs that have a run, each once, in order."""
        return list(dict.fromkeys(run.pair for run in self.runs))

    @property
    def used_training_sets(self) -> list[str]:
        """Training sets of those pairs, each once, in order."""
        return list(dict.fromkeys(self.pairs[pair]["training_set"] for pair in self.used_pairs))

    @property
    def used_models(self) -> list[str]:
        """Models of those pairs, each once, in order."""
        return list(dict.fromkeys(self.pairs[p][role] for p, role in product(self.used_pairs, ("receiver", "sharer"))))

    @property
    def data(self) -> Data:
        """Benchmarks and training sets of this scale."""
        return Data(self.config, self.benchmarks, self.training_sets)

    def from_source(self, table: str, *sources: str) -> list[str]:
        """Ids in a table whose ``source`` is one of `sources`: ``world``, ``hub``, ``mix`` or ``gap``."""
        return [name for name, row in getattr(self, table).items() if row["source"] in sources]

    @property
    def world(self) -> Mapping[str, Any]:
        """Settings of the knowledge-gap world without its models; empty where the scale has none."""
        world = self.config.get("world", {})
        return {key: world[key] for key in ("entities", "attributes", "values", "seed") if key in world}

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings of the fuser and its training, where a run has none of its own."""
        return {**self.config["fuser"], **_without(self.config["training"], "retries")}

    def training_of(self, pair: str, recipe: str, alignment: str) -> Mapping[str, Any]:
        """Settings of one fuser and its training: the scale's, with those of its entry in ``runs`` over them."""
        key = (pair, recipe, alignment)
        entries = [each for each in self.config["runs"] if (each["pair"], each["recipe"], each["alignment"]) == key]
        return {**self.training, **(entries[0].get("training", {}) if entries else {})}

    def tasks(self, pair: str) -> list[str]:
        """What a pair is asked: the config's tasks of its benchmarks, or all of them if it names none."""
        listed = (self.pairs[pair]["benchmarks"] or "").split()
        return [task for task in self.config["benchmarks"] if not listed or self.data.benchmark_of[task] in listed]

    def baselines(self, pair: str) -> list[str]:
        """Methods without a fuser; a pair that is asked nothing with training questions has no trained router."""
        methods = self.config["baselines"]
        return [name for name in methods if name != "routing_trained" or self.router_tasks(pair)]

    @property
    def timed_pairs(self) -> list[str]:
        """Pairs that are asked the benchmark of the latency run."""
        latency = self.config["latency"]
        return [pair for pair in self.used_pairs if latency and latency["benchmark"] in self.tasks(pair)]

    @property
    def generation(self) -> Mapping[str, Any]:
        """Settings of generation."""
        return self.config["generation"]

    def router_tasks(self, pair: str) -> list[str]:
        """Tasks of a pair from whose training questions its router learns; it routes the others too."""
        known = self.data.with_training_questions
        return [task for task in self.tasks(pair) if self.data.benchmark_of[task] in known]

    def pretraining(self, model: str) -> Mapping[str, Any]:
        """Settings with which a model of the knowledge-gap world is made."""
        return {**self.config["world"]["pretraining"], **self.config["world"]["models"][model]}

    def prompts(self, pair: str) -> str:
        """How a pair is asked and trained: in ``plain`` text, or in ``chat`` templates."""
        return str(self.pairs[pair]["prompts"])

    def sharer_role(self, recipe: str) -> str:
        """Which model of a pair is the Sharer of a recipe: the pair's ``sharer``, or its ``receiver``."""
        return "receiver" if self.recipes[recipe]["sharer"] == "receiver" else "sharer"

    def tokenised(self, pair: str, recipe: str, alignment: str) -> str:
        """The folder of a training set's tokens, below ``data/tokenised``: the same for all recipes with a Sharer."""
        return f"{pair}{OWN_TOKENS if self.sharer_role(recipe) == 'receiver' else ''}/{alignment}"

    def latency_run(self, pair: str) -> Run:
        """The fuser whose latency stands for its pair: the first of recipe c2c."""
        return next(run for run in self.runs if (run.pair, run.recipe) == (pair, "c2c"))

    def latency_flags(self, pair: str) -> str:
        """Recipe, alignment and seed of that fuser, as flags."""
        run = self.latency_run(pair)
        return flags({"recipe": run.recipe, "alignment": run.alignment, "seed": run.seed})

    def memory_mb(self, pair: str, *, training: bool = False) -> int:
        """Memory that a job with both models of a pair asks for, in MB: fp32 weights and room to work.

        Training adds about 12 bytes a Fuser parameter, and the Fusers are about as large as the Receiver at most.
        """
        receiver, sharer = (self.models[self.pairs[pair][role]]["parameters_m"] for role in ("receiver", "sharer"))
        return int(2000 + 6 * (receiver + sharer) + (24 * receiver if training else 0))


def load_settings(config: Mapping[str, Any], root: Path = Path()) -> Settings:
    """Read the tables below `root` and check them and `config`, first alone, then against each other.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    check_config(config)
    settings = Settings(config, *(read_table(root / "config" / f"{name}.tsv") for name in TABLES))
    for run in config["runs"]:
        check_known("The pair of a run", run["pair"], settings.pairs, "Add it to config/pairs.tsv")
        check_known("The recipe of a run", run["recipe"], settings.recipes, "Add it to config/recipes.tsv")
    _check_runs(settings)
    _check_pairs(settings)
    _check_benchmarks(settings, root)
    _check_training(settings, root)
    _check_latency(settings)
    _check_router(settings)
    return settings


def flags(values: Mapping[str, Any]) -> str:
    """Command-line flags with one value each, quoted, in the mapping's order: ``--learning-rate 0.002``."""
    return " ".join(f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in values.items())


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _check_runs(settings: Settings) -> None:
    seen: set[Run] = set()
    for run in settings.runs:
        if run in seen:
            raise RefusedError(
                "Each fuser is listed once in runs", run.path, "Drop the second entry or change its seed"
            )
        seen.add(run)
    for run in settings.runs:
        if run.recipe == "adapter" and Run(run.pair, "c2c", run.alignment, run.seed) not in seen:
            rule = "Each adapter control has a c2c run of the same pair, alignment and seed to be compared with"
            raise RefusedError(rule, run.path, "Give both recipes the same seeds in runs")
    own: set[tuple[str, Run]] = set()
    for run in settings.runs:
        if settings.sharer_role(run.recipe) == "receiver" and run.pair in settings.pairs:
            key = (settings.pairs[run.pair]["receiver"], replace(run, pair=""))
            if key in own:
                rule = "A Receiver that is its own Sharer is trained in one of its pairs"
                raise RefusedError(rule, run.path, "Drop the run of the other pair, or this one")
            own.add(key)


def _check_pairs(settings: Settings) -> None:
    for pair in settings.used_pairs:
        row = settings.pairs[pair]
        for role in ("receiver", "sharer"):
            check_known(f"The {role} of pair {pair!r}", row[role], settings.models, "Add it to config/models.tsv")
        known = settings.training_sets
        check_known(
            f"The training set of pair {pair!r}", row["training_set"], known, "Add it to config/training_sets.tsv"
        )
    for model in settings.used_models:
        _check_source(settings, "models", model)
        if settings.models[model]["source"] == "world":
            made = settings.config["world"]["models"]
            check_known("A model of the knowledge-gap world", model, made, "Add it to world.models")


def _check_benchmarks(settings: Settings, root: Path) -> None:
    for task in check_benchmarks(settings.data, root):
        _check_source(settings, "benchmarks", settings.data.benchmark_of[task], "split", "reader")
    for pair in settings.used_pairs:
        for name in (settings.pairs[pair]["benchmarks"] or "").split():
            check_known(f"A benchmark of pair {pair!r}", name, settings.benchmarks, "Correct config/pairs.tsv")
        if not settings.tasks(pair):
            rule = f"Pair {pair!r} is asked at least one of the config's benchmarks"
            raise RefusedError(rule, settings.pairs[pair]["benchmarks"], "Add a task of theirs to benchmarks")


def _check_training(settings: Settings, root: Path) -> None:
    for run in settings.runs:
        training = settings.training_of(run.pair, run.recipe, run.alignment)
        for key in ("checkpoint_every", "evaluate_every"):
            if training[key] > training["steps"]:
                rule = f"training.{key} is at most training.steps ({training['steps']})"
                raise RefusedError(rule, training[key], "Lower it, so that it happens at least once")
        if training["micro_batch_size"] > training["batch_size"]:
            rule = f"training.micro_batch_size is at most training.batch_size ({training['batch_size']})"
            raise RefusedError(rule, training["micro_batch_size"], "Lower it; 0 runs the whole batch at once")
        if run.recipe == "adapter" and training != settings.training_of(run.pair, "c2c", run.alignment):
            rule = "An adapter is trained as the c2c that it is the control of"
            raise RefusedError(rule, run.path, "Give both entries of runs the same training")
    fuser = settings.config["fuser"]
    if fuser["final_temperature"] > fuser["initial_temperature"]:
        rule = f"fuser.final_temperature is at most fuser.initial_temperature ({fuser['initial_temperature']})"
        raise RefusedError(rule, fuser["final_temperature"], "Lower it; the gate's temperature falls in training")
    for name in settings.used_training_sets:
        for part in check_training_set(settings.data, name, root):
            _check_source(settings, "training_sets", part, "split", "reader")


def _check_latency(settings: Settings) -> None:
    latency = settings.config["latency"]
    if latency is None:
        asked = {"latency", "accuracy_latency"} & {
            *settings.config["artefacts"]["tables"],
            *settings.config["artefacts"]["figures"],
        }
        if asked:
            raise RefusedError(
                "Artefacts of times need latency", sorted(asked), "Drop them from artefacts, or fill latency"
            )
        return
    measured = settings.config["benchmarks"]
    check_known("latency.benchmark", latency["benchmark"], measured, f"Choose one of benchmarks: {', '.join(measured)}")
    for pair in settings.timed_pairs:
        if "c2c" in latency["methods"] and not any((r.pair, r.recipe) == (pair, "c2c") for r in settings.runs):
            rule = "Latency of c2c is measured with a fuser of recipe c2c of each pair"
            raise RefusedError(rule, pair, "Add a c2c run of this pair, or drop c2c from latency.methods")


def _check_router(settings: Settings) -> None:
    learned = [task for pair in settings.used_pairs for task in settings.router_tasks(pair)]
    if "routing_trained" in settings.config["baselines"] and not learned:
        rule = "routing_trained learns from a benchmark whose data set has a training split"
        known = ", ".join(settings.data.with_training_questions)
        raise RefusedError(rule, settings.config["benchmarks"], f"Add one of {known}, or drop routing_trained")


def _check_source(settings: Settings, table: str, name: str, *needed: str) -> None:
    row = getattr(settings, table)[name]
    if row["source"] == "world" and "world" not in settings.config:
        rule = "What comes from the knowledge-gap world needs the config key 'world'"
        raise RefusedError(rule, name, "Use --profile smoke, or add the key as config/smoke.yaml has it")
    for column in ("hub_id", "revision", *needed):
        if row["source"] == "hub" and row[column] is None:
            rule = f"A row of config/{table}.tsv with source hub fills {column!r}"
            raise RefusedError(rule, f"{name}: empty", "Fill the cell")
