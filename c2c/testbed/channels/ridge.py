"""The closed form: the Receiver's states at the places, predicted from the Sharer's by ridge regression.

One row is a token. X holds the Sharer's keys, without rotation, and values of all layers, standardised; Y the
Receiver's of its own text with the value at the place. With K = X X', the dual form of the solution for a penalty λ is
``A = (K + λ I)^-1 (Y - mean)``, and a prediction ``mean + z X' A``. Its leave-one-out residuals are ``A / diag((K + λ
I)^-1)`` (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 7.10): they choose λ, and a
Fuser on top learns from leave-one-out predictions, since those of the rows that were fitted are too good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext, TrainingItem, TrainingResult
from c2c.testbed.channels.states import (
    answer_with_states,
    flatten_tokens,
    message_of,
    states_of,
    unflatten_tokens,
)
from c2c.testbed.models import Models, States

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of which leave-one-out errors choose one, as shares of the mean diagonal of K."""
CHOICE_COLUMNS = 512
"""Columns of Y whose errors choose it."""
MOST_ROWS = 8_000
"""Tokens that are fitted at most; of more, evenly spaced ones are taken."""


@dataclass(frozen=True)
class RidgeMap:
    """A fitted regression; see the module.

    Args:
        inputs: Standardised X ``(N, F)``.
        mean: Of X ``(F,)``.
        scale: Of X ``(F,)``.
        dual: A ``(N, G)``.
        offset: Mean of Y ``(G,)``.
        penalty: λ as a share of the mean diagonal.
        held_out: Leave-one-out predictions ``(N, G)`` of the fitted rows.
        explained: Share of the variance of Y that they explain.
    """

    inputs: Tensor
    mean: Tensor
    scale: Tensor
    dual: Tensor
    offset: Tensor
    penalty: float
    held_out: Tensor
    explained: float

    @classmethod
    def fit(cls, inputs: Tensor, outputs: Tensor) -> RidgeMap:
        """Fit rows ``(N, F)`` to rows ``(N, G)``, both float32; the penalty is chosen by leave-one-out errors."""
        # 1. Standardise; a feature that never changes is divided by a small number.
        mean, spread = inputs.mean(0), inputs.std(0)
        scale = spread + 1e-3 * inputs.std() + 1e-12
        rows, offset = (inputs - mean) / scale, outputs.mean(0)
        centred = outputs - offset
        # 2. One decomposition serves every penalty: (N, N)
        values, vectors = torch.linalg.eigh((rows @ rows.T).double())
        size = float(values.clamp(min=0).mean()) or 1.0
        step = max(outputs.shape[1] // CHOICE_COLUMNS, 1)
        sample = vectors.T @ centred[:, ::step].double()

        def residuals(penalty: float, projected: Tensor) -> tuple[Tensor, Tensor]:
            weights = 1 / (values.clamp(min=0) + penalty * size)
            dual = vectors @ (weights[:, None] * projected)
            return dual, dual / (vectors.square() @ weights)[:, None]

        penalty = min(PENALTIES, key=lambda share: float(residuals(share, sample)[1].square().sum()))
        # 3. The solution, and what it predicts of each row without that row.
        weights = 1 / (values.clamp(min=0) + penalty * size)
        inverse = ((vectors * weights) @ vectors.T).float()
        dual = inverse @ centred
        errors = dual / inverse.diagonal()[:, None]
        explained = 1 - float(errors.square().sum() / centred.square().sum().clamp(min=1e-12))
        return cls(rows, mean, scale, dual, offset, penalty, outputs - errors, explained)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Predict rows ``(n, G)`` from rows ``(n, F)``."""
        return ((inputs - self.mean) / self.scale) @ self.inputs.T @ self.dual + self.offset

    @property
    def parameters(self) -> int:
        """Numbers of the map from F to G and its offset."""
        return self.inputs.shape[1] * self.dual.shape[1] + self.dual.shape[1]


def numbers_to_fit(training: Sequence[TrainingItem]) -> range:
    """Numbers of the examples that are fitted: evenly spaced ones, if all have more than `MOST_ROWS` tokens."""
    tokens = sum(example.context.tokens for example in training)
    return range(0, len(training), max(-(-tokens // MOST_ROWS), 1))


def fit_examples(models: Models, training: Sequence[TrainingItem]) -> tuple[RidgeMap, list[States]]:
    """Fit the Receiver's states at the value to the Sharer's, over all tokens of all places.

    Returns:
        The closed form, and its prediction for each example, ``(T, 2, H, n, D)``: a leave-one-out prediction where the
        example was fitted.
    """
    numbers = numbers_to_fit(training)
    inputs = models.sharer.states([example.context for example in training])
    outputs = models.receiver.states([training[number].target for number in numbers])
    fit = RidgeMap.fit(flatten_tokens([inputs[number] for number in numbers]), flatten_tokens(outputs))
    # Predictions: rows of the examples that were fitted, and of the others.
    counts = [example.context.tokens for example in training]
    held_out = unflatten_tokens(fit.held_out, [counts[number] for number in numbers], outputs[0])
    result = dict(zip(numbers, held_out, strict=True))
    for number in set(range(len(training))) - set(numbers):
        result[number] = unflatten_tokens(fit(flatten_tokens([inputs[number]])), [counts[number]], outputs[0])[0]
    return fit, [result[number] for number in range(len(training))]


def predict_states(models: Models, fit: RidgeMap, messages: Sequence[Message]) -> list[States]:
    """The Receiver's states that messages of the Sharer's states predict, ``(T, 2, H, n, D)`` each."""
    states = [states_of(message) for message in messages]
    shape, first = models.receiver.shape, states[0]
    like = first.new_zeros(shape.layers, 2, shape.heads, 1, shape.head_dim)
    return unflatten_tokens(fit(flatten_tokens(states)), [part.shape[3] for part in states], like)


class Ridge:
    """The closed form alone."""

    fit_of_pair: RidgeMap

    def __init__(self, models: Models) -> None:
        models.sharer.check_rotation()
        models.receiver.check_rotation()
        self.models = models

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Fit the regression; it draws nothing, so seeds differ by their examples alone."""
        self.fit_of_pair, _ = fit_examples(self.models, training)
        curve = [{"step": 0, "explained": self.fit_of_pair.explained, "penalty": self.fit_of_pair.penalty}]
        return TrainingResult(self.fit_of_pair.parameters, curve=curve)

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Keys without rotation and values of the Sharer at the places."""
        return [message_of(states) for states in self.models.sharer.states(contexts)]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers with the predicted states in the places."""
        return answer_with_states(self.models, predict_states(self.models, self.fit_of_pair, messages), prompts)
