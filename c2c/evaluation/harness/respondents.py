"""Who answers lm-eval's requests: one model alone, a fused model, or a method that asks several models."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.instance import Instance
from tqdm import tqdm

from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import DecodingState
from c2c.evaluation.answers.batches import batches_of
from c2c.evaluation.answers.likelihood import score_tokens
from c2c.evaluation.answers.writing import write_answers
from c2c.evaluation.harness.requests import Encoder, Item, Writing, question_of, writing_of
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import positions
from c2c.models.loading import LoadedModel

Weight = tuple[float, bool]
"""Log-likelihood in nats, and whether it is that of the greedy tokens."""


class Respondent(ABC):
    """Plans requests, which refuses what cannot be answered before any model runs, and answers what was planned.

    Args:
        method: Whose answers they are.
        rows: Requests of a batch at most; None for as many as the budget of tokens allows.
        room: Positions of the answering model at most; None for what its config says.
    """

    rolls = False
    """Whether the likelihood of a text without any prompt can be had."""

    def __init__(self, method: Method, rows: int | None = None, room: int | None = None) -> None:
        self.method, self.rows = method, rows
        self.loaded: LoadedModel = method.models[0]
        self.encoder = Encoder(self.loaded)
        self.room = positions(self.loaded) if room is None else room
        self.numbers = itertools.count()

    @property
    def end(self) -> str:
        """Text of the tokenizer's end token; empty if there is none."""
        eos = self.loaded.tokenizer.eos_token_id
        return "" if eos is None else str(self.loaded.tokenizer.decode([eos]))

    def text(self, question: Question) -> str:
        """What the answering model reads of a context."""
        return prompting.prompt_text(self.loaded, question)

    @abstractmethod
    def plan_weights(self, requests: Sequence[Instance]) -> list[Item]:
        """What is read and weighed for ``loglikelihood``, each context once a document.

        Raises:
            RefusedError: If a request cannot be answered.
        """

    @abstractmethod
    def weigh(self, items: Sequence[Item], show: bool = True) -> list[list[Weight]]:
        """The weight of each option of each item."""

    @abstractmethod
    def write(self, items: Sequence[Item], writing: Writing, show: bool = True) -> list[str]:
        """The text that is written after each item."""

    def plan_texts(self, requests: Sequence[Instance]) -> dict[Writing, list[Item]]:
        """What is read for ``generate_until``, by the way in which text is written after it.

        Requests that are alike share a greedy text; each has a sampled text of its own.

        Raises:
            RefusedError: If a request cannot be answered.
        """
        plan: dict[Writing, list[Item]] = {}
        known: dict[Any, Item] = {}
        for place, request in enumerate(requests):
            writing = writing_of(request.args[1], self.end, str(request.task_name))
            key = (request.task_name, request.doc_id, request.args[0], writing)
            if key in known and not dict(writing.options).get("do_sample"):
                known[key].places.append(place)
                continue
            question = replace(
                question_of(request, next(self.numbers)), stops=writing.stops, max_new_tokens=writing.max_new_tokens
            )
            item = self.to_continue(question)
            item.places.append(place)
            known[key] = item
            plan.setdefault(writing, []).append(item)
        return plan

    def to_continue(self, question: Question) -> Item:
        """What is read before free text.

        Raises:
            RefusedError: If it does not fit.
        """
        ids = self.encoder.tokens(self.text(question), chat=bool(question.messages))
        item = Item(question, ids)
        self.check_room(item, question.max_new_tokens)
        return item

    def check_context(self, question: Question, text: str) -> None:
        """Refuse an empty context, of which two models can read nothing."""
        if not text.strip():
            raise RefusedError(
                f"A context for {self.method.name} must not be empty: it is what both models read",
                f"a request of {question.benchmark} without a context",
                "Ask the receiver alone, or leave out the task, or the metric acc_mutual_info, which has such requests",
            )

    def check_room(self, item: Item, new_tokens: int) -> None:
        """Refuse what does not fit into the model's positions."""
        if len(item.ids) + new_tokens > self.room:
            raise RefusedError(
                f"A context of {item.question.benchmark} and its answer must fit into {self.room} positions",
                len(item.ids) + new_tokens,
                f"Give the task shorter contexts or fewer shots: {self.method.name} does not cut a prompt at the left",
            )

    def plan_rolling(self, requests: Sequence[Instance]) -> list[Item]:
        """What is read and weighed for ``loglikelihood_rolling``: windows, of which each holds its request's place.

        Raises:
            RefusedError: Always, unless one model answers alone.
        """
        raise RefusedError(
            f"A task for {self.method.name} must give a prompt: nothing else is read by two models",
            f"loglikelihood_rolling of {requests[0].task_name}",
            "Ask the receiver or the sharer alone, or choose a task with contexts",
        )


class BatchRespondent(Respondent):
    """A respondent that reads a context once and goes on from there."""

    @abstractmethod
    def read(self, items: Sequence[Item]) -> DecodingState:
        """Read one batch."""

    @abstractmethod
    def context(self, question: Question, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of what is read, and of what is weighed after it.

        Raises:
            RefusedError: If it cannot be answered.
        """

    def prepare(self, items: Sequence[Item]) -> None:
        """See all items before the first batch."""

    def plan_weights(self, requests: Sequence[Instance]) -> list[Item]:
        """See `Respondent`."""
        known: dict[Any, Item] = {}
        for place, request in enumerate(requests):
            question = question_of(request, 0)
            ids, rest = self.context(question, self.text(question), str(request.args[1]))
            key = (request.task_name, request.doc_id, request.args[0], tuple(ids))
            if key not in known:
                known[key] = Item(replace(question, number=next(self.numbers)), ids)
            known[key].options.append(rest)
            known[key].places.append(place)
        items = list(known.values())
        for item in items:
            item.question.max_new_tokens = max(map(len, item.options)) - 1
            self.check_room(item, item.question.max_new_tokens)
        return items

    def weigh(self, items: Sequence[Item], show: bool = True) -> list[list[Weight]]:
        """See `Respondent`."""
        self.prepare(items)
        weights: dict[int, list[Weight]] = {}
        for batch in self._batches(items, show):
            for part in self._parts(batch):
                reading = self.read(part)
                found = score_tokens(reading, [item.options for item in part])
                weights |= {id(item): each for item, each in zip(part, found, strict=True)}
        return [weights[id(item)] for item in items]

    def write(self, items: Sequence[Item], writing: Writing, show: bool = True) -> list[str]:
        """See `Respondent`."""
        self.prepare(items)
        texts: dict[int, str] = {}
        for batch in self._batches(items, show):
            for part in self._parts(batch):
                answers = write_answers(self.read(part), [item.question for item in part], dict(writing.options))
                texts |= {id(item): str(answer.output_text) for item, answer in zip(part, answers, strict=True)}
        return [texts[id(item)] for item in items]

    def _batches(self, items: Sequence[Item], show: bool) -> Iterator[list[Item]]:
        """Within the budget of tokens and rows, the longest first, at least one item each."""
        sizes = [len(item.ids) + item.question.max_new_tokens for item in items]
        rows = [max(1, len(item.options)) if item.question.max_new_tokens else 1 for item in items]
        taken = {id(item): count for item, count in zip(items, rows, strict=True)}
        with tqdm(total=len(items), desc=self.method.name, unit="context", disable=not show) as bar:
            for batch in batches_of(items, sizes, self.method.token_budget, rows):
                part: list[Item] = []
                for item in batch:
                    if part and self.rows and sum(taken[id(each)] for each in [*part, item]) > self.rows:
                        yield part
                        part = []
                    part.append(item)
                    bar.update(1)
                yield part

    def _parts(self, batch: list[Item]) -> list[list[Item]]:
        """The batch, or its items one by one where the longest context and the longest answer do not fit together."""
        whole = max(len(item.ids) for item in batch) + max(item.question.max_new_tokens for item in batch)
        return [batch] if whole <= self.room else [[item] for item in batch]
