"""What jobs would take that were never timed at a scale: an estimate from model sizes and counts of tokens.

A token costs 2 operations a weight that reads it, 4 where a gradient passes through, and 6 where weights are trained
(Kaplan et al., arXiv 2001.08361, section 2.1). How fast a GPU does them is taken from what the paper paid for its first
pair (Table 12): it holds for training as the paper trained. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from c2c.errors import RefusedError
from paper.reading.reference import Reference
from workflow import estimate_methods, latent
from workflow.estimate_methods import FORWARD, training_operations
from workflow.memory import BYTES, fuser_parameters
from workflow.methods import single_runs
from workflow.settings import Run, Settings
from workflow.validation import Table, read_table

SIZES = Path("config/sizes.tsv")
PAPER_BATCH = 256
"""Examples a step of the paper's training on OpenHermes."""
PAPER_PAIR = "qwen3_from_qwen25"
"""The pair of ours whose training is the first of Table 12."""
TRAINING_DATA = "openhermes"


@dataclass(frozen=True)
class Assumptions:
    """What an estimate takes for granted; printed with it.

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
    """Estimates for the jobs of a scale.

    Args:
        settings: The scale.
        reference: What the paper says.
        sizes: Rows of ``config/sizes.tsv``.
        assumptions: What is taken for granted.
        root: Folder in which ``benchmarks/`` lies.
    """

    settings: Settings
    reference: Reference
    sizes: Table
    assumptions: Assumptions = Assumptions()
    root: Path = Path()

    @classmethod
    def of(cls, settings: Settings, root: Path = Path()) -> Estimator:
        """An estimator of a scale, with the sizes below `root`."""
        return cls(settings, Reference(), read_table(root / SIZES), root=root)

    def hours(self, rule: str) -> float | None:
        """Hours of all jobs of a rule; None for a rule, or for data, that nothing is known of."""
        try:
            return self._hours(rule)
        except KeyError:
            return None

    def _hours(self, rule: str) -> float:
        settings = self.settings
        by_rule = {
            "tokenise_training_set": lambda: sum(map(self._tokenising, self._tokenised())),
            "train_fuser": lambda: sum(self.training(run) for run in settings.runs),
            "generate_baselines": lambda: sum(map(self._baselines, settings.used_pairs)),
            "write_teacher_answers": lambda: sum(map(self._teaching, settings.teachers)),
            "generate_fused": lambda: sum(map(self._fused, settings.runs)),
            "generate_kept": lambda: sum(self._fused(run) * len(self._kept(run)) for run in settings.runs),
            "measure_latency": lambda: sum(map(self._latency, settings.timed_pairs)),
        }
        if rule in estimate_methods.BY_RULE:
            return estimate_methods.BY_RULE[rule](self) / self.operations_per_hour()
        return by_rule[rule]()

    def disk_gb(self, rule: str) -> float | None:
        """What all jobs of a rule leave; None for a rule, or for data, that nothing is known of."""
        settings = self.settings
        if rule == "train_fuser":
            return sum(4 * (1 + len(self._kept(run))) * self._fusers_of(run) for run in settings.runs) / 1e9
        if rule == "train_latent":
            trained = [
                (run.latent, pair)
                for run in latent.latent_runs(settings)
                for pair in latent.latent_pairs(settings, run.latent)
            ]
            return sum(4 * latent.latent_parameters(settings, *each) for each in trained) / 1e9
        if rule == "train_single":
            return (
                sum(BYTES[settings.config["dtype"]] * self.weights(run.pair)[0] for run in single_runs(settings)) / 1e9
            )
        answers = {
            "generate_baselines": [(pair, len(settings.baselines(pair))) for pair in settings.used_pairs],
            "generate_fused": [(run.pair, len(self._methods(run))) for run in settings.runs],
            "generate_kept": [(run.pair, len(self._kept(run)) * len(self._methods(run))) for run in settings.runs],
            **estimate_methods.answers(settings),
        }
        try:
            records = sum(methods * self._questions(pair) for pair, methods in answers[rule])
        except KeyError:
            return None
        return records * self.assumptions.kilobytes_per_record / 1e6

    def checkpoint_gb(self) -> float:
        """Room for the states of all trainings: weights and both moments of AdamW, of two steps and of one more."""
        return sum(3 * 12 * self._fusers_of(run) for run in self.settings.runs) / 1e9

    def downloads_gb(self) -> float:
        """Size of the data that are fetched."""
        settings = self.settings
        sets = [part for name in settings.used_training_sets for part in _parts(settings, name)]
        asked = [settings.data.benchmark_of[task] for task in settings.config["benchmarks"]]
        fetched = {*settings.from_source("training_sets", "hub"), *settings.from_source("benchmarks", "hub")}
        return sum(self.sizes[name]["download_mb"] for name in {*sets, *asked} & fetched if name in self.sizes) / 1000

    def training(self, run: Run) -> float:
        """GPU hours of one training."""
        receiver, sharer = self.weights(run.pair)
        if self.settings.sharer_role(run.recipe) == "receiver":
            sharer = receiver
        tokens = self.trained_tokens(run.pair, run.recipe, run.alignment)
        return tokens * training_operations(receiver, sharer, self._fusers_of(run)) / self.operations_per_hour()

    def trained_tokens(self, pair: str, recipe: str, alignment: str) -> int:
        """Tokens that a training reads, over all of its steps."""
        about = self.settings.training_of(pair, recipe, alignment)
        data = self.sizes[self.settings.pairs[pair]["training_set"]]
        return int(about["steps"] * about["batch_size"] * (data["prompt_tokens"] + data["answer_tokens"]))

    def operations_per_hour(self) -> float:
        """Operations that a GPU did in an hour of the paper's training of its first pair, by the same count.

        Raises:
            RefusedError: Its hours are not among the paper's values.
        """
        steps, hours = max(paper_hours(self.reference, self.settings, PAPER_PAIR).items(), default=(0, 0.0))
        if not steps:
            raise RefusedError("Table 12 must have the hours of the paper's first pair", "no row", "Restore its values")
        data = self.sizes[TRAINING_DATA]
        tokens = steps * PAPER_BATCH * (data["prompt_tokens"] + data["answer_tokens"])
        return tokens * training_operations(*self.weights(PAPER_PAIR), self.fusers(PAPER_PAIR)) / hours

    def _tokenised(self) -> list[str]:
        """The training set of each set of tokens that is made."""
        settings = self.settings
        made = {settings.tokenised(run.pair, run.recipe, run.alignment): run.pair for run in settings.runs}
        for name in latent.latent_names(settings):
            made |= zip(latent.latent_tokenised(settings, name), latent.latent_pairs(settings, name), strict=True)
        return [settings.pairs[pair]["training_set"] for pair in made.values()]

    def _tokenising(self, training_set: str) -> float:
        return float(self.sizes[training_set]["lines"] / self.assumptions.lines_per_second / 3600)

    def _teaching(self, training_set: str) -> float:
        data = self.sizes[training_set]
        weights = 1e6 * self.settings.models[self.settings.teachers[training_set]]["parameters_m"]
        tokens = data["lines"] * (data["prompt_tokens"] + data["answer_tokens"])
        return float(tokens * FORWARD * weights / self.operations_per_hour())

    def _kept(self, run: Run) -> list[int]:
        kept: list[int] = self.settings.training_of(run.pair, run.recipe, run.alignment).get("keep_steps", [])
        return kept

    def _baselines(self, pair: str) -> float:
        receiver, sharer = self.weights(pair)
        message = self.assumptions.message_tokens
        operations = 0.0
        for asked in self.asked(pair):
            prompt, read = asked["prompt_tokens"], asked["prompt_tokens"] + asked["answer_tokens"]
            costs = {
                "receiver": receiver * read,
                "sharer": sharer * read,
                "t2t": sharer * (prompt + message) + receiver * (read + message),
            }
            operations += asked["lines"] * FORWARD * sum(costs.get(name, 0) for name in self.settings.baselines(pair))
        return operations / self.operations_per_hour()

    def _fused(self, run: Run) -> float:
        return len(self._methods(run)) * self.fused_once(run.pair) / self.operations_per_hour()

    def fused_once(self, pair: str) -> float:
        """Operations of asking a pair everything by one method with Fusers: both models read, the Receiver answers."""
        receiver, sharer = self.weights(pair)
        operations = 0.0
        for asked in self.asked(pair):
            read = asked["prompt_tokens"] * (receiver + self.fusers(pair) + sharer)
            operations += asked["lines"] * FORWARD * (read + asked["answer_tokens"] * receiver)
        return operations

    def _latency(self, pair: str) -> float:
        latency = self.settings.config["latency"]
        answer = self.sizes[self.settings.data.benchmark_of[latency["benchmark"]]]["answer_tokens"]
        tokens = sum(answer + (name == "t2t") * self.assumptions.message_tokens for name in latency["methods"])
        return float(latency["questions"] * latency["repeats"] * tokens * self.assumptions.seconds_per_token / 3600)

    def asked(self, pair: str) -> list[dict[str, int]]:
        """Size of each task of a pair, at most `sample` questions of it."""
        return self.sampled([self.settings.data.benchmark_of[task] for task in self.settings.tasks(pair)])

    def sampled(self, benchmarks: Iterable[str], most: int | None = None) -> list[dict[str, int]]:
        """Sizes of benchmarks, at most `sample`, and `most`, questions of each."""
        limits = [limit for limit in (self.settings.config["sample"], most) if limit]
        rows = [self.sizes[name] for name in benchmarks]
        return [{**row, "lines": min([row["lines"], *limits])} for row in rows]

    def _methods(self, run: Run) -> list[str]:
        return str(self.settings.recipes[run.recipe]["methods"]).split()

    def _questions(self, pair: str) -> int:
        return sum(asked["lines"] for asked in self.asked(pair))

    def fusers(self, pair: str) -> int:
        """Parameters of a pair's Fusers in the published form."""
        sharer, receiver = (self.settings.sizes(self.settings.pairs[pair][role]) for role in ("sharer", "receiver"))
        return fuser_parameters(sharer, receiver, self.settings.training)

    def _fusers_of(self, run: Run) -> int:
        """Parameters of the Fusers of a run."""
        pair, recipe = self.settings.pairs[run.pair], self.settings.recipes[run.recipe]
        sharer = self.settings.sizes(pair[self.settings.sharer_role(run.recipe)])
        about = self.settings.training_of(run.pair, run.recipe, run.alignment)
        projected = recipe["variant"] == "projected"
        return fuser_parameters(sharer, self.settings.sizes(pair["receiver"]), about, projected=projected)

    def weights(self, pair: str) -> tuple[float, float]:
        """Parameters of Receiver and Sharer."""
        models = self.settings.models
        receiver, sharer = (models[self.settings.pairs[pair][role]]["parameters_m"] for role in ("receiver", "sharer"))
        return receiver * 1e6, sharer * 1e6


def paper_hours(reference: Reference, settings: Settings, pair: str, sharer: str = "sharer") -> dict[int, float]:
    """GPU hours that the paper's training of a pair took up to some steps, by step (Table 12).

    Args:
        reference: What the paper says.
        settings: Which models the pair has.
        pair: Id of the pair.
        sharer: Which of its models is the Sharer: ``sharer``, or ``receiver``.
    """
    models = [settings.models[settings.pairs[pair][role]]["hub_id"] or "" for role in ("receiver", sharer)]
    rows = reference.of_pair("Table 12", "GPU hours", pair, (models[0], models[1]))
    return {int(row["panel"].removeprefix("step ")): float(row["value"]) for row in rows}


def _parts(settings: Settings, training_set: str) -> list[str]:
    """A training set, or those that it is a mix of."""
    return (settings.training_sets[training_set]["parts"] or training_set).split()
