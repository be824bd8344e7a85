"""Hand-over of a model's own cache in some layers, between two copies of it.

After KVComm (arXiv 2510.03346), where one model's keys and values of selected layers go to another copy of it, without
training. There layers are chosen by attention scores together with a Gaussian prior around a middle layer; here by the
prior alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from c2c.errors import RefusedError
from c2c.settings import check_values, setting
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext
from c2c.testbed.channels.states import message_of, states_of
from c2c.testbed.models import Models


@dataclass(frozen=True)
class HandOverSettings:
    """Which layers are handed over.

    Args:
        share: Share of the layers.
        centre: Share of the depth around which they lie.
    """

    share: float = setting(0.7, "share of the layers", above=0, most=1)
    centre: float = setting(0.5, "depth of the most likely layer", least=0, most=1)

    def __post_init__(self) -> None:
        check_values(self)


class Layerwise:
    """Keys and values ``(L, H, n, D)`` of the layers nearest to a centre; the other layers stay the Receiver's own.

    Raises:
        RefusedError: If Sharer and Receiver are not the same model.
    """

    settings = HandOverSettings()

    def __init__(self, models: Models) -> None:
        if not is_same_model(models):
            raise RefusedError(
                "The Sharer of a layer-wise hand-over must be the Receiver's own model",
                f"{models.sharer.loaded.name} for {models.receiver.loaded.name}",
                "Leave the channel layerwise out for a pair of different models",
            )
        models.receiver.check_rotation()
        self.models = models

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers that are handed over."""
        count, settings = self.models.receiver.shape.layers, self.settings
        centre = settings.centre * (count - 1)
        return sorted(
            sorted(range(count), key=lambda layer: abs(layer - centre))[: max(round(settings.share * count), 1)]
        )

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Keys without rotation and values at the places, of the layers that are handed over."""
        return [message_of(states[self.layers]) for states in self.models.sharer.states(contexts)]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers with these states in the places, in their layers."""
        receiver, shape = self.models.receiver, self.models.receiver.shape

        def receive(batch: Sequence[Prompt], numbers: Sequence[int]) -> list[ReceiverAnswer]:
            messages_of_layers = []
            for number in numbers:
                states = states_of(messages[number])
                # (L, 2, H, n, D) -> (T, 2, H, n, D); the other layers are not used
                messages_of_layers.append(states.new_zeros(shape.layers, *states.shape[1:]))
                messages_of_layers[-1][self.layers] = states
            prefixes, replacement = receiver.prefixes(batch), receiver.replaced(batch, messages_of_layers)
            layers = [(replacement if n in self.layers else prefixes).layers[n] for n in range(shape.layers)]
            return receiver.answer(batch, replace(prefixes, layers=layers))

        return self.models.in_batches(receive, prompts)


def is_same_model(models: Models) -> bool:
    """Whether Sharer and Receiver have the same weights and read the same tokens."""
    receiver, sharer = models.receiver, models.sharer
    if receiver.model is sharer.model:
        return True
    weights, others = receiver.model.state_dict(), sharer.model.state_dict()
    return (
        weights.keys() == others.keys()
        and receiver.tokenizer.get_vocab() == sharer.tokenizer.get_vocab()
        and all(
            tensor.shape == others[name].shape and torch.equal(tensor, others[name].to(tensor.device))
            for name, tensor in weights.items()
        )
    )
