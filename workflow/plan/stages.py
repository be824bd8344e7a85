"""Stages of a run: one row a stage, with its jobs, files, memory and hours. Everything about cost is derived from here.

Hours come from jobs of the same scale that were timed (``config/timings.csv``). For stages without timings they are
estimated from model sizes and counts of tokens: a token costs 2 operations a weight that reads it, 4 where a gradient
passes through, and 6 where weights are trained (Kaplan et al., arXiv 2001.08361, section 2.1). The speed of a GPU is
what the paper's training of its first pair implies (paper Table 12). Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatch
from pathlib import Path
from statistics import mean
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_text
from paper.reading.reference import Reference
from workflow.kinds import agents, analysis, groups, latent, pairs, released, router, single, steps
from workflow.kinds.jobs import AnswerJob
from workflow.kinds.registry import answer_jobs
from workflow.paths import ROOT
from workflow.plan.memory import BYTES, fuser_parameters
from workflow.settings import OWN_TOKENS, FuserTraining, Settings
from workflow.validation import Table, read_table

# Estimates -----------------------------------------------------------------------------------------------------------

SIZES = Path("config/sizes.tsv")
PAPER_BATCH = 256
"""Examples a step of the paper's training on OpenHermes."""
PAPER_PAIR = "qwen3_from_qwen25"
"""The pair of ours whose training is the first of Table 12."""
TRAINING_DATA = "openhermes"
FORWARD, THROUGH, TRAINED = 2, 4, 6
"""Operations a weight and token: read; where a gradient passes through; and where it learns."""
ENDS_AND_CHOICES = 4
"""Best and worst layers, chosen on the same and on the other questions."""
WHOLE = 3
"""Direct, few-shot and oracle."""


@dataclass(frozen=True)
class Assumptions:
    """What an estimate assumes; printed with it.

    Args:
        message_tokens: Tokens of a T2T message (the paper's limit).
        lines_per_second: Training examples that one core tokenises and aligns.
        seconds_per_token: Time of one decoded token where one question is asked at a time.
        kilobytes_per_record: Size of one record.
    """

    message_tokens: int = 256
    lines_per_second: float = 200.0
    seconds_per_token: float = 0.03
    kilobytes_per_record: float = 0.5

    def lines(self, operations_per_hour: float) -> list[str]:
        """In words."""
        return [
            f"{operations_per_hour / 3600e12:.1f} TFLOP/s a GPU, as the paper's hours of training imply (Table 12)",
            f"numbers and lengths of questions and examples as in {SIZES}",
            f"messages of {self.message_tokens} tokens",
            f"{self.lines_per_second:.0f} examples a second to tokenise, on one core",
            f"{self.seconds_per_token} s a token where answers are timed one by one",
        ]


@dataclass(frozen=True)
class Estimator:
    """Hours and disk of single jobs that were never timed. A `KeyError` means that the size of some data is unknown.

    Args:
        settings: The scale.
        reference: The paper's printed values.
        sizes: Rows of ``config/sizes.tsv``.
        assumptions: What else is assumed.
    """

    settings: Settings
    reference: Reference
    sizes: Table
    assumptions: Assumptions = Assumptions()

    @classmethod
    def of(cls, settings: Settings, root: Path = ROOT) -> Estimator:
        """An estimator of a scale, with the sizes below `root`."""
        return cls(settings, Reference(), read_table(root / SIZES))

    def hours(self, name: str) -> float | None:
        """Hours of all jobs of a stage; None where they cannot be estimated."""
        return self._total(name, STAGES[name].hours)

    def disk_gb(self, name: str) -> float | None:
        """Gigabytes that all jobs of a stage leave; None where they cannot be estimated."""
        return self._total(name, STAGES[name].disk_gb)

    def _total(self, name: str, of_item: Callable[[Estimator, Any], float] | None) -> float | None:
        try:
            return sum(of_item(self, item) for item in STAGES[name].items(self.settings)) if of_item else None
        except KeyError:
            return None

    def operations_per_hour(self) -> float:
        """Operations that a GPU did in an hour of the paper's training of its first pair, by the same count.

        Raises:
            RefusedError: Its hours are not among the paper's values.
        """
        steps, hours = max(paper_hours(self.reference, self.settings, PAPER_PAIR).items(), default=(0, 0.0))
        if not steps:
            raise RefusedError("Table 12 must have the hours of the paper's first pair", "no row", "Restore its values")
        tokens = steps * PAPER_BATCH * self.example_tokens(TRAINING_DATA)
        receiver, sharer = self.weights(PAPER_PAIR)
        fusers = self.fusers(PAPER_PAIR)
        return tokens * (FORWARD * sharer + THROUGH * receiver + TRAINED * fusers) / hours

    def weights(self, pair: str) -> tuple[float, float]:
        """Parameters of Receiver and Sharer."""
        models = self.settings.models
        receiver, sharer = (models[self.settings.pairs[pair][role]]["parameters_m"] for role in ("receiver", "sharer"))
        return receiver * 1e6, sharer * 1e6

    def fusers(self, pair: str) -> int:
        """Parameters of a pair's Fusers in the reference's form."""
        sharer, receiver = (self.settings.sizes(self.settings.pairs[pair][role]) for role in ("sharer", "receiver"))
        return fuser_parameters(sharer, receiver, self.settings.training)

    def fusers_of(self, run: FuserTraining) -> int:
        """Parameters of the Fusers of a training."""
        row, recipe = self.settings.pairs[run.pair], self.settings.recipes[run.recipe]
        sharer = self.settings.sizes(row[self.settings.sharer_role(run.recipe)])
        training = self.settings.training_of(run.pair, run.recipe, run.alignment)
        projected = recipe["variant"] == "projected"
        return fuser_parameters(sharer, self.settings.sizes(row["receiver"]), training, projected=projected)

    def example_tokens(self, training_set: str) -> int:
        """Tokens of a training example."""
        return int(self.sizes[training_set]["prompt_tokens"] + self.sizes[training_set]["answer_tokens"])

    def trained_tokens(self, pair: str, training: Mapping[str, Any]) -> float:
        """Tokens that a training with some settings reads of the pair's set, over all of its steps."""
        training_set = self.settings.pairs[pair]["training_set"]
        return float(training["steps"] * training["batch_size"] * self.example_tokens(training_set))

    def training(self, run: FuserTraining) -> float:
        """Hours of one training of Fusers: the Sharer reads, the gradient passes through the Receiver."""
        receiver, sharer = self.weights(run.pair)
        if self.settings.sharer_role(run.recipe) == "receiver":
            sharer = receiver
        tokens = self.trained_tokens(run.pair, self.settings.training_of(run.pair, run.recipe, run.alignment))
        operations = FORWARD * sharer + THROUGH * receiver + TRAINED * self.fusers_of(run)
        return tokens * operations / self.operations_per_hour()

    def latent_training(self, run: latent.LatentSpaceTraining) -> float:
        """Hours of training a latent space: each token passes one pair's models, its encoder and its decoder."""
        settings, operations = self.settings, 0.0
        training, members = latent.latent_training(settings, run.latent), latent.latent_pairs(settings, run.latent)
        for pair in members:
            receiver, sharer = self.weights(pair)
            learned = latent.latent_parameters(settings, run.latent, pair)
            tokens = self.trained_tokens(pair, training) / len(members)
            operations += tokens * (FORWARD * sharer + THROUGH * receiver + TRAINED * learned)
        return operations / self.operations_per_hour()

    def single_training(self, run: single.SingleTraining) -> float:
        """Hours of fine-tuning a Receiver."""
        tokens = self.trained_tokens(run.pair, self.settings.training_of(run.pair, "c2c", run.alignment))
        return TRAINED * self.weights(run.pair)[0] * tokens / self.operations_per_hour()

    def tokenising(self, folder: str) -> float:
        """Hours of tokenising the two parts of a training set for a pair."""
        pair = folder.partition("/")[0].removesuffix(OWN_TOKENS)
        lines = self.sizes[self.settings.pairs[pair]["training_set"]]["lines"]
        return float(lines / self.assumptions.lines_per_second / 3600)

    def teaching(self, training_set: str) -> float:
        """Hours in which a teacher answers the questions of a training set."""
        weights = 1e6 * self.settings.models[self.settings.teachers[training_set]]["parameters_m"]
        tokens = self.sizes[training_set]["lines"] * self.example_tokens(training_set)
        return float(tokens * FORWARD * weights / self.operations_per_hour())

    def questions(self, tasks: Iterable[str], most: int | None = None) -> list[dict[str, int]]:
        """Sizes of tasks: `lines` questions, at most the scale's `sample` and `most`, and the tokens of one."""
        limits = [limit for limit in (self.settings.config["sample"], most) if limit]
        rows = [self.sizes[self.settings.data.benchmark_of[task]] for task in tasks]
        return [{**row, "lines": min([row["lines"], *limits])} for row in rows]

    def answering(self, job: AnswerJob) -> float:
        """Hours of a job that answers."""
        operations = sum(
            row["lines"] * FORWARD * sum(self._weights_read(method, job.pairs, row) for method in job.methods)
            for row in self.questions(job.tasks, job.most_questions)
        )
        return operations / self.operations_per_hour()

    def _weights_read(self, method: str, members: Sequence[str], row: Mapping[str, int]) -> float:
        """Weights times tokens of one answer: what each model and its Fusers read of a question of some length."""
        receiver, sharer = self.weights(members[0])
        prompt, answer, message = row["prompt_tokens"], row["answer_tokens"], self.assumptions.message_tokens
        sharers = sum(self.weights(pair)[1] + self.fusers(pair) for pair in members)
        solver = (prompt + message + answer) * receiver
        needs = DECLARATIONS[method]
        if needs.fusers and not needs.agents:
            return prompt * (receiver + sharers) + answer * receiver
        # The interpreter's message is written once, for the first method of two agents, and read by all of them.
        if needs.fusers:
            return (prompt + message) * sharers + solver
        return {
            "receiver": receiver * (prompt + answer),
            "sharer": sharer * (prompt + answer),
            "t2t": sharer * (prompt + message) + solver,
            "t2t_agents": sharer * (prompt + message) + solver,
        }.get(method, 0.0)

    def records_gb(self, job: AnswerJob) -> float:
        """Size of the records of a job that answers."""
        records = len(job.methods) * sum(row["lines"] for row in self.questions(job.tasks, job.most_questions))
        return records * self.assumptions.kilobytes_per_record / 1e6

    def latency(self, pair: str) -> float:
        """Hours of timing a pair."""
        latency = self.settings.config["latency"]
        answer = self.sizes[self.settings.data.benchmark_of[latency["benchmark"]]]["answer_tokens"]
        tokens = sum(answer + (name == "t2t") * self.assumptions.message_tokens for name in latency["methods"])
        return float(latency["questions"] * latency["repeats"] * tokens * self.assumptions.seconds_per_token / 3600)

    def analysing(self, kind: str) -> float:
        """Hours of an analysis."""
        entry = analysis.kinds(self.settings.config)[kind]
        (row,) = self.questions([entry["benchmark"]], entry["questions"])
        (receiver, sharer), fusers = self.weights(entry["pair"]), self.fusers(entry["pair"])
        prompt, answer, lines, passed = row["prompt_tokens"], row["answer_tokens"], row["lines"], receiver + sharer
        if kind == "effective_rank":
            # Each question is read with its own and with another Sharer cache.
            weights = 2 * lines * prompt * (passed + fusers)
        elif kind == "enrichment":
            # One model reads examples and question for each layer and each choice of layers.
            model = self.settings.sizes(self.settings.pairs[entry["pair"]][entry["role"]])
            readings = WHOLE + model.layers + ENDS_AND_CHOICES * min(entry["most"], model.layers)
            weights = readings * lines * ((entry["shots"] + 1) * prompt + answer) * model.parameters
        elif kind == "tsne":
            # The questions that are drawn, and those that the transformation learns from.
            weights = (lines + entry["training_questions"]) * prompt * (passed + fusers)
        else:
            # An answer and its control, for each share of the prompt, fused at either end.
            weights = 2 * 2 * len(entry["shares"]) * lines * (prompt * (passed + fusers) + answer * receiver)
        return FORWARD * weights / self.operations_per_hour()

    def checkpoint_gb(self) -> float:
        """Room for the states of all trainings: weights and both moments of AdamW, of two steps and of one more."""
        return sum(3 * 12 * self.fusers_of(run) for run in self.settings.runs) / 1e9

    def data_download_gb(self) -> float:
        """Size of the data that are fetched."""
        settings = self.settings
        sets = [part for name in settings.used_training_sets for part in settings.data.parts(name)]
        benchmarks = [settings.data.benchmark_of[task] for task in settings.config["benchmarks"]]
        hub = {*settings.from_source("training_sets", "hub"), *settings.from_source("benchmarks", "hub")}
        names = {*sets, *benchmarks} & hub
        return sum(self.sizes[name]["download_mb"] for name in names if name in self.sizes) / 1000


def paper_hours(reference: Reference, settings: Settings, pair: str, sharer: str = "sharer") -> dict[int, float]:
    """GPU hours that the paper's training of a pair took up to some steps, by step (Table 12).

    Args:
        reference: The paper's printed values.
        settings: Which models the pair has.
        pair: Id of the pair.
        sharer: Which of its models is the Sharer: ``sharer``, or ``receiver``.
    """
    models = [settings.models[settings.pairs[pair][role]]["hub_id"] or "" for role in ("receiver", sharer)]
    rows = reference.of_pair("Table 12", "GPU hours", pair, (models[0], models[1]))
    return {int(row["panel"].removeprefix("step ")): float(row["value"]) for row in rows}


# The table of stages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """All jobs of one sort.

    Args:
        rule: The rule that runs them.
        items: What a scale has of them, one a job, or one a pair of jobs.
        files: What a job leaves, below the results folder, by the place of its benchmark file.
        places: Which benchmark files of the rule are of this stage; the longest pattern that matches counts.
        models: Whether a job runs models, on a GPU where the scale has any.
        parts: Jobs an item: 2 for the training and the validation part of a set.
        memory_mb: Memory that the job of an item asks for.
        hours: Estimated hours of the jobs of an item.
        disk_gb: Estimated size of what they leave.
    """

    rule: str
    items: Callable[[Settings], Sequence[Any]]
    files: str
    places: str = "*"
    models: bool = True
    parts: int = 1
    memory_mb: Callable[[Settings, Any], int] = Settings.answering_mb
    hours: Callable[[Estimator, Any], float] | None = None
    disk_gb: Callable[[Estimator, Any], float] | None = None


ANSWERING = "answer_questions"
"""The rule of all kinds of answers."""


def _answers(kind: str, places: str) -> Stage:
    return Stage(
        ANSWERING,
        lambda settings: [job for job in answer_jobs(settings) if job.kind == kind],
        "records/{job}.parquet",
        places,
        memory_mb=job_memory_mb,
        hours=Estimator.answering,
        disk_gb=Estimator.records_gb,
    )


def _analysis(rule: str, kind: str) -> Stage:
    return Stage(
        rule,
        lambda settings: [name for name in analysis.kinds(settings.config) if name == kind],
        f"analysis/{kind}/*",
        memory_mb=lambda settings, name: settings.answering_mb(analysis.kinds(settings.config)[name]["pair"]),
        hours=Estimator.analysing,
    )


def job_memory_mb(settings: Settings, job: AnswerJob) -> int:
    """Memory of a job that answers, in MB: of each pair both models."""
    return sum(map(settings.answering_mb, job.pairs))


def token_folders(settings: Settings) -> list[str]:
    """The folders of tokenised training sets below ``data/tokenised``, each once."""
    folders = [settings.tokenised(run.pair, run.recipe, run.alignment) for run in settings.runs]
    for name in latent.latent_names(settings):
        folders += latent.latent_tokenised(settings, name)
    return list(dict.fromkeys(folders))


def _pretrained(settings: Settings) -> list[str]:
    return [name for name in settings.used_models if settings.models[name]["source"] != "hub"]


def _fuser_disk_gb(estimator: Estimator, run: FuserTraining) -> float:
    steps = estimator.settings.training_of(run.pair, run.recipe, run.alignment).get("keep_steps", [])
    return 4 * (1 + len(steps)) * estimator.fusers_of(run) / 1e9


def _latent_disk_gb(estimator: Estimator, run: latent.LatentSpaceTraining) -> float:
    members = latent.latent_pairs(estimator.settings, run.latent)
    return sum(4 * latent.latent_parameters(estimator.settings, run.latent, pair) for pair in members) / 1e9


def _single_disk_gb(estimator: Estimator, run: single.SingleTraining) -> float:
    return BYTES[estimator.settings.config["dtype"]] * estimator.weights(run.pair)[0] / 1e9


STAGES: dict[str, Stage] = {
    "pretrain_model": Stage("pretrain_model", _pretrained, "models/{job}/*", models=False),
    "tokenise_training_set": Stage(
        "tokenise_training_set",
        token_folders,
        "data/tokenised/{job}.parquet",
        models=False,
        parts=2,
        hours=Estimator.tokenising,
    ),
    "answer_router_questions": Stage(
        "answer_router_questions",
        router.router_answers,
        "routers/{job}/answers.parquet",
        memory_mb=job_memory_mb,
        hours=Estimator.answering,
    ),
    "train_router": Stage("train_router", router.router_pairs, "routers/{job}/router.*"),
    "write_teacher_answers": Stage(
        "write_teacher_answers",
        lambda settings: [*settings.teachers],
        "data/training/{job}.jsonl",
        parts=2,
        memory_mb=Settings.teacher_mb,
        hours=Estimator.teaching,
    ),
    "train_fuser": Stage(
        "train_fuser",
        lambda settings: settings.runs,
        "fusers/{job}/*",
        memory_mb=lambda settings, run: settings.training_mb(run.pair, run.recipe, run.alignment),
        hours=Estimator.training,
        disk_gb=_fuser_disk_gb,
    ),
    "answer_baselines": _answers(pairs.BASELINES, "*/baselines"),
    "answer_fused": _answers(pairs.FUSED, "*"),
    "answer_groups": _answers(groups.GROUPS, "groups/*"),
    "train_latent": Stage(
        "train_latent",
        latent.latent_trainings,
        "latent/{job}/pairs/*/*",
        memory_mb=lambda settings, run: latent.latent_memory_mb(settings, run.latent),
        hours=Estimator.latent_training,
        disk_gb=_latent_disk_gb,
    ),
    "answer_latent": _answers(latent.LATENT, "latent/*/pairs/*"),
    "answer_latent_groups": _answers(latent.LATENT_GROUPS, "latent/*/groups/*"),
    "train_single": Stage(
        "train_single",
        single.single_trainings,
        "single/{job}/*",
        memory_mb=lambda settings, run: settings.single_mb(run.pair, run.alignment),
        hours=Estimator.single_training,
        disk_gb=_single_disk_gb,
    ),
    "answer_single": _answers(single.SINGLE, "single/*"),
    "answer_agents": _answers(agents.AGENTS, "agents/*"),
    "answer_released": _answers(released.RELEASED, "released/*"),
    "answer_kept": _answers(steps.KEPT, "*.step*"),
    "measure_latency": Stage(
        "measure_latency", lambda settings: settings.timed_pairs, "latency/{job}.parquet", hours=Estimator.latency
    ),
    "measure_effective_rank": _analysis("measure_effective_rank", "effective_rank"),
    "enrich_caches": _analysis("enrich_caches", "enrichment"),
    "place_caches": _analysis("place_caches", "tsne"),
    "fuse_partially": _analysis("fuse_partially", "partial"),
}
"""Stages that take time, in the order in which their jobs run. The jobs of other rules are over in seconds."""


def job_counts(settings: Settings) -> dict[str, int]:
    """How many jobs of each stage a run of this scale has, from nothing; stages without jobs are left out."""
    counts = {name: stage.parts * len(stage.items(settings)) for name, stage in STAGES.items()}
    return {name: count for name, count in counts.items() if count}


def memory_mb(settings: Settings, name: str) -> int:
    """Memory of the largest job of a stage with models, in MB (`workflow.plan.memory`)."""
    stage = STAGES[name]
    return max(stage.memory_mb(settings, item) for item in stage.items(settings))


# Timings -------------------------------------------------------------------------------------------------------------

PATH = Path("config/timings.csv")
MEASURE = f"Restore the file, or measure again: python -m workflow.plan.report --measure … writes {PATH}"


@dataclass(frozen=True)
class Timing:
    """Means over the timed jobs of a stage at a scale.

    Args:
        scale: Name of the scale.
        stage: Name of the stage.
        jobs: How many jobs were timed.
        minutes: Mean wall time of a job.
        memory_mb: Most memory that any of them held.
        output_mb: Mean size of what a job wrote.
    """

    scale: str
    stage: str
    jobs: int
    minutes: float
    memory_mb: float
    output_mb: float


def read_timings(path: Path = ROOT / PATH) -> list[Timing]:
    """The committed timings; none where there is no file.

    Raises:
        RefusedError: The file is no UTF-8 text, or has other columns, or a cell that is no such number.
    """
    if not path.is_file():
        return []
    names = [field.name for field in fields(Timing)]
    head, *rows = [line.split(",") for line in read_text(path, MEASURE).splitlines()] or [[]]
    if head != names:
        raise RefusedError(f"{path.name} must have the columns {', '.join(names)}", ", ".join(head), MEASURE)
    return [_timing(path, number, row) for number, row in enumerate(rows, start=2)]


def _timing(path: Path, number: int, row: list[str]) -> Timing:
    where, line = f"{path.name}, line {number}", ",".join(row)
    try:
        scale, stage, jobs, *means = row
        minutes, memory, output = map(float, means)
        timing = Timing(scale, stage, int(jobs), minutes, memory, output)
    except ValueError as error:
        raise RefusedError(f"{where} must be a scale, a stage and four numbers", line, MEASURE) from error
    if timing.jobs < 1 or not all(math.isfinite(number) and number >= 0 for number in (minutes, memory, output)):
        raise RefusedError(f"{where} must have numbers of 0 or more", line, MEASURE)
    return timing


def measure(results: Path) -> list[Timing]:
    """Timings of a results folder by stage, from the benchmark files of Snakemake and the sizes of what jobs wrote.

    Raises:
        RefusedError: No job was timed there.
    """
    jobs: dict[str, list[tuple[float, float, float]]] = {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        rule, _, job = str(path.relative_to(results / "benchmarks").with_suffix("")).partition("/")
        names = [name for name, stage in STAGES.items() if stage.rule == rule and fnmatch(job, stage.places)]
        if names:
            name = max(names, key=lambda name: len(STAGES[name].places))
            seconds, memory = _measured(path)
            files = results.glob(STAGES[name].files.format(job=job))
            size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
            jobs.setdefault(name, []).append((seconds / 60, memory, size))
    if not jobs:
        raise RefusedError("A results folder must have timed jobs", str(results), "Run the scale first")
    return [
        Timing(results.name, name, len(rows), mean(minutes), max(memory), mean(sizes))
        for name, rows in jobs.items()
        for minutes, memory, sizes in [zip(*rows, strict=True)]
    ]


def _measured(path: Path) -> tuple[float, float]:
    """Seconds and MB of memory that a benchmark file of Snakemake holds; 0 MB where the job was too quick."""
    remedy = "Remove it, and run the workflow again"
    lines = read_text(path, remedy).splitlines()
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=False)) if len(lines) > 1 else {}
    try:
        return float(row["s"]), 0.0 if row["max_rss"] == "NA" else float(row["max_rss"])
    except (KeyError, ValueError) as error:
        raise RefusedError(f"{path} must hold the time and memory of a job", "\n".join(lines), remedy) from error


def write_timings(timings: Iterable[Timing], path: Path = ROOT / PATH) -> None:
    """Put the timings of one scale into the file, in place of what it held of that scale."""
    timings = list(timings)
    others = [timing for timing in read_timings(path) if timing.scale not in {fresh.scale for fresh in timings}]
    lines = [",".join(field.name for field in fields(Timing))]
    for timing in sorted([*others, *timings], key=lambda timing: (timing.scale, timing.stage)):
        cells = asdict(timing).values()
        lines.append(",".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells))
    write_atomically(path, "\n".join(lines) + "\n")
