"""What jobs would take that were never timed at a scale: an estimate from model sizes and counts of tokens.

A token costs 2 operations a weight that reads it, 4 where a gradient passes through, and 6 where weights are trained
(Kaplan et al., arXiv 2001.08361, section 2.1). How fast a GPU does them is taken from what the paper paid for its first
pair (Table 12): it holds for training as the paper trained. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.schema import AGENT_METHODS
from paper.reading.reference import Reference
from workflow import analysis, latent
from workflow.memory import BYTES, fuser_parameters
from workflow.methods import agent_pairs, agent_run, agent_tasks, group_methods, group_runs, members, single_runs
from workflow.settings import Run, Settings
from workflow.validation import Table, read_table

FORWARD, THROUGH, TRAINED = 2, 4, 6
"""Operations a weight and token: read; where a gradient passes through; and where it learns."""
RELEASED_METHODS = 3
"""Published fusers are asked as they are, deranged and zeroed."""
ENDS_AND_CHOICES = 4
"""Best and worst layers, chosen on the same and on the other questions."""
WHOLE = 3
"""Direct, few-shot and oracle."""

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
        if rule in BY_RULE:
            return BY_RULE[rule](self) / self.operations_per_hour()
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
            **answers_by_rule(settings),
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


Operations = Callable[[Estimator], float]


def training_operations(receiver: float, sharer: float, learned: float) -> float:
    """Operations a token: the Sharer reads, the gradient passes through the Receiver, Fusers are trained."""
    return FORWARD * sharer + THROUGH * receiver + TRAINED * learned


def released(estimator: Estimator) -> float:
    """Operations of all published fusers."""
    pairs = [estimator.settings.released[name]["pair"] for name in estimator.settings.config["released"]]
    return sum(RELEASED_METHODS * estimator.fused_once(pair) for pair in pairs)


def groups(estimator: Estimator) -> float:
    """Operations of all groups."""
    settings = estimator.settings
    return sum(
        len(group_methods(settings, run.group)) * _together(estimator, members(settings, run.group))
        for run in group_runs(settings)
    )


def latent_training(estimator: Estimator) -> float:
    """Operations of training latent spaces: of each token, one pair's models, its encoder and its decoder."""
    settings, operations = estimator.settings, 0.0
    for run in latent.latent_runs(settings):
        about, pairs = latent.latent_training(settings, run.latent), latent.latent_pairs(settings, run.latent)
        for pair in pairs:
            data = estimator.sizes[settings.pairs[pair]["training_set"]]
            tokens = about["steps"] * about["batch_size"] / len(pairs) * (data["prompt_tokens"] + data["answer_tokens"])
            learned = latent.latent_parameters(settings, run.latent, pair)
            operations += tokens * training_operations(*estimator.weights(pair), learned)
    return operations


def latent_answers(estimator: Estimator) -> float:
    """Operations of asking each pair of a latent space; its parts are taken to be as large as a pair's own Fusers."""
    return sum(methods * estimator.fused_once(pair) for pair, methods in _latent_pairs(estimator.settings))


def latent_groups(estimator: Estimator) -> float:
    """Operations of asking each Receiver of a latent space with all of its Sharers."""
    settings = estimator.settings
    return sum(
        len(latent.METHODS) * _together(estimator, members(settings, group))
        for run in latent.latent_runs(settings)
        for group in latent.latent_groups(settings, run.latent)
    )


def agents(estimator: Estimator) -> float:
    """Operations of all pairs of agents: the interpreter writes once, then each method reads problem and message."""
    settings, message, operations = estimator.settings, estimator.assumptions.message_tokens, 0.0
    for pair in agent_pairs(settings):
        receiver, sharer = estimator.weights(pair)
        fused = sharer + estimator.fusers(agent_run(settings, pair).pair)
        named = [
            settings.data.benchmark_of[task]
            for task in agent_tasks(settings, pair, estimator.root / "benchmarks/tasks")
        ]
        for each in estimator.sampled(named):
            read, written = each["prompt_tokens"] + message, each["answer_tokens"]
            text = len(AGENT_METHODS) * (read + written) * receiver
            cache = (len(AGENT_METHODS) - 1) * read * fused
            operations += each["lines"] * FORWARD * (read * sharer + text + cache)
    return operations


def single_training(estimator: Estimator) -> float:
    """Operations of fine-tuning the Receivers themselves."""
    return sum(
        TRAINED * estimator.weights(run.pair)[0] * estimator.trained_tokens(run.pair, "c2c", run.alignment)
        for run in single_runs(estimator.settings)
    )


def single_answers(estimator: Estimator) -> float:
    """Operations of asking them."""
    operations = 0.0
    for run in single_runs(estimator.settings):
        tokens = sum(
            each["lines"] * (each["prompt_tokens"] + each["answer_tokens"]) for each in estimator.asked(run.pair)
        )
        operations += FORWARD * estimator.weights(run.pair)[0] * tokens
    return operations


def router_questions(estimator: Estimator) -> float:
    """Operations of asking both models what a router learns from; each task gives at most ``router.questions``."""
    settings, operations = estimator.settings, 0.0
    for pair in settings.used_pairs:
        if "routing_trained" in settings.baselines(pair):
            named = [settings.data.benchmark_of[task] for task in settings.router_tasks(pair)]
            for each in estimator.sampled(named, settings.config["router"]["questions"]):
                tokens = each["lines"] * (each["prompt_tokens"] + each["answer_tokens"])
                operations += FORWARD * tokens * sum(estimator.weights(pair))
    return operations


def answers_by_rule(settings: Settings) -> dict[str, list[tuple[str, int]]]:
    """By rule, of each pair that is asked, how many methods answer all of its questions."""
    groups_asked = {run.path: (members(settings, run.group)[0], run.group) for run in group_runs(settings)}
    return {
        "generate_released": [
            (settings.released[name]["pair"], RELEASED_METHODS) for name in settings.config.get("released", [])
        ],
        "generate_single": [(run.pair, 1) for run in single_runs(settings)],
        "generate_agents": [(pair, len(AGENT_METHODS)) for pair in agent_pairs(settings)],
        "generate_latent": _latent_pairs(settings),
        "generate_latent_group": [
            (members(settings, group)[0], len(latent.METHODS))
            for run in latent.latent_runs(settings)
            for group in latent.latent_groups(settings, run.latent)
        ],
        "generate_group": [(pair, len(group_methods(settings, group))) for pair, group in groups_asked.values()],
    }


def effective_rank(estimator: Estimator) -> float:
    """Operations of reading each question, with its own and with another Sharer cache."""
    given, (asked,) = _given(estimator, "effective_rank")
    return 2 * FORWARD * asked["lines"] * asked["prompt_tokens"] * _fused(estimator, given["pair"])


def enrichment(estimator: Estimator) -> float:
    """Operations of the oracle: one model reads examples and question for each layer and each choice of layers."""
    given, (asked,) = _given(estimator, "enrichment")
    model = estimator.settings.sizes(estimator.settings.pairs[given["pair"]][given["role"]])
    settings = WHOLE + model.layers + ENDS_AND_CHOICES * min(given["most"], model.layers)
    tokens = (given["shots"] + 1) * asked["prompt_tokens"] + asked["answer_tokens"]
    return FORWARD * settings * asked["lines"] * tokens * model.parameters


def tsne(estimator: Estimator) -> float:
    """Operations of reading the questions that are drawn and those that the transformation learns from."""
    given, (asked,) = _given(estimator, "tsne")
    lines = asked["lines"] + given["training_questions"]
    return FORWARD * lines * asked["prompt_tokens"] * _fused(estimator, given["pair"])


def partial(estimator: Estimator) -> float:
    """Operations of answering, and of its control, with each share of the prompt fused at either end."""
    given, (asked,) = _given(estimator, "partial")
    receiver = estimator.weights(given["pair"])[0]
    once = asked["prompt_tokens"] * _fused(estimator, given["pair"]) + asked["answer_tokens"] * receiver
    return 2 * 2 * len(given["shares"]) * FORWARD * asked["lines"] * once


BY_RULE: Mapping[str, Operations] = {
    "generate_released": released,
    "generate_group": groups,
    "train_latent": latent_training,
    "generate_latent": latent_answers,
    "generate_latent_group": latent_groups,
    "generate_agents": agents,
    "train_single": single_training,
    "generate_single": single_answers,
    "answer_router_questions": router_questions,
    "measure_effective_rank": effective_rank,
    "enrich_caches": enrichment,
    "place_caches": tsne,
    "fuse_partially": partial,
}


def _together(estimator: Estimator, pairs: Sequence[str]) -> float:
    """Operations of one method of several Sharers: each reads, the Fusers of each compute, the Receiver answers."""
    receiver = estimator.weights(pairs[0])[0]
    others = sum(estimator.weights(pair)[1] + estimator.fusers(pair) for pair in pairs)
    read = sum(each["lines"] * each["prompt_tokens"] for each in estimator.asked(pairs[0]))
    written = sum(each["lines"] * each["answer_tokens"] for each in estimator.asked(pairs[0]))
    return FORWARD * (read * (receiver + others) + written * receiver)


def _latent_pairs(settings: Settings) -> list[tuple[str, int]]:
    """Each pair of each training of a latent space, and how many methods it is asked by."""
    return [
        (pair, len(latent.METHODS))
        for run in latent.latent_runs(settings)
        for pair in latent.latent_pairs(settings, run.latent)
    ]


def _given(estimator: Estimator, kind: str) -> tuple[Mapping[str, Any], list[dict[str, int]]]:
    given = analysis.kinds(estimator.settings.config)[kind]
    benchmark = estimator.settings.data.benchmark_of[given["benchmark"]]
    return given, estimator.sampled([benchmark], given["questions"])


def _fused(estimator: Estimator, pair: str) -> float:
    """Weights that a token of a prompt passes: the Sharer's, the Receiver's and the Fusers'."""
    return sum(estimator.weights(pair)) + estimator.fusers(pair)
