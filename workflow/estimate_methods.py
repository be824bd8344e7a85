"""Estimates for what is asked beyond one trained pair, and for the analyses, on the basis of `workflow.estimate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from c2c.evaluation.schema import AGENT_METHODS
from workflow import analysis, latent
from workflow.methods import agent_pairs, agent_run, agent_tasks, group_methods, group_runs, members, single_runs

if TYPE_CHECKING:
    from workflow.estimate import Estimator
    from workflow.settings import Settings

FORWARD, THROUGH, TRAINED = 2, 4, 6
"""Operations a weight and token: read; where a gradient passes through; and where it learns."""
RELEASED_METHODS = 3
"""Published fusers are asked as they are, deranged and zeroed."""
ENDS_AND_CHOICES = 4
"""Best and worst layers, chosen on the same and on the other questions."""
WHOLE = 3
"""Direct, few-shot and oracle."""

Operations = Callable[["Estimator"], float]


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


def answers(settings: Settings) -> dict[str, list[tuple[str, int]]]:
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
