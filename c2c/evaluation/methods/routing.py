"""Query routing: half of the questions go to the Sharer, and a confidence or a trained router chooses which.

The router learns from questions that exactly one of the two models answered correctly, by matrix factorisation in the
manner of RouteLLM (arXiv 2406.18665): ``score(model, query) = w . (v_model * (W query + b))``, trained so that of two
models the one that was right scores higher (Bradley-Terry). Instead of an embedding service the query's vector is the
mean of the Receiver's last hidden states over the prompt.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.batches import TOKEN_BUDGET, batches_of
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method, fits
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.reader import SingleReader, tokenise
from c2c.evaluation.schema import read_records
from c2c.evaluation.scoring import mark
from c2c.models.loading import LoadedModel, load_model
from c2c.provenance import file_hash
from c2c.storage.folders import current, exchange
from c2c.storage.locks import locked
from c2c.storage.manifests import read_object

RECEIVER, SHARER = 0, 1
WEIGHTS, ABOUT, FORMAT = "router.safetensors", "router.json", 1
FEWEST = 10
"""Questions that a router learns from."""
TRAIN_AGAIN = "Run c2c train-router again"


@dataclass(frozen=True)
class RouterSettings:
    """Sizes and training of a router; RouteLLM's noise, and early stopping in place of its fixed number of epochs.

    Args:
        dim: Of a model's vector.
        epochs: At most; the one with the smallest loss on held-out questions is kept.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        noise: Standard deviation of what is added to the standardised query vectors in training.
        held_out: Share of the questions that the epoch is chosen by.
        seed: Of weights, noise and split.
    """

    dim: int = 64
    epochs: int = 300
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    noise: float = 0.05
    held_out: float = 0.2
    seed: int = 0


class MatrixFactorisation(nn.Module):
    """Scores of two models for queries.

    Args:
        query_dim: Size of a query's vector.
        dim: Size of a model's vector, which is used at length one.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, query_dim: int, dim: int) -> None:
        super().__init__()
        self.models = nn.Embedding(2, dim)
        self.query = nn.Linear(query_dim, dim)
        self.score = nn.Linear(dim, 1, bias=False)
        self.register_buffer("mean", torch.zeros(query_dim))
        self.register_buffer("deviation", torch.ones(query_dim))

    def standardised(self, queries: Tensor) -> Tensor:
        """Queries ``(n, query_dim)`` with the training questions' mean and deviation taken out."""
        return (queries - self.mean) / self.deviation

    def forward(self, queries: Tensor) -> Tensor:
        """Scores ``(n, 2)`` of Receiver and Sharer for standardised queries ``(n, query_dim)``."""
        vectors = normalize(self.models.weight, dim=-1)
        scores: Tensor = self.score(vectors[None] * self.query(queries)[:, None])
        return scores.squeeze(-1)


@dataclass
class Router:
    """A trained router.

    Args:
        network: Its weights.
        about: How it was trained; ``receiver`` is the model whose hidden states it reads.
    """

    network: MatrixFactorisation
    about: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def sharer_wins(self, queries: Tensor) -> Tensor:
        """Probability that the Sharer is the one that is right, ``(n,)``, for query vectors ``(n, query_dim)``."""
        scores = self.network(self.network.standardised(queries.float().cpu()))
        return (scores[:, SHARER] - scores[:, RECEIVER]).sigmoid()

    def save(self, folder: Path) -> None:
        """Write weights and description; a router that the folder held is replaced as a whole."""
        with exchange(folder, (WEIGHTS, ABOUT)) as unfinished:
            state = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
            save_file(state, unfinished / WEIGHTS)
            about = {"format": FORMAT, "weights_sha256": file_hash(unfinished / WEIGHTS), **self.about}
            (unfinished / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Read what `save` wrote.

        Raises:
            RefusedError: If there is no router, it is of another format, or a file does not hold what `save` wrote.
        """
        folder = current(folder)
        if missing := [name for name in (WEIGHTS, ABOUT) if not (folder / name).is_file()]:
            rule = f"A router must be a folder with {WEIGHTS} and {ABOUT}"
            raise RefusedError(rule, missing, TRAIN_AGAIN)
        about = read_object(folder / ABOUT, TRAIN_AGAIN)
        if (version := about.pop("format", None)) != FORMAT:
            raise RefusedError(f"{ABOUT} must have format {FORMAT}", version, TRAIN_AGAIN)
        if (hashed := file_hash(folder / WEIGHTS)) != about.pop("weights_sha256", None):
            raise RefusedError(f"{WEIGHTS} must be the file that {ABOUT} names", hashed, TRAIN_AGAIN)
        try:
            weights = load_file(folder / WEIGHTS)
            dim, query_dim = weights["query.weight"].shape
            network = MatrixFactorisation(query_dim, dim)
            network.load_state_dict(weights)
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise RefusedError(f"{WEIGHTS} must hold the weights of a router", str(error), TRAIN_AGAIN) from error
        if wrong := [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]:
            raise RefusedError(f"{WEIGHTS} must hold finite numbers", wrong, TRAIN_AGAIN)
        return cls(network.eval(), about)

    def check(self, receiver: str, hidden_size: int) -> None:
        """Refuse another Receiver than the one whose hidden states the router was trained on."""
        trained = (self.about.get("receiver", receiver), self.network.query.in_features)
        if trained != (receiver, hidden_size):
            raise RefusedError(
                f"A router must read the hidden states of the Receiver it was trained for: {trained}",
                (receiver, hidden_size),
                "Run c2c train-router for this pair",
            )


@torch.no_grad()
def query_vectors(reader: SingleReader, questions: Sequence[Question], token_budget: int) -> Tensor:
    """Mean of the last hidden states over each prompt as `reader` reads it, ``(n, hidden)`` float32 on the CPU."""
    lengths = [reader.length(question) for question in questions]
    model = reader.loaded.model
    vectors: dict[int, Tensor] = {}
    for batch in batches_of(range(len(questions)), lengths, token_budget):
        rows = [questions[place] for place in batch]
        texts = [reader.text(question) for question in rows]
        ids, mask, _ = tokenise(reader.loaded, texts, chat=bool(rows[0].messages))
        body: Any = model.base_model
        positions = kv_cache.positions_of(mask)
        states = body(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
        # (B, N, hidden) -> (B, hidden), without pads
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors.update(zip(batch, means.float().cpu(), strict=True))
    return torch.stack([vectors[place] for place in range(len(questions))])


def check_decisive(sharer_right: Tensor) -> int:
    """How often the Sharer was the one that was right, ``(n,)`` bool, if a router can learn from these questions.

    Raises:
        RefusedError: If there are fewer than ten, or one of the two models is right in none.
    """
    wins = int(sharer_right.sum())
    if len(sharer_right) < FEWEST or not 0 < wins < len(sharer_right):
        raise RefusedError(
            f"A router must learn from {FEWEST} questions or more of which exactly one model is right, each of them in "
            "some",
            f"{len(sharer_right)} such questions, the Sharer right in {wins}",
            "Answer more training questions (router.questions)",
        )
    return wins


def fit(queries: Tensor, sharer_right: Tensor, config: RouterSettings) -> Router:
    """Train a router on questions of which exactly one model was right.

    Ties, where both were right or both wrong, are left out beforehand, as in RouteLLM's matrix factorisation.

    Args:
        queries: ``(n, query_dim)``.
        sharer_right: ``(n,)`` bool: the Sharer was the one that was right.
        config: Sizes and training.

    Raises:
        RefusedError: If there are fewer than ten such questions, one of the two models is right in none, or a query is
            not finite.
    """
    if not bool(queries.isfinite().all()):
        rule = "The Receiver's hidden states must be finite numbers"
        raise RefusedError(
            rule, f"{int((~queries.isfinite()).sum())} that are not", "Choose --dtype float32 or bfloat16"
        )
    wins = check_decisive(sharer_right)
    # Weights, split and noise are drawn in this order from one seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = MatrixFactorisation(queries.shape[1], config.dim)
        network.mean.copy_(queries.mean(0))
        network.deviation.copy_(queries.std(0).clamp(min=1e-6))
        order = torch.randperm(len(queries))
        cut = max(1, round(config.held_out * len(queries)))
        signs = torch.where(sharer_right, 1.0, -1.0)
        inputs = network.standardised(queries)
        losses = _train_network(network, inputs, signs, order[cut:], order[:cut], config)
    about = {"config": asdict(config), "questions": len(queries), "sharer_right": wins, **losses}
    return Router(network.eval(), about)


def _train_network(
    network: MatrixFactorisation,
    inputs: Tensor,
    signs: Tensor,
    training_rows: Tensor,
    held_out: Tensor,
    config: RouterSettings,
) -> dict[str, float]:
    """Leave the weights of the best epoch in `network`; returns that epoch and the losses before training and at it."""
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)

    def loss(places: Tensor, noise: float) -> Tensor:
        scores = network(inputs[places] + noise * torch.randn(len(places), inputs.shape[1]))
        return -logsigmoid(signs[places] * (scores[:, SHARER] - scores[:, RECEIVER])).mean()

    def validation_loss() -> float:
        with torch.no_grad():
            return float(loss(held_out, 0.0))

    first = least = validation_loss()
    best, epoch = {name: tensor.clone() for name, tensor in network.state_dict().items()}, 0
    for number in range(1, config.epochs + 1):
        optimiser.zero_grad()
        loss(training_rows, config.noise).backward()
        optimiser.step()
        if (current_loss := validation_loss()) < least:
            least, epoch = current_loss, number
            best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(best)
    return {"epoch": epoch, "loss_untrained": first, "loss_held_out": least}


@dataclass(frozen=True, kw_only=True)
class RouterTrainingRun:
    """What one call of ``c2c train-router`` learns from.

    Args:
        receiver: Where the Receiver is, whose hidden states are the queries' vectors.
        records: Answers of the methods `receiver` and `sharer` to the questions.
        tasks: Folder of task files.
        benchmarks: The questions of each benchmark, of its training split.
        output: Folder of the router.
        prompts: As the records' questions were asked.
        dtype: Precision of the Receiver.
        token_budget: Tokens of a batch.
        seed: Of the router.
    """

    receiver: str
    records: Path
    tasks: Path
    benchmarks: Mapping[str, Path]
    output: Path
    prompts: str = "plain"
    dtype: str = "float32"
    token_budget: int = TOKEN_BUDGET
    seed: int = 0


def decisive(records: pd.DataFrame) -> pd.Series:
    """Of the questions that exactly one model answered correctly, whether it was the Sharer; index benchmark and id.

    Raises:
        RefusedError: If a question lacks the answer of one of the two models.
    """
    right = records[["benchmark", "question_id", "method"]].assign(right=mark(records))
    table = right.pivot(index=["benchmark", "question_id"], columns="method", values="right")
    if {"receiver", "sharer"} - set(table.columns) or table[["receiver", "sharer"]].isna().any().any():
        raise RefusedError(
            "A router must learn from questions that both models answered",
            f"answers of {', '.join(table.columns)}",
            "Run c2c generate --methods receiver sharer on them",
        )
    receiver, sharer = table["receiver"].astype(bool), table["sharer"].astype(bool)
    return sharer[receiver != sharer]


def train_router(run: RouterTrainingRun) -> dict[str, Any]:
    """Train and save a router.

    Returns:
        The description in ``router.json``.

    Raises:
        RefusedError: If an input is missing or does not fit, too few questions tell the models apart, or another
            training writes into the same folder.
    """
    with locked(run.output, "train a router"):
        return _train_router(run)


def _train_router(run: RouterTrainingRun) -> dict[str, Any]:
    records = read_records([run.records])
    prompts = sorted(set(records["prompts"]))
    if prompts != [run.prompts]:
        raise RefusedError(f"The records' prompts must be those of the run, {run.prompts}", prompts, "Pass --prompts")
    wins = decisive(records)
    sharer_right = torch.tensor(wins.to_numpy(dtype=bool))
    check_decisive(sharer_right)
    tasks = load_tasks(run.tasks, run.benchmarks)["tasks"]
    loaded = load_model(run.receiver, run.dtype)
    prompting.check_prompts(run.prompts, [loaded])
    questions = [question for task in tasks.values() for question in questions_of(task, run.prompts)]
    by_id = {(question.benchmark, str(question.doc["id"])): question for question in questions}
    if missing := [key for key in wins.index if key not in by_id]:
        raise RefusedError("The records must answer the questions that are given", missing[0], "Pass the same files")
    vectors = query_vectors(SingleReader(loaded), [by_id[key] for key in wins.index], run.token_budget)
    router = fit(vectors, sharer_right, RouterSettings(seed=run.seed))
    answered = records.groupby(["benchmark", "question_id"]).ngroups
    router.about |= {"receiver": loaded.name, "prompts": run.prompts, "benchmarks": sorted(run.benchmarks)}
    router.about |= {"answered": answered, "ties": answered - len(wins)}
    Router.save(router, run.output)
    return router.about


def sharer_half(priorities: Sequence[float]) -> set[int]:
    """Places of the half of the questions that goes to the Sharer: those with the highest priorities."""
    order = sorted(range(len(priorities)), key=lambda place: (-priorities[place], place))
    return set(order[: len(priorities) // 2])


class RoutingMethod(Method):
    """The Sharer answers the half of the questions that a router chooses, the Receiver the others.

    Both methods of routing have the same budget, so that their answers differ by the choice alone.

    Args:
        name: Of the method.
        receiver: Answers one half.
        sharer: Answers the other.
    """

    def __init__(self, name: str, receiver: Method, sharer: Method) -> None:
        super().__init__(name, receiver.reader, receiver.token_budget)
        self.receiver, self.sharer = receiver, sharer

    @property
    def writers(self) -> tuple[LoadedModel, ...]:
        """Both models."""
        return self.receiver.models + self.sharer.models

    @abstractmethod
    def priorities(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """The confidence in each question that records hold, and its priority for the Sharer."""

    @abstractmethod
    def routing_seconds(self, question: Question, to_sharer: bool) -> float:
        """Seconds that the choice took in addition to the answer."""

    def _answer_benchmark(self, questions: Sequence[Question]) -> None:
        # 1. The half with the highest priorities goes to the Sharer
        confidences, priorities = self.priorities(questions)
        to_sharer = sharer_half(priorities)
        to_receiver = [place for place in range(len(questions)) if place not in to_sharer]
        # 2. Each model answers its half
        answers: dict[int, Answer] = {}
        for method, places in ((self.receiver, to_receiver), (self.sharer, sorted(to_sharer))):
            answers |= dict(zip(places, method.answer([questions[place] for place in places]), strict=True))
        # 3. Answers with what the choice rests on, and what it cost
        for place, question in enumerate(questions):
            answer = replace(answers[place], confidence=confidences[place])
            answer.routed_to = "sharer" if place in to_sharer else "receiver"
            answer.time_s += self.routing_seconds(question, place in to_sharer)
            self.answers[question.benchmark, question.number] = answer


class ConfidenceRouting(RoutingMethod):
    """The half of which the Receiver is least sure goes to the Sharer.

    The Receiver's confidence is the geometric mean probability of its greedy tokens, or the probability of its best
    option among all options.
    """

    def __init__(self, receiver: Method, sharer: Method) -> None:
        super().__init__("routing", receiver, sharer)

    def priorities(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """The Receiver's confidence; the priority is its negative."""
        confidences = [answer.confidence or 0.0 for answer in self.receiver.answer(questions)]
        return confidences, [-confidence for confidence in confidences]

    def routing_seconds(self, question: Question, to_sharer: bool) -> float:
        """The time of the Receiver's answer: its confidence needs that answer, too."""
        return self.receiver.answers[question.benchmark, question.number].time_s if to_sharer else 0.0


class LearnedRouting(RoutingMethod):
    """The half with the highest probability, by a trained router, that the Sharer is right goes to the Sharer.

    Args:
        receiver: Answers the other half; its model reads every prompt for the router.
        sharer: Answers its half.
        router: Trained for this Receiver.
    """

    def __init__(self, receiver: Method, sharer: Method, router: Router) -> None:
        super().__init__("routing_trained", receiver, sharer)
        assert isinstance(receiver.reader, SingleReader)
        self.router, self.query_reader = router, receiver.reader
        loaded = self.query_reader.loaded
        router.check(loaded.name, loaded.model.config.get_text_config().hidden_size)
        self._seconds = 0.0

    def priorities(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """The probability that the Sharer is the one that is right, for both; 0 for a question that is refused."""
        started = time.perf_counter()
        panel = self.panel or self.models
        places = [place for place, question in enumerate(questions) if fits(question, panel)]
        wins = [0.0] * len(questions)
        if places:
            vectors = query_vectors(self.query_reader, [questions[place] for place in places], self.token_budget)
            for place, chance in zip(places, self.router.sharer_wins(vectors).tolist(), strict=True):
                wins[place] = chance
        self._seconds = (time.perf_counter() - started) / len(questions)
        return wins, wins

    def routing_seconds(self, question: Question, to_sharer: bool) -> float:
        """An equal share of the time in which the Receiver read all prompts for their vectors."""
        return self._seconds


def build_by_confidence(name: str, inputs: MethodInputs) -> ConfidenceRouting:
    """Routing by the Receiver's confidence; the answers are those of the methods `receiver` and `sharer`."""
    return ConfidenceRouting(inputs.build("receiver"), inputs.build("sharer"))


def build_by_router(name: str, inputs: MethodInputs) -> LearnedRouting:
    """Routing by a trained router; the answers are those of the methods `receiver` and `sharer`."""
    return LearnedRouting(inputs.build("receiver"), inputs.build("sharer"), Router.load(Path(inputs.router)))
