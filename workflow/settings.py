"""The config of a scale and its tables as typed values; `workflow.load` reads and checks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from c2c.training import memory
from paper.reading.alignments import main_alignment
from workflow.config import LIVE, STORED, TOGETHER, WORKFLOW_KEYS, training_defaults
from workflow.data import Data
from workflow.revisions import asked_revision
from workflow.validation import Table

OWN_TOKENS = ".receiver"
"""Behind a pair's id where its Receiver is the Sharer too."""


WORLD_HEADS = 4
"""Of the knowledge-gap world's models."""


def sizes_of(row: Mapping[str, Any], world: Mapping[str, Any]) -> memory.Sizes:
    """Sizes of a row of ``config/models.tsv``; a model of the knowledge-gap world has its sizes in `world`."""
    parameters = 1e6 * row["parameters_m"]
    if row["source"] == "world":
        hidden = world["hidden"]
        return memory.Sizes(parameters, world["layers"], hidden, WORLD_HEADS, hidden // WORLD_HEADS)
    return memory.Sizes(parameters, *(row[name] for name in ("layers", "hidden", "kv_heads", "head_dim")))


@dataclass(frozen=True)
class FuserTraining:
    """One training of a pair's Fusers: its path below ``fusers/`` and, with ``.parquet``, below ``records/``."""

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
    groups: Table
    released: Table

    def seeds(self, entry: Mapping[str, Any]) -> list[int]:
        """Seeds of an entry of the config, in a lean run the first alone."""
        return list(entry["seeds"][:1] if self.config.get("lean") else entry["seeds"])

    @cached_property
    def runs(self) -> list[FuserTraining]:
        """All fusers of this scale, in the config's order."""
        return [
            FuserTraining(entry["pair"], entry["recipe"], entry["alignment"], seed)
            for entry in self.config["runs"]
            for seed in self.seeds(entry)
        ]

    @cached_property
    def main_runs(self) -> list[FuserTraining]:
        """Fusers that are not aside: only they are timed, and drawn in the figures of training and gates."""
        aside = {
            (entry["pair"], entry["recipe"], entry["alignment"]) for entry in self.config["runs"] if entry.get("aside")
        }
        return [run for run in self.runs if (run.pair, run.recipe, run.alignment) not in aside]

    @cached_property
    def used_pairs(self) -> list[str]:
        """Pairs that have a run or released fusers, each once, in order."""
        published = (self.released[name]["pair"] for name in self.config.get("released", []))
        return list(dict.fromkeys([*(run.pair for run in self.runs), *published]))

    @property
    def used_training_sets(self) -> list[str]:
        """Training sets of the pairs that have a run, each once, in order."""
        return list(dict.fromkeys(self.pairs[run.pair]["training_set"] for run in self.runs))

    @property
    def teachers(self) -> dict[str, str]:
        """The teacher model of each training set that has one."""
        rows = {name: self.training_sets[name] for name in self.used_training_sets}
        return {name: row["teacher"] for name, row in rows.items() if row["source"] == "teacher"}

    @property
    def used_models(self) -> list[str]:
        """Models of the used pairs, and teachers of their training sets, each once, in order."""
        paired = [self.pairs[pair][role] for pair, role in product(self.used_pairs, ("receiver", "sharer"))]
        return list(dict.fromkeys([*paired, *self.teachers.values()]))

    @cached_property
    def data(self) -> Data:
        """Benchmarks and training sets of this scale."""
        return Data(self.config, self.benchmarks, self.training_sets)

    def from_source(self, table: str, *sources: str) -> list[str]:
        """Ids in a table whose ``source`` is one of `sources`: ``world``, ``hub``, ``mix``, ``gap`` or ``teacher``."""
        return [name for name, row in getattr(self, table).items() if row["source"] in sources]

    @property
    def world(self) -> Mapping[str, Any]:
        """Settings of the knowledge-gap world without its models; empty where the scale has none."""
        world = self.config.get("world", {})
        return {key: world[key] for key in ("entities", "attributes", "values", "seed") if key in world}

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings of the fuser and its training, where a run has none of its own."""
        blocks = {**training_defaults(), **self.config["fuser"], **_without(self.config["training"], *WORKFLOW_KEYS)}
        return {**blocks, "dtype": self.config["dtype"]}

    def training_of(self, pair: str, recipe: str, alignment: str) -> Mapping[str, Any]:
        """Settings of one fuser and its training; those of its entry in ``runs`` replace the scale's."""
        return {**self.training, **_without(self._own_training(pair, recipe, alignment), *WORKFLOW_KEYS)}

    def _own_training(self, pair: str, recipe: str, alignment: str) -> Mapping[str, Any]:
        """What an entry of ``runs`` has under ``training``."""
        key = (pair, recipe, alignment)
        entries = [
            entry for entry in self.config["runs"] if (entry["pair"], entry["recipe"], entry["alignment"]) == key
        ]
        return entries[0].get("training", {}) if entries else {}

    def frozen(self, pair: str, recipe: str, alignment: str) -> str:
        """When the frozen models of a training run: ``live``, ``stored`` or ``together``."""
        default = self.config["training"].get("frozen", LIVE)
        return str(self._own_training(pair, recipe, alignment).get("frozen", default))

    def states(self, pair: str, recipe: str, alignment: str) -> str:
        """The folder of a training's stored states, below ``states``; empty where none are stored.

        Its last part is the layer alignment, by which the Sharer's layers are chosen.
        """
        if self.frozen(pair, recipe, alignment) != STORED:
            return ""
        layers = self.training_of(pair, recipe, alignment)["layer_alignment"]
        return f"{self.tokenised(pair, recipe, alignment)}/{layers}"

    @property
    def states_folders(self) -> list[str]:
        """The folders of stored states below ``states``, each once."""
        folders = (self.states(run.pair, run.recipe, run.alignment) for run in self.runs)
        return list(dict.fromkeys(filter(None, folders)))

    @property
    def trained_together(self) -> dict[str, list[FuserTraining]]:
        """The trainings of each job that trains several, by its tokenised training set."""
        jobs: dict[str, list[FuserTraining]] = {}
        for run in self.runs:
            if self.frozen(run.pair, run.recipe, run.alignment) == TOGETHER:
                jobs.setdefault(self.tokenised(run.pair, run.recipe, run.alignment), []).append(run)
        return jobs

    @property
    def trained_alone(self) -> list[FuserTraining]:
        """The trainings that are jobs of their own."""
        return [run for run in self.runs if self.frozen(run.pair, run.recipe, run.alignment) != TOGETHER]

    @property
    def processes(self) -> Mapping[str, Any]:
        """The flag of a training on several GPUs: a process for each; empty for one process."""
        gpus = self.config["gpus_per_job"]
        return {"processes": gpus} if gpus > 1 else {}

    def tasks(self, pair: str) -> list[str]:
        """Tasks that a pair answers: those of the config of its benchmarks, or all of them if its row names none."""
        names = (self.pairs[pair]["benchmarks"] or "").split()
        return [task for task in self.config["benchmarks"] if not names or self.data.benchmark_of[task] in names]

    def baselines(self, pair: str) -> list[str]:
        """Methods without a fuser; a pair without a task that has training questions has no trained router."""
        methods = self.config["baselines"]
        return [name for name in methods if name != "routing_trained" or self.router_tasks(pair)]

    @cached_property
    def timed_pairs(self) -> list[str]:
        """Pairs that are timed: with a run that is not aside, and a timed task; the first of the same models."""
        main = {run.pair for run in self.main_runs}
        pairs = [pair for pair in self.used_pairs if pair in main and self.timed_tasks(pair)]
        models = {pair: (self.pairs[pair]["receiver"], self.pairs[pair]["sharer"]) for pair in reversed(pairs)}
        first_pairs = {ids: pair for pair, ids in models.items()}
        return [pair for pair in pairs if first_pairs[models[pair]] == pair]

    def timed_tasks(self, pair: str) -> list[str]:
        """Tasks on which a pair is timed: those of the config that it answers."""
        tasks = self.tasks(pair)
        return [task for task in (self.config["latency"] or {}).get("benchmarks", []) if task in tasks]

    @cached_property
    def timed_fusers(self) -> dict[str, FuserTraining]:
        """The fusers that are timed, by the path of their measurement: of each timed pair the first of recipe c2c.

        With it are timed all methods of the config. The first of each further recipe that the config names is timed
        alone, in the folder of its pair.
        """
        recipes = (self.config["latency"] or {}).get("recipes", [])
        timed = {}
        for pair in self.timed_pairs:
            timed[pair] = self.latency_run(pair)
            for recipe in recipes:
                if run := next((run for run in self.main_runs if (run.pair, run.recipe) == (pair, recipe)), None):
                    timed[f"{pair}/{recipe}"] = run
        return timed

    def timed_methods(self, run: FuserTraining) -> list[str]:
        """Methods that are timed with some fusers: all of the config with those of recipe c2c, else theirs alone."""
        return list(self.config["latency"]["methods"]) if run.recipe == "c2c" else ["c2c"]

    @property
    def generation(self) -> Mapping[str, Any]:
        """Settings of generation that every command takes in which a model answers."""
        return {**_without(self.config["generation"], "compile"), "dtype": self.config["dtype"]}

    @property
    def answering(self) -> Mapping[str, Any]:
        """Settings of generation that ``c2c generate`` takes."""
        # Its own default is no flag, so that answers of an earlier version are kept.
        stage = self.config["generation"].get("compile", "none")
        return {**self.generation, **({} if stage == "none" else {"compile": stage})}

    @property
    def latency(self) -> Mapping[str, Any]:
        """Settings of the latency run, where there is one."""
        return {
            **{key: self.config["latency"][key] for key in ("questions", "repeats", "threads")},
            "dtype": self.config["dtype"],
        }

    def router_tasks(self, pair: str) -> list[str]:
        """Tasks of a pair from whose training questions its router learns; it routes the others too."""
        benchmarks = self.data.with_training_questions
        return [task for task in self.tasks(pair) if self.data.benchmark_of[task] in benchmarks]

    def pretraining(self, model: str) -> Mapping[str, Any]:
        """Settings with which a model of the knowledge-gap world is made."""
        return {**self.config["world"]["pretraining"], **self.config["world"]["models"][model]}

    def fetched_model(self, model: str) -> Mapping[str, str]:
        """Hub id and revision of a model, as flags of ``c2c fetch``."""
        row = self.models[model]
        return {"model": row["hub_id"], "revision": asked_revision(row, self.config)}

    def prompts(self, pair: str) -> str:
        """The form of a pair's prompts, in answering and training: ``plain`` text, or ``chat`` templates."""
        return str(self.pairs[pair]["prompts"])

    def sharer_role(self, recipe: str) -> str:
        """Which model of a pair is the Sharer of a recipe: the pair's ``sharer``, or its ``receiver``."""
        return "receiver" if self.recipes[recipe]["sharer"] == "receiver" else "sharer"

    def tokenised(self, pair: str, recipe: str, alignment: str) -> str:
        """The folder of a training set's tokens, below ``data/tokenised``: the same for all recipes with a Sharer.

        Its last part is the greatest length of an example, which a run may have for itself.
        """
        length = self.training_of(pair, recipe, alignment)["max_length"]
        return f"{pair}{OWN_TOKENS if self.sharer_role(recipe) == 'receiver' else ''}/{alignment}/{length}"

    def latency_run(self, pair: str) -> FuserTraining:
        """The fuser that is timed for a pair: the first of recipe c2c with the pair's main alignment."""
        runs = [run for run in self.runs if (run.pair, run.recipe) == (pair, "c2c")]
        main = main_alignment(pair, [run.alignment for run in runs])
        return next(run for run in runs if run.alignment == main)

    def sizes(self, model: str) -> memory.Sizes:
        """Sizes of a model."""
        row = self.models[model]
        return sizes_of(row, self.pretraining(model) if row["source"] == "world" else {})

    def pair_sizes(self, pair: str, sharer_role: str = "sharer") -> tuple[memory.Sizes, memory.Sizes]:
        """Sizes of a pair's Sharer and Receiver; `sharer_role` says which of its models is the Sharer."""
        return self.sizes(self.pairs[pair][sharer_role]), self.sizes(self.pairs[pair]["receiver"])

    def fuser_parameters(self, run: FuserTraining) -> int:
        """Parameters of the Fusers of a training."""
        sharer, receiver = self.pair_sizes(run.pair, self.sharer_role(run.recipe))
        training = self.training_of(run.pair, run.recipe, run.alignment)
        projected = self.recipes[run.recipe]["variant"] == "projected"
        return memory.fuser_parameters(sharer, receiver, training, projected=projected)

    def answering_mb(self, pair: str) -> int:
        """Memory that a job asks for in which both models of a pair answer, in MB."""
        sharer, receiver = self.pair_sizes(pair)
        budget = memory.cached_tokens(self.config["generation"])
        return memory.answering_mb(sharer, receiver, self.training, budget, self.config["gpus_per_job"])

    def training_mb(self, pair: str, recipe: str, alignment: str) -> int:
        """Memory that the training of a fuser asks for, in MB."""
        sharer, receiver = self.pair_sizes(pair, self.sharer_role(recipe))
        training, projected = self.training_of(pair, recipe, alignment), self.recipes[recipe]["variant"] == "projected"
        stored = self.frozen(pair, recipe, alignment) == STORED
        return memory.training_mb(sharer, receiver, training, projected=projected, stored=stored)

    def together_mb(self, runs: Sequence[FuserTraining]) -> int:
        """Memory that a job asks for which trains several fusers, in MB: all of them, and a step's frozen states."""
        largest = max(self.training_mb(run.pair, run.recipe, run.alignment) for run in runs)
        learned = sum(memory.LEARNED * self.fuser_parameters(run) for run in runs[1:])
        return largest + int(learned / 1e6) + memory.MEMO_MB

    def storing_mb(self, folder: str) -> int:
        """Memory that a job asks for which stores states, in MB: a model, a batch of its states and a full shard."""
        name = folder.partition("/")[0]
        pair, role = name.removesuffix(OWN_TOKENS), "receiver" if name.endswith(OWN_TOKENS) else "sharer"
        models = self.pair_sizes(pair, role)
        return max(memory.alone_mb(model, self.config["dtype"], memory.STORED_TOKENS) for model in models)

    def single_mb(self, pair: str, alignment: str) -> int:
        """Memory that the training of a Receiver itself asks for, in MB."""
        return memory.single_mb(self.sizes(self.pairs[pair]["receiver"]), self.training_of(pair, "c2c", alignment))

    def teacher_mb(self, training_set: str) -> int:
        """Memory of a job in which a teacher answers questions, in MB."""
        sizes, budget = self.sizes(self.teachers[training_set]), self.config["generation"]["token_budget"]
        return memory.alone_mb(sizes, self.config["dtype"], budget)


def flags(values: Mapping[str, Any]) -> list[str]:
    """Command-line flags with one value each, as words, in the mapping's order: ``--learning-rate``, ``0.002``.

    A list is one value, with commas between: ``--keep-steps``, ``50,100``; an empty list has no flag, because Snakemake
    drops empty words. Words hold any text: each rule's command quotes them (``{params.settings:q}``).
    """
    filled = {name: value for name, value in values.items() if value != []}
    return [word for name, value in filled.items() for word in (f"--{name.replace('_', '-')}", _text(value))]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}
