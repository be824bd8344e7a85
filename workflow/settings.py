"""What a run of the workflow consists of: the config and its tables, checked together before any job starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from c2c.errors import RefusedError
from workflow.checks import check_artefacts, check_world
from workflow.validation import Row, Table, check_config, check_known, read_table

TABLES = ("models", "pairs", "recipes", "benchmarks", "training_sets")


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

    def from_source(self, table: str, source: str) -> list[str]:
        """Ids in a table whose ``source`` is ``world`` or ``hub``."""
        return [name for name, row in getattr(self, table).items() if row["source"] == source]

    @property
    def world(self) -> Mapping[str, Any]:
        """Settings of the knowledge-gap world without its models; empty where the scale has none."""
        world = self.config.get("world", {})
        return {key: world[key] for key in ("entities", "attributes", "values", "seed") if key in world}

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings of the fuser and its training."""
        return {**self.config["fuser"], **_without(self.config["training"], "retries")}

    @property
    def generation(self) -> Mapping[str, Any]:
        """Settings of generation; a limit of 0 is none."""
        return {**self.config["generation"], "limit": self.config["generation"]["limit"] or 0}

    def pretraining(self, model: str) -> Mapping[str, Any]:
        """Settings with which a model of the knowledge-gap world is made."""
        return {**self.config["world"]["pretraining"], **self.config["world"]["models"][model]}

    def dataset(self, table: str, name: str) -> Mapping[str, Any]:
        """Where a benchmark or training set comes from: id, revision, subset, split, and limits where it has them."""
        row = getattr(self, table)[name]
        columns = {"hub_id": "dataset"} | {c: c for c in ("revision", "subset", "split", "limit", "validation")}
        return {flag: row[column] for column, flag in columns.items() if row.get(column) is not None}

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
    check_world(config)
    check_artefacts(config)
    settings = Settings(config, *(read_table(root / "config" / f"{name}.tsv") for name in TABLES))
    for run in config["runs"]:
        check_known("The pair of a run", run["pair"], settings.pairs, "Add it to config/pairs.tsv")
        check_known("The recipe of a run", run["recipe"], settings.recipes, "Add it to config/recipes.tsv")
    _check_runs(settings)
    _check_pairs(settings)
    _check_benchmarks(settings, root)
    _check_training(settings, root)
    _check_latency(settings)
    return settings


def flags(values: Mapping[str, Any]) -> str:
    """Command-line flags with one value each, in the mapping's order: ``--learning-rate 0.002``."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())


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
    for benchmark in settings.config["benchmarks"]:
        check_known("A benchmark", benchmark, settings.benchmarks, "Add it to config/benchmarks.tsv")
        _check_source(settings, "benchmarks", benchmark, "split")
        _check_template(root / "benchmarks" / "tasks" / f"{benchmark}.yaml", f"Benchmark {benchmark!r}")


def _check_training(settings: Settings, root: Path) -> None:
    training = settings.config["training"]
    for key in ("checkpoint_every", "evaluate_every"):
        if training[key] > training["steps"]:
            rule = f"training.{key} is at most training.steps ({training['steps']})"
            raise RefusedError(rule, training[key], "Lower it, so that it happens at least once")
    if training["micro_batch_size"] > training["batch_size"]:
        rule = f"training.micro_batch_size is at most training.batch_size ({training['batch_size']})"
        raise RefusedError(rule, training["micro_batch_size"], "Lower it; 0 runs the whole batch at once")
    fuser = settings.config["fuser"]
    if fuser["final_temperature"] > fuser["initial_temperature"]:
        rule = f"fuser.final_temperature is at most fuser.initial_temperature ({fuser['initial_temperature']})"
        raise RefusedError(rule, fuser["final_temperature"], "Lower it; the gate's temperature falls in training")
    for name in settings.used_training_sets:
        _check_source(settings, "training_sets", name, "split", "template", "validation")
        row: Row = settings.training_sets[name]
        if row["source"] == "hub":
            _check_template(root / row["template"], f"Training set {name!r}")
            if row["limit"] is not None and row["limit"] <= row["validation"]:
                rule = f"Training set {name!r} keeps examples beside its {row['validation']} for validation"
                raise RefusedError(rule, row["limit"], "Raise limit or lower validation in config/training_sets.tsv")


def _check_latency(settings: Settings) -> None:
    latency = settings.config["latency"]
    measured = settings.config["benchmarks"]
    check_known("latency.benchmark", latency["benchmark"], measured, f"Choose one of benchmarks: {', '.join(measured)}")
    for pair in settings.used_pairs:
        if "c2c" in latency["methods"] and not any((r.pair, r.recipe) == (pair, "c2c") for r in settings.runs):
            rule = "Latency of c2c is measured with a fuser of recipe c2c of each pair"
            raise RefusedError(rule, pair, "Add a c2c run of this pair, or drop c2c from latency.methods")


def _check_source(settings: Settings, table: str, name: str, *needed: str) -> None:
    row = getattr(settings, table)[name]
    if row["source"] == "world" and "world" not in settings.config:
        rule = "What comes from the knowledge-gap world needs the config key 'world'"
        raise RefusedError(rule, name, "Use --profile smoke, or add the key as config/smoke.yaml has it")
    for column in ("hub_id", "revision", *needed):
        if row["source"] == "hub" and row[column] is None:
            rule = f"A row of config/{table}.tsv with source hub fills {column!r}"
            raise RefusedError(rule, f"{name}: empty", "Fill the cell")


def _check_template(path: Path, owner: str) -> None:
    if not path.is_file():
        raise RefusedError(f"{owner} has its prompts in a file", str(path), "Write it, or correct the table")
    if missing := {"doc_to_text", "doc_to_target"} - set(yaml.safe_load(path.read_text()) or {}):
        raise RefusedError(f"{path} names doc_to_text and doc_to_target", f"without {sorted(missing)}", "Add them")
