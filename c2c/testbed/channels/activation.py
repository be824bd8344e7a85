"""Activations: hidden states of one layer of the Sharer, put between two layers of the Receiver.

After Ramesh and Li, "Communicating Activations Between Language Model Agents" (arXiv 2501.14082): the Receiver stops
before a layer, its activation of a token is replaced with the Sharer's of its last token, or both are added, and it
continues. A linear map takes activations from one model's space to the other's; it is fitted here by ridge regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2c.settings import check_values, setting
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext, TrainingItem, TrainingResult
from c2c.testbed.channels.hidden import hook_layer, layer_at, read_hidden, read_prompts
from c2c.testbed.channels.ridge import RidgeMap, numbers_to_fit
from c2c.testbed.models import Models, place_columns

TOKENS = ("last", "places")
COMBINATIONS = ("replace", "add")


@dataclass(frozen=True)
class ActivationSettings:
    """Which activation is sent, and where it goes.

    Args:
        sharer_layer: Share of the Sharer's layers that have been computed.
        receiver_layer: Share of the Receiver's.
        tokens: ``last``: one vector of each text, that of its last token, for all places. ``places``: a vector for
            each token of the places.
        combination: ``replace`` or ``add``.

    Raises:
        RefusedError: If a value is out of its bounds.
    """

    sharer_layer: float = setting(0.5, "layer of the Sharer, as a share of its depth", least=0, most=1)
    receiver_layer: float = setting(1 / 3, "layer of the Receiver, as a share of its depth", least=0, most=1)
    tokens: str = setting("last", "which tokens", choices=TOKENS)
    combination: str = setting("replace", "how it is combined with the Receiver's", choices=COMBINATIONS)

    def __post_init__(self) -> None:
        check_values(self)


class Activation:
    """One vector ``(1, 1, hidden)`` of the Sharer for each of its texts: the activation of the last token.

    All places of an item get the same vector (of several texts their mean), so no more than one token's value can
    arrive.
    """

    needs_places = True
    """All places get one vector, so that a prefix that is fused whole would hold nothing else."""
    settings = ActivationSettings()
    map: RidgeMap

    def __init__(self, models: Models) -> None:
        self.models = models

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Fit what the Receiver has at its places of the target text, or what it lacks of that, to the message."""
        examples = [training[number] for number in numbers_to_fit(training)]
        inputs = [
            self._vectors(message, example.context.tokens)
            for message, example in zip(self.send([e.context for e in examples]), examples, strict=True)
        ]
        receiver, layer = self.models.receiver, self._receiver_layer()
        targets = [receiver.tokens_of(example.target)[0] for example in examples]
        states = read_hidden(receiver, [ids for _, ids, _ in targets], layer)
        outputs = [part[places] for part, (_, _, places) in zip(states, targets, strict=True)]
        if self.settings.combination == "add":
            redacted = read_hidden(receiver, [example.prompt.tokens for example in examples], layer)
            outputs = [
                part - states[list(example.prompt.places)]
                for part, states, example in zip(outputs, redacted, examples, strict=True)
            ]
        self.map = RidgeMap.fit(torch.cat(inputs), torch.cat(outputs))
        curve = [{"step": 0, "explained": self.map.explained, "penalty": self.map.penalty}]
        return TrainingResult(self.map.parameters, curve=curve)

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Hidden states of the last token of each text, ``(1, texts, hidden)``, or of the tokens of the places."""
        sharer, has_places = self.models.sharer, self.settings.tokens == "places"
        rows = [row for context in contexts for row in sharer.tokens_of(context)]
        states = iter(read_hidden(sharer, [ids for _, ids, _ in rows], layer_at(sharer, self.settings.sharer_layer)))
        messages = []
        for context in contexts:
            parts = {
                number: next(states)[places if has_places else [-1]] for number, _, places in sharer.tokens_of(context)
            }
            vectors = _by_span(context, parts) if has_places else torch.cat(list(parts.values()))
            messages.append(Message({"activations": vectors[None].to(sharer.model.dtype)}))
        return messages

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers of the Receiver, which reads its prompt with the mapped activations at the places of one layer."""
        receiver, layer = self.models.receiver, self._receiver_layer()

        @torch.no_grad()
        def receive(batch: Sequence[Prompt], numbers: Sequence[int]) -> list[ReceiverAnswer]:
            counts = [len(prompt.places) for prompt in batch]
            rows = [self._vectors(messages[number], count) for number, count in zip(numbers, counts, strict=True)]
            vectors = self.map(torch.cat(rows))
            index, taken = place_columns(batch, receiver.prefixes(batch))
            # Rows of the batch, and columns, of all tokens of all places: (sum of n,)
            lines, columns = taken.nonzero()[:, 0], index[taken]

            def combine(hidden_states: Tensor) -> Tensor:
                states = hidden_states.clone()
                rest = states[lines, columns].float() if self.settings.combination == "add" else 0
                states[lines, columns] = (rest + vectors).to(states.dtype)
                return states

            with hook_layer(receiver.model, layer, combine):
                prefixes = read_prompts(receiver, batch)
            return receiver.answer(batch, prefixes)

        return self.models.in_batches(receive, prompts)

    def _receiver_layer(self) -> int:
        return layer_at(self.models.receiver, self.settings.receiver_layer)

    def _vectors(self, message: Message, tokens: int) -> Tensor:
        """A vector for each token of the places, ``(n, hidden)`` float32."""
        (vectors,) = message.tensors["activations"].float()
        return vectors if self.settings.tokens == "places" else vectors.mean(0).expand(tokens, -1)


class ActivationsAtPlaces(Activation):
    """The same with a vector for each token of the places, ``(1, n, hidden)``, as many as other channels send."""

    needs_places = False
    settings = ActivationSettings(tokens="places")


def _by_span(context: SharerContext, parts: dict[int, Tensor]) -> Tensor:
    """Vectors of the texts' places, ``(n, hidden)`` by text, in the order of the context's spans."""
    counts, pieces = dict.fromkeys(parts, 0), []
    for number, span in context.spans:
        pieces.append(parts[number][counts[number] : counts[number] + span.tokens])
        counts[number] += span.tokens
    return torch.cat(pieces)
