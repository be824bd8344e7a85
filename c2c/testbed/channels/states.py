"""Messages that are keys and values, and what the Receiver does with states that take the places of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from c2c.testbed.channel import Message, Prompt, ReceiverAnswer
from c2c.testbed.controls import KEYS, VALUES
from c2c.testbed.models import Models, States


def message_of(states: States) -> Message:
    """States ``(T, 2, H, n, D)`` as a message: keys ``(T, H, n, D)`` and values."""
    return Message({KEYS: states[:, 0], VALUES: states[:, 1]})


def states_of(message: Message) -> States:
    """The states ``(T, 2, H, n, D)`` of a message that `message_of` made."""
    return torch.stack((message.tensors[KEYS], message.tensors[VALUES]), dim=1)


def flatten_tokens(states: Sequence[States]) -> torch.Tensor:
    """All tokens of all states, each a row of all layers, halves and heads, ``(sum of n, T * 2 * H * D)`` float32."""
    # (T, 2, H, n, D) -> (n, T, 2, H, D) -> (n, T * 2 * H * D)
    return torch.cat([part.permute(3, 0, 1, 2, 4).flatten(1).float() for part in states])


def unflatten_tokens(rows: torch.Tensor, counts: Sequence[int], like: States) -> list[States]:
    """States of the shape of `like` from rows of `flatten_tokens`, with `counts` tokens each."""
    layers, halves, heads, _, width = like.shape
    # (n, T * 2 * H * D) -> (n, T, 2, H, D) -> (T, 2, H, n, D)
    return [part.view(-1, layers, halves, heads, width).permute(1, 2, 3, 0, 4) for part in rows.split(list(counts))]


def answer_with_states(models: Models, states: Sequence[States], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
    """Answers of the Receiver whose places hold these states, keys without rotation."""
    receiver = models.receiver

    def receive(batch: Sequence[Prompt], numbers: Sequence[int]) -> list[ReceiverAnswer]:
        return receiver.answer(batch, receiver.replaced(batch, [states[number] for number in numbers]))

    return models.in_batches(receive, prompts)
