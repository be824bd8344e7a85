"""Messages other than the matched one, made for every channel without its help.

``matched`` is the item's own. ``deranged`` is that of another item with another value and as many tokens, ``random``
has the moments of real messages, ``zeroed`` is zeros, ``keys`` has its own keys and the other item's values, ``values``
the reverse. ``self`` is what the Sharer makes of the Receiver's own text; `c2c.testbed.run` sends it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from c2c.alignment.derangement import nearest_permutation
from c2c.testbed.channel import Message

KEYS, VALUES = "keys", "values"


def donors(messages: Sequence[Message], lengths: Sequence[int], values: Sequence[str], seed: int) -> list[int]:
    """For each item the number of another one with another value and a message of the same shape, near in length.

    An item for which there is none within a permutation keeps its own number; no record is made of its control.

    Args:
        messages: Of all items.
        lengths: Tokens of each prompt.
        values: The right answers.
        seed: Of the draw among near items.
    """
    chosen = list(range(len(messages)))
    groups: dict[object, list[int]] = {}
    for number, message in enumerate(messages):
        groups.setdefault(message.shape, []).append(number)
    for numbers in groups.values():
        golds = np.array([values[number] for number in numbers], dtype=object)
        allowed = golds[:, None] != golds[None, :]
        for number, partner in zip(
            numbers, nearest_permutation([lengths[n] for n in numbers], allowed, seed), strict=True
        ):
            if values[number] != values[numbers[partner]]:
                chosen[number] = numbers[partner]
    return chosen


def zeroed(messages: Sequence[Message]) -> list[Message]:
    """The messages with zeros in all tensors and no text."""
    return [Message(message.with_tensors(lambda _, tensor: torch.zeros_like(tensor)).tensors) for message in messages]


def random_like(messages: Sequence[Message], seed: int) -> list[Message]:
    """Messages drawn from a normal distribution with the mean and covariance of real ones, by group of features.

    The tokens of all messages of one kind are its sample: with ``M`` of them, centred rows ``C`` ``(M, F)`` and
    standard normal numbers ``e`` ``(n, M)``, the rows ``mean + e C / sqrt(M - 1)`` have the sample's mean and
    covariance in expectation, also where there are fewer tokens than features. Integers, which may be packed or name
    something, have no such moments: each number is that of a token drawn at random, for each feature anew. The
    messages have no text.
    """
    generator = torch.Generator().manual_seed(seed)
    names = sorted({name for message in messages for name in message.tensors})
    drawn: list[dict[str, Tensor]] = [{} for _ in messages]
    for name in names:
        numbers = [number for number, message in enumerate(messages) if name in message.tensors]
        tensors = [messages[number].tensors[name] for number in numbers]
        # n x (*groups, tokens, F) -> (groups, M, F)
        whole = torch.cat([tensor.reshape(-1, *tensor.shape[-2:]) for tensor in tensors], dim=1)
        if not whole.is_floating_point():
            for number, tensor in zip(numbers, tensors, strict=True):
                size = (whole.shape[0], tensor.shape[-2], whole.shape[2])
                tokens = torch.randint(whole.shape[1], size, generator=generator).to(whole.device)
                drawn[number][name] = whole.gather(1, tokens).reshape(tensor.shape)
            continue
        rows = whole.float()
        mean = rows.mean(1, keepdim=True)
        centred = (rows - mean) / max(rows.shape[1] - 1, 1) ** 0.5
        for number, tensor in zip(numbers, tensors, strict=True):
            # (groups, tokens, M) @ (groups, M, F) -> (groups, tokens, F)
            noise = torch.randn(rows.shape[0], tensor.shape[-2], rows.shape[1], generator=generator)
            sample = mean + noise.to(rows.device) @ centred
            drawn[number][name] = sample.reshape(tensor.shape).to(tensor.dtype)
    return [Message(tensors) for tensors in drawn]


def has_halves(message: Message) -> bool:
    """Whether a message has keys and values that can be parted."""
    names = message.tensors
    return any(KEYS in name for name in names) and any(VALUES in name for name in names)


def with_half_of(message: Message, other: Message, half: str) -> Message:
    """The message with the tensors of one half, ``keys`` or ``values``, taken from another one of its shape."""
    return message.with_tensors(lambda name, tensor: other.tensors[name] if half in name else tensor)
