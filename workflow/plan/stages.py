"""Stages of a run: one row a stage, with its jobs, files, memory and hours. Everything about cost is derived from here.

Hours come from jobs of the same scale that were timed (``config/timings.csv``). For stages without timings they are
estimated: operations are counted from model sizes and tokens (`c2c.training.operations`), and divided by the speed of
a GPU (`workflow.plan.devices`). Imports no torch.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_text
from c2c.training.memory import BYTES, HALVES, fuser_parameters
from c2c.training.operations import FORWARD, TRAINED, ExampleOperations, example_operations
from workflow.config import LIVE
from workflow.kinds import (
    agents,
    analysis,
    groups,
    latent,
    pairs,
    released,
    released_prompts,
    router,
    same_answer,
    single,
    steps,
    testbed,
)
from workflow.kinds.jobs import AnswerJob
from workflow.kinds.registry import answer_jobs, tokenised_folders
from workflow.paths import ROOT
from workflow.plan.devices import Measurement, Speed, read_devices, speed_of
from workflow.settings import OWN_TOKENS, FuserTraining, Settings
from workflow.validation import Table, read_rows, read_table

if TYPE_CHECKING:
    from paper.reading.reference import Reference

# Estimates -----------------------------------------------------------------------------------------------------------

SIZES = Path("config/sizes.tsv")
PAPER_BATCH = 256
"""Examples a step of the paper's training on OpenHermes."""
PAPER_PAIR = "qwen3_from_qwen25"
"""The pair of ours whose training is the first of Table 12."""


@dataclass(frozen=True)
class Estimator:
    """Operations, hours and disk of single jobs that were never timed, from the rows of ``config/sizes.tsv``.

    A `KeyError` means that the size of some data is unknown. The numbers below are assumed, and printed with the plan.

    Args:
        devices: Rows of ``config/devices.csv``.
        device: The one that the plan is for; empty for that of `measurement`, or the paper's.
        measurement: A timed training step, whose speed is taken in place of the paper's.
        message_tokens: Tokens of a T2T message (the paper's limit).
        lines_per_second: Training examples that one core tokenises and aligns.
        seconds_per_token: Time of one decoded token where one question is asked at a time.
        kilobytes_per_record: Size of one record.
    """

    settings: Settings
    reference: Reference
    sizes: Table
    devices: Table
    device: str = ""
    measurement: Measurement | None = None
    message_tokens: int = 256
    lines_per_second: float = 200.0
    seconds_per_token: float = 0.03
    kilobytes_per_record: float = 0.5

    @classmethod
    def of(
        cls, settings: Settings, root: Path = ROOT, device: str = "", measurement: Measurement | None = None
    ) -> Estimator:
        """An estimator of a scale, with the sizes and devices below `root`."""
        # It brings pandas, which a dry run does without.
        from paper.reading.reference import Reference

        return cls(settings, Reference(), read_table(root / SIZES), read_devices(root), device, measurement)

    def operations(self, name: str) -> float | None:
        """Operations of all jobs of a stage; None where it is timed otherwise, or they cannot be estimated."""
        return self._total(name, STAGES[name].operations)

    def job_hours(self, name: str) -> list[float] | None:
        """Hours of each job of a stage; None where they cannot be estimated."""
        stage, items = STAGES[name], self._items(name)
        try:
            if stage.operations:
                hours = [self.hours_of(stage.operations(self, item)) for item in items]
            elif stage.hours:
                hours = [stage.hours(self, item) for item in items]
            else:
                return None
        except KeyError:
            return None
        return [number / stage.parts for number in hours for _ in range(stage.parts)]

    def hours(self, name: str) -> float | None:
        """Hours of all jobs of a stage; None where they cannot be estimated."""
        return None if (hours := self.job_hours(name)) is None else sum(hours)

    def disk_gb(self, name: str) -> float | None:
        """Gigabytes that all jobs of a stage write; None where they cannot be estimated."""
        return self._total(name, STAGES[name].disk_gb)

    def _total(self, name: str, of_item: Callable[[Estimator, Any], float] | None) -> float | None:
        try:
            return sum(of_item(self, item) for item in self._items(name)) if of_item else None
        except KeyError:
            return None

    def _items(self, name: str) -> Sequence[Any]:
        if name not in self._items_by_stage:
            self._items_by_stage[name] = STAGES[name].items(self.settings)
        return self._items_by_stage[name]

    @cached_property
    def _items_by_stage(self) -> dict[str, Sequence[Any]]:
        return {}

    def paper_hours(self, pair: str, sharer_role: str = "sharer") -> dict[int, float]:
        """GPU hours that the paper's training of a pair took up to some steps, by step (Table 12)."""
        row, models = self.settings.pairs[pair], self.settings.models
        receiver, sharer = (models[row[role]]["hub_id"] or "" for role in ("receiver", sharer_role))
        rows = self.reference.of_pair("Table 12", "GPU hours", pair, (receiver, sharer))
        return {int(row["panel"].removeprefix("step ")): float(row["value"]) for row in rows}

    @cached_property
    def speed(self) -> Speed:
        """Speed of the device that the plan is for."""
        return speed_of(self.device, self.devices, self.paper_tflops(), self.measurement)

    def hours_of(self, operations: float) -> float:
        """Hours in which one GPU does so many operations."""
        return operations / (3600e12 * self.speed.tflops)

    def paper_tflops(self) -> float:
        """TFLOP/s of a GPU in the paper's training of its first pair, by the same count of operations.

        Raises:
            RefusedError: Its hours are not among the paper's values.
        """
        steps, hours = max(self.paper_hours(PAPER_PAIR).items(), default=(0, 0.0))
        if not steps:
            raise RefusedError("Table 12 must have the hours of the paper's first pair", "no row", "Restore its values")
        example = self.example_operations(PAPER_PAIR, self.fusers(PAPER_PAIR), "openhermes")
        return steps * PAPER_BATCH * example.total / (3600e12 * hours)

    def example_operations(
        self,
        pair: str,
        fusers: int,
        training_set: str,
        sharer_role: str = "sharer",
        *,
        zeroed: bool = False,
        **counted: bool,
    ) -> ExampleOperations:
        """Operations of a training example of the mean length.

        Args:
            pair: The models.
            fusers: Weights of the Fusers, or of an encoder and a decoder.
            training_set: The set whose mean lengths count.
            sharer_role: Which model of the pair is the Sharer.
            zeroed: Whether the Sharer's cache is zeros, so that it does not run.
            **counted: Further arguments of `c2c.training.operations.example_operations`.
        """
        receiver, sharer = self.weights(pair, sharer_role)
        row = self.sizes[training_set]
        return example_operations(
            row["prompt_tokens"], row["answer_tokens"], receiver, 0 if zeroed else sharer, fusers, **counted
        )

    def weights(self, pair: str, sharer_role: str = "sharer") -> tuple[float, float]:
        """Parameters of Receiver and Sharer."""
        sharer, receiver = self.settings.pair_sizes(pair, sharer_role)
        return receiver.parameters, sharer.parameters

    def fusers(self, pair: str) -> int:
        """Parameters of a pair's Fusers in the reference's form."""
        return fuser_parameters(*self.settings.pair_sizes(pair), self.settings.training)

    def example_tokens(self, training_set: str) -> int:
        """Tokens of a training example."""
        return int(self.sizes[training_set]["prompt_tokens"] + self.sizes[training_set]["answer_tokens"])

    def training_example(self, run: FuserTraining) -> ExampleOperations:
        """Operations of an example of a training of Fusers."""
        settings = self.settings
        training = settings.training_of(run.pair, run.recipe, run.alignment)
        return self.example_operations(
            run.pair,
            settings.fuser_parameters(run),
            settings.pairs[run.pair]["training_set"],
            settings.sharer_role(run.recipe),
            zeroed=settings.recipes[run.recipe]["sharer_cache"] == "zeroed",
            recomputed=training["recompute"] == "fusers",
        )

    def trained_examples(self, run: FuserTraining) -> int:
        """Examples that a training sees, over all of its steps."""
        training = self.settings.training_of(run.pair, run.recipe, run.alignment)
        return int(training["steps"] * training["batch_size"])

    def training(self, run: FuserTraining) -> float:
        """Operations of one training of Fusers, without what it shares with others."""
        example = self.training_example(run)
        live = self.settings.frozen(run.pair, run.recipe, run.alignment) == LIVE
        return self.trained_examples(run) * (example.total if live else example.learning)

    def together(self, runs: Sequence[FuserTraining]) -> float:
        """Operations of a job that trains several Fusers: the frozen models read each batch once."""
        # The Sharer runs where any of them reads it.
        reading = max(self.trained_examples(run) * self.training_example(run).reading for run in runs)
        return reading + sum(self.training(run) for run in runs)

    def storing(self, folder: str) -> float:
        """Operations of storing what both models compute of a training set's prompts."""
        tokens, pair, sharer_role = self._prompts_of(folder)
        return FORWARD * sum(self.weights(pair, sharer_role)) * tokens

    def states_gb(self, folder: str) -> float:
        """Size of the stored states of a training set: of each prompt token the layers that Fusers read."""
        tokens, pair, sharer_role = self._prompts_of(folder)
        sharer, receiver = self.settings.pair_sizes(pair, sharer_role)
        numbers = receiver.cached + HALVES * min(sharer.layers, receiver.layers) * sharer.kv_width
        return tokens * numbers * BYTES[self.settings.config["dtype"]] / 1e9

    def _prompts_of(self, folder: str) -> tuple[float, str, str]:
        """Tokens of all prompts of a set, its pair, and which model is the Sharer."""
        name = folder.partition("/")[0]
        pair = name.removesuffix(OWN_TOKENS)
        row = self.sizes[self.settings.pairs[pair]["training_set"]]
        return float(row["lines"] * row["prompt_tokens"]), pair, "sharer" if name == pair else "receiver"

    def latent_training(self, run: latent.LatentSpaceTraining) -> float:
        """Operations of training a latent space: each example passes one pair's models, its encoder and its decoder."""
        settings, operations = self.settings, 0.0
        training, members = latent.latent_training(settings, run.latent), latent.latent_pairs(settings, run.latent)
        for pair in members:
            parameters = latent.latent_parameters(settings, run.latent, pair)
            example = self.example_operations(
                pair,
                parameters,
                settings.pairs[pair]["training_set"],
                recomputed=training["recompute"] == "fusers",
            )
            operations += example.total * training["steps"] * training["batch_size"] / len(members)
        return operations

    def single_training(self, run: single.SingleTraining) -> float:
        """Operations of fine-tuning a Receiver, which learns through prompt and answer."""
        training = self.settings.training_of(run.pair, "c2c", run.alignment)
        examples = training["steps"] * training["batch_size"]
        tokens = examples * self.example_tokens(self.settings.pairs[run.pair]["training_set"])
        return float(TRAINED * self.weights(run.pair)[0] * tokens)

    def tokenising(self, folder: str) -> float:
        """Hours of tokenising the two parts of a training set for a pair."""
        pair = folder.partition("/")[0].removesuffix(OWN_TOKENS)
        lines = self.sizes[self.settings.pairs[pair]["training_set"]]["lines"]
        return float(lines / self.lines_per_second / 3600)

    def teaching(self, training_set: str) -> float:
        """Operations in which a teacher answers the questions of a training set."""
        weights = 1e6 * self.settings.models[self.settings.teachers[training_set]]["parameters_m"]
        tokens = self.sizes[training_set]["lines"] * self.example_tokens(training_set)
        return float(tokens * FORWARD * weights)

    def questions(self, tasks: Iterable[str], most: int | None = None) -> list[dict[str, int]]:
        """Sizes of tasks: `lines` questions, at most the scale's `sample` and `most`, and the tokens of one."""
        limits = [limit for limit in (self.settings.config["sample"], most) if limit]
        rows = [self.sizes[self.settings.data.benchmark_of[task]] for task in tasks]
        return [{**row, "lines": min([row["lines"], *limits])} for row in rows]

    def answering(self, job: AnswerJob) -> float:
        """Operations of a job that answers."""
        return sum(
            row["lines"] * FORWARD * sum(self._weights_read(method, job.pairs, row) for method in job.methods)
            for row in self.questions(job.tasks, job.most_questions)
        )

    def _weights_read(self, method: str, members: Sequence[str], row: Mapping[str, int]) -> float:
        """Weights times tokens of one answer: what each model and its Fusers read of a question of some length."""
        receiver, sharer = self.weights(members[0])
        prompt, answer, message = row["prompt_tokens"], row["answer_tokens"], self.message_tokens
        sharers = sum(self.weights(pair)[1] + self.fusers(pair) for pair in members)
        solver = (prompt + message + answer) * receiver
        needs = DECLARATIONS[method]
        if needs.fusers and not needs.agents:
            return prompt * (receiver + sharers) + answer * receiver
        # The interpreter's message is written once, for the first method of two agents, and read by all of them.
        if needs.fusers:
            return (prompt + message) * sharers + solver
        if method in ("t2t", "t2t_agents"):
            return sharer * (prompt + message) + solver
        return {"receiver": receiver, "sharer": sharer}.get(method, 0.0) * (prompt + answer)

    def records_gb(self, job: AnswerJob) -> float:
        """Size of the records of a job that answers."""
        records = len(job.methods) * sum(row["lines"] for row in self.questions(job.tasks, job.most_questions))
        return records * self.kilobytes_per_record / 1e6

    def latency(self, run: FuserTraining) -> float:
        """Hours of timing a pair with some of its fusers."""
        settings, latency = self.settings, self.settings.config["latency"]
        answers = [row["answer_tokens"] for row in self.questions(settings.timed_tasks(run.pair))]
        # Routing has the Sharer's answer for half of the questions, after the Receiver's.
        further = {"t2t": lambda answer: self.message_tokens, "routing": lambda answer: answer / 2}
        tokens = sum(
            answer + further.get(method, lambda answer: 0)(answer)
            for answer in answers
            for method in settings.timed_methods(run)
        )
        return float(latency["questions"] * latency["repeats"] * tokens * self.seconds_per_token / 3600)

    def analysing(self, kind: str) -> float:
        """Operations of an analysis."""
        entry = analysis.kinds(self.settings.config)[kind]
        (row,) = self.questions([entry["benchmark"]], entry["questions"])
        prompt, answer, lines = row["prompt_tokens"], row["answer_tokens"], row["lines"]
        receiver, sharer = self.weights(entry["pair"])
        fused_weights = receiver + sharer + self.fusers(entry["pair"])
        if kind == "effective_rank":
            # Each question is read with its own and with another Sharer cache.
            weights = 2 * lines * prompt * fused_weights
        elif kind == "enrichment":
            # One model reads examples and question for direct, few-shot and oracle, for each layer, and for each K of
            # the best and the worst layers, which are chosen on the same and on the other questions.
            model = self.settings.sizes(self.settings.pairs[entry["pair"]][entry["role"]])
            readings = 3 + model.layers + 4 * min(entry["most"], model.layers)
            weights = readings * lines * ((entry["shots"] + 1) * prompt + answer) * model.parameters
        elif kind == "tsne":
            # The questions that are drawn, and those that the transformation learns from.
            weights = (lines + entry["training_questions"]) * prompt * fused_weights
        else:
            # An answer and its control, for each share of the prompt, fused at either end.
            weights = 2 * 2 * len(entry["shares"]) * lines * (prompt * fused_weights + answer * receiver)
        return float(FORWARD * weights)

    def checkpoint_gb(self) -> float:
        """Room for the states of all trainings: weights and both moments of AdamW, of two steps and of one more."""
        return sum(3 * 12 * self.settings.fuser_parameters(run) for run in self.settings.runs) / 1e9

    def assumptions(self) -> list[str]:
        """What the estimates assume, as phrases."""
        speed = self.speed
        remark = "" if speed.measured else "; no training step was timed here"
        return [
            f"{speed.tflops:.1f} TFLOP/s on one {speed.device.upper()}, {100 * speed.share:.1f} % of its peak of "
            f"{speed.peak:.0f},\n    {speed.basis}{remark}",
            f"numbers and lengths of questions and examples as in {SIZES}",
            f"messages of {self.message_tokens} tokens",
            f"{self.lines_per_second:.0f} examples a second to tokenise, on one core",
            f"{self.seconds_per_token} s a token where answers are timed one by one",
            "memory at the longest example and the fullest batch (c2c/training/memory.py); a training holds less\n"
            "    with a smaller micro_batch_size, or with recompute: fusers",
        ]

    def data_download_gb(self) -> float:
        """Size of the data that are fetched."""
        settings = self.settings
        sets = [part for name in settings.used_training_sets for part in settings.data.parts(name)]
        benchmarks = [settings.data.benchmark_of[task] for task in settings.config["benchmarks"]]
        hub = {*settings.from_source("training_sets", "hub"), *settings.from_source("benchmarks", "hub")}
        names = {*sets, *benchmarks} & hub
        return sum(self.sizes[name]["download_mb"] for name in names if name in self.sizes) / 1000


# The table of stages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """The jobs of one rule, or of one kind of answers, that take time.

    Args:
        name: Its name, which is that of its rule unless the rule runs several stages.
        items: The items of a scale, each of which is a job, or `parts` jobs.
        files: Files that a job writes, below the results folder, by the place of its benchmark file.
        places: Which benchmark files of the rule are of this stage; the longest pattern that matches counts.
        models: Whether a job runs models, on a GPU where the scale has any.
        parts: Jobs an item: 2 for the training and the validation part of a set.
        memory_mb: Memory that the job of an item asks for.
        operations: Estimated floating-point operations of the jobs of an item.
        hours: Estimated hours of the jobs of an item, for a stage whose time does not follow from operations.
        disk_gb: Estimated size of what they leave.
        shared_rule: The rule, where it runs several stages.
    """

    name: str
    items: Callable[[Settings], Sequence[Any]]
    files: str
    places: str = "*"
    models: bool = True
    parts: int = 1
    memory_mb: Callable[[Settings, Any], int] = Settings.answering_mb
    operations: Callable[[Estimator, Any], float] | None = None
    hours: Callable[[Estimator, Any], float] | None = None
    disk_gb: Callable[[Estimator, Any], float] | None = None
    shared_rule: str = ""

    @property
    def rule(self) -> str:
        """The rule that runs the jobs."""
        return self.shared_rule or self.name

    def largest_mb(self, settings: Settings) -> int:
        """Memory of its largest job, in MB (`c2c.training.memory`), where jobs run models."""
        return max(self.memory_mb(settings, item) for item in self.items(settings))


def _answers(kind: str, places: str) -> Stage:
    return Stage(
        f"answer_{kind}",
        lambda settings: [job for job in answer_jobs(settings) if job.kind == kind],
        "records/{job}.parquet",
        places,
        memory_mb=lambda settings, job: job.memory_mb(settings),
        operations=Estimator.answering,
        disk_gb=Estimator.records_gb,
        shared_rule="answer_questions",
    )


def _analysis(name: str, kind: str) -> Stage:
    return Stage(
        name,
        lambda settings: [kind] if kind in analysis.kinds(settings.config) else [],
        f"analysis/{kind}/*",
        memory_mb=lambda settings, kind: settings.answering_mb(analysis.kinds(settings.config)[kind]["pair"]),
        operations=Estimator.analysing,
    )


def _fuser_disk_gb(estimator: Estimator, run: FuserTraining) -> float:
    steps = estimator.settings.training_of(run.pair, run.recipe, run.alignment).get("keep_steps", [])
    return 4 * (1 + len(steps)) * estimator.settings.fuser_parameters(run) / 1e9


def _latent_disk_gb(estimator: Estimator, run: latent.LatentSpaceTraining) -> float:
    members = latent.latent_pairs(estimator.settings, run.latent)
    return sum(4 * latent.latent_parameters(estimator.settings, run.latent, pair) for pair in members) / 1e9


_STAGES = [
    Stage(
        "pretrain_model",
        lambda settings: [name for name in settings.used_models if settings.models[name]["source"] != "hub"],
        "models/{job}/*",
        models=False,
    ),
    Stage(
        "tokenise_training_set",
        tokenised_folders,
        "data/tokenised/{job}.parquet",
        models=False,
        parts=2,
        hours=Estimator.tokenising,
    ),
    Stage(
        "answer_router_questions",
        router.router_answers,
        "routers/{job}/answers.parquet",
        memory_mb=lambda settings, job: job.memory_mb(settings),
        operations=Estimator.answering,
    ),
    Stage("train_router", router.router_pairs, "routers/{job}/router.*"),
    Stage(
        "write_teacher_answers",
        lambda settings: [*settings.teachers],
        "data/training/{job}.jsonl",
        parts=2,
        memory_mb=Settings.teacher_mb,
        operations=Estimator.teaching,
    ),
    Stage(
        "store_states",
        lambda settings: settings.states_folders,
        "states/{job}/*",
        memory_mb=Settings.storing_mb,
        operations=Estimator.storing,
        disk_gb=Estimator.states_gb,
    ),
    Stage(
        "train_fuser",
        lambda settings: settings.trained_alone,
        "fusers/{job}/*",
        memory_mb=lambda settings, run: settings.training_mb(run.pair, run.recipe, run.alignment),
        operations=Estimator.training,
        disk_gb=_fuser_disk_gb,
    ),
    Stage(
        "train_together",
        lambda settings: [*settings.trained_together.values()],
        "together/{job}/*/*/*",
        memory_mb=Settings.together_mb,
        operations=Estimator.together,
        disk_gb=lambda estimator, runs: sum(_fuser_disk_gb(estimator, run) for run in runs),
    ),
    _answers(pairs.BASELINES, "*/baselines"),
    _answers(pairs.FUSED, "*"),
    _answers(same_answer.SAME_ANSWER, "*.same_answer"),
    _answers(released_prompts.RELEASED_PROMPTS, "*.released_prompts"),
    _answers(groups.GROUPS, "groups/*"),
    Stage(
        "train_latent",
        latent.latent_trainings,
        "latent/{job}/pairs/*/*",
        memory_mb=lambda settings, run: latent.latent_memory_mb(settings, run.latent),
        operations=Estimator.latent_training,
        disk_gb=_latent_disk_gb,
    ),
    _answers(latent.LATENT, "latent/*/pairs/*"),
    _answers(latent.LATENT_GROUPS, "latent/*/groups/*"),
    Stage(
        "train_single",
        single.single_trainings,
        "single/{job}/*",
        memory_mb=lambda settings, run: settings.single_mb(run.pair, run.alignment),
        operations=Estimator.single_training,
        disk_gb=lambda estimator, run: BYTES[estimator.settings.config["dtype"]] * estimator.weights(run.pair)[0] / 1e9,
    ),
    _answers(single.SINGLE, "single/*"),
    _answers(agents.AGENTS, "agents/*"),
    _answers(released.RELEASED, "released/*"),
    _answers(steps.KEPT, "*.step*"),
    Stage(
        "measure_latency",
        lambda settings: [*settings.timed_fusers.values()],
        "latency/{job}.parquet",
        memory_mb=lambda settings, run: settings.answering_mb(run.pair),
        hours=Estimator.latency,
    ),
    Stage("measure_channels", testbed.bed_jobs, "testbed/records/{job}.parquet", memory_mb=testbed.bed_mb),
    _analysis("measure_effective_rank", "effective_rank"),
    _analysis("enrich_caches", "enrichment"),
    _analysis("place_caches", "tsne"),
    _analysis("fuse_partially", "partial"),
]
STAGES = {stage.name: stage for stage in _STAGES}
"""Stages that take time, in the order in which their jobs run. The jobs of other rules are over in seconds."""


def job_counts(settings: Settings, names: Iterable[str] = ()) -> dict[str, int]:
    """The number of jobs of each stage in a run of this scale from nothing; stages without jobs are left out.

    Args:
        settings: The scale.
        names: Stages that are counted; empty for all.
    """
    stages = {name: STAGES[name] for name in names or STAGES}
    counts = {name: stage.parts * len(stage.items(settings)) for name, stage in stages.items()}
    return {name: count for name, count in counts.items() if count}


# Timings -------------------------------------------------------------------------------------------------------------

PATH = Path("config/timings.csv")


@dataclass(frozen=True)
class Timing:
    """Mean wall time and output of the timed jobs of a stage at a scale, and the most memory that any of them held."""

    scale: str
    stage: str
    jobs: int
    minutes: float
    memory_mb: float
    output_mb: float


def read_timings(path: Path = ROOT / PATH) -> list[Timing]:
    """The committed timings, as `read_rows` reads and refuses them; none where there is no file."""
    return [Timing(**row) for row in read_rows(path)] if path.is_file() else []


def measure(results: Path) -> list[Timing]:
    """Timings of a results folder by stage, from the benchmark files of Snakemake and the sizes of what jobs wrote.

    Raises:
        RefusedError: No job was timed there, or a benchmark file holds no time or memory.
    """
    remedy = "Remove it, and run the workflow again"
    jobs: dict[str, list[tuple[float, float, float]]] = {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        rule, _, job = str(path.relative_to(results / "benchmarks").with_suffix("")).partition("/")
        # The stage whose pattern says most about the job.
        stages = (stage for stage in STAGES.values() if stage.rule == rule and fnmatch(job, stage.places))
        if not (stage := max(stages, key=lambda stage: len(stage.places), default=None)):
            continue
        text = read_text(path, remedy)
        row = next(csv.DictReader(text.splitlines(), delimiter="\t"), {})
        try:
            # A job that was too quick has no measured memory.
            minutes, memory = float(row["s"]) / 60, 0.0 if row["max_rss"] == "NA" else float(row["max_rss"])
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{path} must hold the time and memory of a job", text, remedy) from error
        # What the job wrote, in MB.
        files = results.glob(stage.files.format(job=job))
        size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
        jobs.setdefault(stage.name, []).append((minutes, memory, size))
    if not jobs:
        raise RefusedError("A results folder must have timed jobs", str(results), "Run the scale first")
    return [
        Timing(results.name, name, len(rows), mean(minutes), max(memory), mean(sizes))
        for name, rows in jobs.items()
        for minutes, memory, sizes in [zip(*rows, strict=True)]
    ]


def write_timings(timings: Iterable[Timing], path: Path = ROOT / PATH) -> None:
    """Write the timings of one scale into the file, in place of the rows that it has of that scale."""
    rows = {(timing.scale, timing.stage): timing for timing in timings}
    scales = {scale for scale, _ in rows}
    rows |= {(row.scale, row.stage): row for row in read_timings(path) if row.scale not in scales}
    lines = [",".join(field.name for field in fields(Timing))]
    for _, timing in sorted(rows.items()):
        cells = asdict(timing).values()
        lines.append(",".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells))
    write_atomically(path, "\n".join(lines) + "\n")
