"""One pair that answers questions by all methods of the live page; knows nothing of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from c2c.agents.chat_pipeline import ChatPipeline
from c2c.alignment.tokens import SharerInput, private_lines
from c2c.demo.heat_map import HeatMap, heat_map, message_bytes, recorded_calls
from c2c.demo.questions import ExampleQuestion, QuestionSet
from c2c.demo.request import PageRequest
from c2c.errors import RefusedError
from c2c.evaluation.phases import TimedAnswer, answer_alone, answer_fused, answer_with_message, until_stops
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import FusedReader, SharerPrompts
from c2c.evaluation.readers.reader import SingleReader, positions
from c2c.testbed.channel import Message
from c2c.testbed.controls import random_like
from c2c.types import KeyValue

LIKELIEST = 5
"""Tokens whose probabilities are shown."""
MESSAGE_TOKENS = 64
"""Longest message of text to text."""
MOMENT_MESSAGES = 16
"""Real messages from which the moments of a random one are taken."""
PHASES = ("sharer_prefill_s", "sharer_decode_s", "receiver_prefill_s", "fusion_s", "receiver_decode_s")
SEED = 0


@dataclass(frozen=True)
class ColumnAnswer:
    """The answer of one column.

    Args:
        method: The column: a method of `c2c.demo.request`.
        answer: The text, up to the first stop string.
        message: The Sharer's text in T2T; in C2C what the Sharer read, or what took the place of its cache.
        probabilities: The likeliest first tokens with their probabilities, the likeliest first.
        first_token_s: Seconds from the question to the first token of the answer, the message included.
        total_s: Seconds to the end of the answer.
        phases: Seconds of each phase that took part, by the names of `c2c.evaluation.phases.Phases`.
        message_bytes: What crossed from the Sharer to the Receiver.
        error: Why there is no answer; empty if there is one.
    """

    method: str
    answer: str = ""
    message: str = ""
    probabilities: list[tuple[str, float]] = field(default_factory=list)
    first_token_s: float = 0.0
    total_s: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    message_bytes: int = 0
    error: str = ""
    heat_map: HeatMap | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


class PageSession:
    """Answers by all columns; calls from several threads take turns.

    Args:
        pipe: The pair with its Fusers.
        questions: Examples, wording and limits.
        chat: Whether a question is a user's message; otherwise it is a text to continue.

    Raises:
        RefusedError: If a chat is asked of models without chat templates.
    """

    def __init__(self, pipe: ChatPipeline, questions: QuestionSet, *, chat: bool) -> None:
        self.pipe, self.questions, self.chat = pipe, questions, chat
        pair = pipe.pair
        prompting.check_prompts("chat" if chat else "plain", [pair.receiver, pair.sharer])
        # Each Fuser runs on its own, so that a hook sees what it reads
        self.stack = pipe.model.stack(0)
        self.stack.grouping = "loop"
        self._lock = Lock()
        self._moments: list[Message] = []

    @property
    def layers(self) -> int:
        """Layers of the Receiver."""
        return self.stack.receiver.layers

    def with_donor(self, request: PageRequest) -> PageRequest:
        """The same request with a question for the wrong message, where it names none."""
        return request if request.donor else self.with_next_donor(request)

    def with_next_donor(self, request: PageRequest) -> PageRequest:
        """The same request with another question for the wrong message: the next of the examples that can be one.

        Raises:
            RefusedError: If there is no example that differs from the question.
        """
        donors = self.questions.donors(request.question, request.private)
        if not donors:
            raise RefusedError(
                "A wrong message must be about another question",
                f"{len(self.questions.examples)} example question(s)",
                "Write that question, or start with more after --questions",
            )
        places = {(donor.prompt, donor.private): place for place, donor in enumerate(donors)}
        donor = donors[(places.get((request.donor, request.donor_private), -1) + 1) % len(donors)]
        return replace(request, donor=donor.prompt, donor_private=donor.private)

    def answers(self, request: PageRequest) -> Iterator[ColumnAnswer]:
        """The answers of all columns of a request, one after the other."""
        request = self.with_donor(request)
        for method in request.columns:
            yield self.answer(request, method)

    @torch.no_grad()
    def answer(self, request: PageRequest, method: str) -> ColumnAnswer:
        """The answer of one column; a refusal is its error."""
        with self._lock:
            try:
                question = self._question(request.question, request.private, request.max_new_tokens)
                if method == "receiver":
                    timed = answer_alone(SingleReader(self.pipe.pair.receiver), question, "receiver")
                    return self._column(method, timed)
                if method == "t2t":
                    return self._text_to_text(question)
                return self._fused(request, question, method)
            except RefusedError as refusal:
                return ColumnAnswer(method, error=str(refusal))

    def _question(self, prompt: str, private: str, max_new_tokens: int) -> Question:
        """A question as the methods of the evaluation read it."""
        example = self.questions.example(prompt) or ExampleQuestion(prompt)
        doc = {"id": "page", "question": prompt, **example.doc, "private": private, "prompt": prompt}
        wording = self.questions.wording_for(doc)
        return Question(
            benchmark="page",
            number=0,
            doc=doc,
            prompt=prompt,
            gold=example.answer,
            stops=self.questions.stops,
            max_new_tokens=max_new_tokens,
            messages=({"role": "user", "content": prompt},) if self.chat else (),
            t2t_question=wording["t2t_question"],
            t2t_prompt=wording["t2t_prompt"],
        )

    def _text_to_text(self, question: Question) -> ColumnAnswer:
        pair = self.pipe.pair
        request = prompting.message_question(question)
        room = positions(pair.sharer) - SingleReader(pair.sharer).length(request)
        request = replace(request, max_new_tokens=max(1, min(MESSAGE_TOKENS, room)))
        timed = answer_with_message(pair.receiver, pair.sharer, question, request)
        return self._column("t2t", timed, timed.message, len(timed.message.encode()))

    def _fused(self, request: PageRequest, question: Question, method: str) -> ColumnAnswer:
        """C2C with the right message, the wrong one, zeros or random states."""
        linked = sorted(self.stack.links)
        if unknown := sorted(set(request.closed_layers) - set(linked)):
            raise RefusedError(
                f"A closed layer must be one of the {len(linked)} Receiver layers with a Fuser",
                unknown[0],
                f"Name layers from {linked[0]} to {linked[-1]}" if linked else "Use Fusers that are linked",
            )
        # 1. What the Sharer reads
        control = method.removeprefix("c2c").removeprefix("_") or "matched"
        sharer_cache = "zeroed" if self.pipe.zeroed or control == "zeroed" else control
        prompts = SharerPrompts(self.pipe.pair, self.pipe.model, self.pipe.aligner, sharer_cache)
        donor = question
        if sharer_cache == "deranged":
            donor = self._question(request.donor, request.donor_private, request.max_new_tokens)
            prompts.read_instead(question, donor)
        elif sharer_cache == "random":
            prompts.sharer_cache = "matched"
        reader = FusedReader([prompts])
        # 2. The answer, without the closed layers
        change: Callable[[SharerInput], SharerInput] | None = None
        if sharer_cache == "random":
            change = partial(self._random_states, [question])
        active = [layer for layer in range(self.layers) if layer not in request.closed_layers]
        with self.pipe.model.restricted(layers=active), recorded_calls(self.stack) as calls:
            timed = answer_fused(reader, question, change)
            (_, ids, _, [sharer_input]), _ = reader.layout([question])
            tokens = [self._token_text(token) for token in ids[0].tolist()]
            weights = heat_map(self.stack, calls, sharer_input.token_map, tokens, request.closed_layers)
            size = 0 if sharer_input.zeroed else message_bytes(self.stack, sharer_input.token_map, self._element_size)
        # 3. What the message is, in words
        texts = {"zeroed": "zeros", "random": "random states with the mean and covariance of real messages"}
        message = texts.get(sharer_cache) or private_lines(donor.private) + donor.prompt
        return replace(self._column(method, timed, message, size), heat_map=weights)

    def _token_text(self, token: int) -> str:
        return str(self.pipe.pair.receiver.tokenizer.decode([token]))

    @property
    def _element_size(self) -> int:
        return next(self.pipe.pair.sharer.model.parameters()).element_size()

    def _random_states(self, questions: list[Question], sharer_input: SharerInput) -> SharerInput:
        """The input with a cache that has the moments of real messages: those of the examples, and this one."""
        layers = self.pipe.model.read_sharer(0, sharer_input)
        if not self._moments:
            for example in self.questions.examples[:MOMENT_MESSAGES]:
                question = self._question(example.prompt, example.private, 1)
                reader = FusedReader([SharerPrompts(self.pipe.pair, self.pipe.model, self.pipe.aligner)])
                example_input = reader.layout([question])[0].sharer_input
                self._moments.append(_as_message(self.pipe.model.read_sharer(0, example_input)))
        message = random_like([_as_message(layers), *self._moments], SEED)[0]
        states = [
            (message.tensors[f"keys_{number}"], message.tensors[f"values_{number}"]) for number in range(len(layers))
        ]
        return replace(sharer_input, layers=states)

    def _column(self, method: str, timed: TimedAnswer, message: str = "", size: int = 0) -> ColumnAnswer:
        """An answer with its numbers."""
        phases = {name: seconds for name in PHASES if (seconds := getattr(timed.phases, name))}
        return ColumnAnswer(
            method,
            until_stops(timed.text, self.questions.stops).strip(),
            message,
            self._likeliest(timed.logits),
            sum(seconds for name, seconds in phases.items() if name != "receiver_decode_s"),
            timed.phases.total_s,
            phases,
            size,
        )

    def _likeliest(self, logits: Tensor) -> list[tuple[str, float]]:
        """The likeliest tokens of logits ``(V,)``, as text, with their probabilities."""
        top = logits.float().softmax(-1).topk(min(LIKELIEST, logits.shape[-1]))
        return [
            (self._token_text(token), probability)
            for probability, token in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]


def _as_message(layers: list[KeyValue]) -> Message:
    """A cache as a message of the test bed: ``keys_0``, ``values_0``, … , each ``(1, Hs, M, Ds)``."""
    tensors: dict[str, Tensor] = {}
    for number, (keys, values) in enumerate(layers):
        tensors |= {f"keys_{number}": keys, f"values_{number}": values}
    return Message(tensors)
