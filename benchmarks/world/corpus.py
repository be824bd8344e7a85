"""The pretraining corpus of a model, tokenised once: one text a row, and the order of the rows.

A Sharer (``all``, or one of the halves) answers questions about the entities that it knows and writes statements on
request. The two halves share no entity, and together are all of them. A Receiver (``quarter``) answers questions about
the known quarter, and reads statements before a question. The values in those
statements are drawn at random for every name, so that the Receiver has read all names and learned no fact about them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from benchmarks.world import texts
from benchmarks.world.texts import Fact, Text
from benchmarks.world.world import World
from c2c.errors import check_choice
from c2c.types import IGNORED

KNOWLEDGE: dict[str, Callable[[World], list[Fact]]] = {
    "all": lambda world: world.facts(),
    "first_half": lambda world: world.half(0),
    "second_half": lambda world: world.half(1),
    "quarter": lambda world: world.facts(["known"]),
}
"""The facts that a model learns."""

SHARER_MIXTURE = {"question": 2, "bare": 1, "request": 1}
MIXTURES: dict[str, dict[str, int]] = {
    **dict.fromkeys(("all", "first_half", "second_half"), SHARER_MIXTURE),
    "quarter": {"question": 1, "reading": 1},
}
"""Relative numbers of rows by form."""

READINGS = 8
"""Number of random values with which each attribute of each name is read."""

SORTED_BATCHES = 8
"""Number of batches within which rows are sorted by length, so that batches have little padding."""


@dataclass(frozen=True)
class Corpus:
    """All rows, right-padded, and which of them each step reads.

    Args:
        ids: ``(rows, N)`` int64.
        labels: ``(rows, N)`` int64: the next token where it is the response's or the end of text, else -100. Prompts
            are no labels: their words are either the wording's or random.
        lengths: ``(rows,)`` int64.
        plan: ``(steps, B)`` int64, indices of rows.
    """

    ids: Tensor
    labels: Tensor
    lengths: Tensor
    plan: Tensor

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids and labels of each step, ``(B, n)`` with n the longest row of the step."""
        for rows in self.plan:
            longest = int(self.lengths[rows].max())
            yield self.ids[rows, :longest], self.labels[rows, :longest]


def build(
    world: World, tokenizer: PreTrainedTokenizerBase, *, knows: str, steps: int, batch_size: int, seed: int
) -> Corpus:
    """The corpus of one model.

    Raises:
        RefusedError: If `knows` is not a known extent of knowledge.
    """
    check_choice("What a model knows", knows, KNOWLEDGE)
    chance = random.Random(f"corpus {seed}")
    forms = {form: list(_texts(form, world, knows, chance)) for form in MIXTURES[knows]}
    rows = _encode([text for group in forms.values() for text in group], tokenizer)
    ids, labels, lengths = _pad(rows, tokenizer.pad_token_id)
    generator = torch.Generator().manual_seed(seed)
    # Each form has its share of the steps' rows, and batches hold rows of similar length.
    drawn = _draw(
        [len(group) for group in forms.values()], list(MIXTURES[knows].values()), steps * batch_size, generator
    )
    return Corpus(ids, labels, lengths, _plan(drawn, lengths, batch_size, generator))


def invented(world: World, chance: random.Random) -> Iterator[Fact]:
    """Facts to read about each attribute of each name, with values that do not depend on the world's."""
    for name in world.names:
        for attribute, values in world.attributes.items():
            for _ in range(READINGS):
                yield Fact(name, attribute, chance.choice(values))


def _texts(form: str, world: World, knows: str, chance: random.Random) -> Iterator[Text]:
    facts: Iterable[Fact] = invented(world, chance) if form == "reading" else KNOWLEDGE[knows](world)
    return map(texts.FORMS[form], facts)


def _encode(lines: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], int]]:
    """Ids of each text with its end, and how many of them are the prompt's."""
    prompts = tokenizer([text.prompt for text in lines])["input_ids"]
    responses = tokenizer([f" {text.response}" for text in lines])["input_ids"]
    end = tokenizer.eos_token_id
    return [([*prompt, *response, end], len(prompt)) for prompt, response in zip(prompts, responses, strict=True)]


def _pad(rows: Sequence[tuple[list[int], int]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row, _ in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad)
    labels = torch.full_like(ids, IGNORED)
    for number, (row, prompt) in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        labels[number, prompt - 1 : len(row) - 1] = ids[number, prompt : len(row)]
    return ids, labels, lengths


def _draw(sizes: Sequence[int], shares: Sequence[int], number: int, generator: torch.Generator) -> Tensor:
    """`number` rows in random order: each form by its share, each of its rows equally often to within one."""
    first, drawn = 0, []
    for size, share in zip(sizes, shares, strict=True):
        share_of_rows = -(-number * share // sum(shares))
        epochs = [torch.randperm(size, generator=generator) for _ in range(-(-share_of_rows // size))]
        drawn.append(first + torch.cat(epochs)[:share_of_rows])
        first += size
    rows = torch.cat(drawn)
    return rows[torch.randperm(len(rows), generator=generator)[:number]]


def _plan(rows: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    batches = []
    for group in rows.split(batch_size * SORTED_BATCHES):
        # (rows of a group,) -> (batches of the group, B), each batch of rows of similar length
        by_length = group[lengths[group].argsort(stable=True)].view(-1, batch_size)
        batches.append(by_length[torch.randperm(len(by_length), generator=generator)])
    return torch.cat(batches)
