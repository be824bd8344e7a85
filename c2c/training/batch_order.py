"""Which examples make which batch: seeded, of similar length, each example once an epoch, entered at any step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import pstdev

import torch

from c2c.training.examples import Example

WINDOW = 32
"""Batches that are sorted together. More pad less, but an example then meets the same neighbours in each epoch."""

Lengths = Sequence[tuple[int, int]]
"""Tokens of each example's prompt and of its response, which are padded apart."""


def lengths_of(examples: Sequence[Example]) -> Lengths:
    """Prompt and response tokens of each example; a stored set has them without decoding any."""
    lengths: Lengths | None = getattr(examples, "lengths", None)
    if lengths is not None:
        return lengths
    return [(len(example.prompt.receiver_ids), len(example.response_ids)) for example in examples]


def batch_order(
    lengths: Lengths, batch_size: int, seed: int, start: int = 0, window: int = WINDOW
) -> Iterator[list[int]]:
    """Endless batches of indices; each epoch is a new seeded permutation, and batches run over its end into the next.

    An epoch is shuffled, sorted by length inside windows of `window` batches, cut into batches, and the batches are
    shuffled. The batch that lies across two epochs is not sorted.

    Args:
        lengths: Tokens of each example.
        batch_size: B, indices a batch.
        seed: Fixes all epochs.
        start: Number of batches to leave out, so that a resumed run continues where it stopped.
        window: Batches sorted together; 1 keeps the shuffled order.
    """
    epochs: dict[int, list[int]] = {}

    def at(position: int) -> int:
        epoch, offset = divmod(position, len(lengths))
        # Positions only rise, so that one epoch is held at a time.
        if epoch not in epochs:
            epochs.clear()
            epochs[epoch] = _epoch(epoch, lengths, batch_size, seed, window)
        return epochs[epoch][offset]

    batch = start
    while True:
        yield [at(batch * batch_size + row) for row in range(batch_size)]
        batch += 1


def _epoch(epoch: int, lengths: Lengths, batch_size: int, seed: int, window: int) -> list[int]:
    """One epoch in the order of training. Its first examples fill up the batch that the epoch before left open."""
    # One generator an epoch, so that any epoch can be entered without drawing those before it; the factor is prime.
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    permutation = torch.randperm(len(lengths), generator=generator).tolist()
    if window == 1:
        return permutation
    # The head fills the batch that the epoch before left open; what is left after the last whole batch is the tail.
    head = min(-epoch * len(lengths) % batch_size, len(permutation))
    end = head + (len(permutation) - head) // batch_size * batch_size
    body, size = permutation[head:end], window * batch_size
    indices = [
        index for at in range(0, len(body), size) for index in by_length(body[at : at + size], lengths, batch_size)
    ]
    # Batches of similar length are shuffled, so that lengths do not rise within a window.
    batches = [indices[at : at + batch_size] for at in range(0, len(indices), batch_size)]
    places = torch.randperm(len(batches), generator=generator).tolist()
    return [*permutation[:head], *(index for place in places for index in batches[place]), *permutation[end:]]


def by_length(indices: Sequence[int], lengths: Lengths, batch_size: int) -> list[int]:
    """Indices in an order whose batches are alike in both lengths: stripes of responses, each sorted by the prompt.

    The more the responses differ, compared with the prompts, the more stripes: their number balances the pads of both.
    """
    # The spread of both lengths
    prompts, responses = (pstdev(lengths[index][part] for index in indices) for part in (0, 1))
    batches = math.ceil(len(indices) / batch_size)
    # A stripe of k batches pads responses by about spread / stripes, prompts by spread / k; the root balances them.
    stripes = min(max(round(math.sqrt(batches * responses / prompts)), 1), batches) if prompts else batches
    size = math.ceil(batches / stripes) * batch_size
    by_response = sorted(indices, key=lambda index: lengths[index][1])
    parts = [by_response[at : at + size] for at in range(0, len(indices), size)]
    return [index for part in parts for index in sorted(part, key=lambda index: lengths[index][0])]


def padding(batches: Sequence[Sequence[int]], lengths: Lengths) -> float:
    """Share of pads among the Receiver's columns of some batches of plain prompts, 0 to 1."""
    tokens = columns = 0
    for batch in batches:
        tokens += sum(sum(lengths[index]) for index in batch)
        columns += len(batch) * sum(max(lengths[index][part] for index in batch) for part in (0, 1))
    return 1 - tokens / columns
