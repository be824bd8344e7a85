"""What each method lets the answering model read before it answers (design §4)."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jinja2 import Environment, StrictUndefined
from torch import Tensor

from c2c import kv_cache
from c2c.alignment.tokens import AlignedPrompt, SharerInput, TokenAligner, batch_readings, left_pad, match_length
from c2c.errors import RefusedError
from c2c.evaluation.answering import Answer, Question, Reading, write
from c2c.evaluation.controls import derange
from c2c.pair import LoadedModel, Pair
from c2c.response import ResponseFusion
from c2c.rosetta import RosettaModel
from c2c.sections import generate_kv_cache_index, read_sections

TEMPLATES = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
MESSAGE_TOKENS = 256


class Reader(ABC):
    """Turns questions into what the answering model has read of them."""

    def prepare(self, questions: Sequence[Question]) -> None:  # noqa: B027  (most methods need no preparation)
        """See all questions of a benchmark before the first batch; only the deranged control needs to."""

    @abstractmethod
    def read(self, questions: Sequence[Question]) -> Reading:
        """Read one batch."""

    @abstractmethod
    def length(self, question: Question) -> int:
        """Tokens of the prompt, to sort questions by."""


def positions(loaded: LoadedModel) -> int:
    """How many tokens the model can hold, as its config says; without limit if it does not say."""
    return getattr(loaded.model.config, "max_position_embeddings", None) or sys.maxsize


def message_limit(loaded: LoadedModel, tokens: int) -> int:
    """How long a message may be after a prompt of `tokens` tokens: `MESSAGE_TOKENS`, or what the model can hold."""
    return max(1, min(MESSAGE_TOKENS, positions(loaded) - tokens))


def check_room(loaded: LoadedModel, tokens: int, new_tokens: int) -> None:
    """Refuse a prompt that does not fit into the model's positions.

    Raises:
        RefusedError: With the number of tokens.
    """
    room = positions(loaded)
    if tokens + new_tokens > room:
        raise RefusedError(
            f"Prompt and answer must fit into {room} positions", tokens + new_tokens, "Shorten the prompt"
        )


def tokenise(loaded: LoadedModel, prompts: Sequence[str]) -> tuple[Tensor, Tensor, list[int]]:
    """Left-padded ids and mask, each ``(B, N)`` on the model's device, and the tokens of each prompt."""
    rows = [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts]
    ids, mask = left_pad(rows, loaded.pad)
    return ids.to(loaded.model.device), mask.to(loaded.model.device), [len(row) for row in rows]


@dataclass
class Alone(Reader):
    """One model reads the prompt (methods `receiver` and `sharer`)."""

    loaded: LoadedModel

    def read(self, questions: Sequence[Question]) -> Reading:
        """The prompts as they are."""
        ids, mask, lengths = tokenise(self.loaded, [question.prompt for question in questions])
        check_room(self.loaded, ids.shape[1], max(question.max_new_tokens for question in questions))
        answers = [Answer(prompt_read=q.prompt, tokens_in=n) for q, n in zip(questions, lengths, strict=True)]
        return Reading(self.loaded.model, self.loaded.tokenizer, ids, mask, None, answers)

    def length(self, question: Question) -> int:
        """Tokens of the prompt."""
        return len(self.loaded.tokenizer(question.prompt)["input_ids"])


@dataclass
class TextToText(Reader):
    """The Sharer writes one message about the question; the Receiver reads it with the prompt (method `t2t`)."""

    pair: Pair

    def messages(self, questions: Sequence[Question]) -> list[Answer]:
        """What the Sharer writes about each question, which it is shown without options."""
        asked = [
            replace(question, prompt=self.request(question), stops=(), options=(), max_new_tokens=1)
            for question in questions
        ]
        reading = Alone(self.pair.sharer).read(asked)
        limit = message_limit(self.pair.sharer, reading.input_ids.shape[1])
        return write(reading, [replace(question, max_new_tokens=limit) for question in asked])

    @staticmethod
    def request(question: Question) -> str:
        """What the Sharer is asked for.

        Raises:
            RefusedError: If the task file has no wording for it.
        """
        if not question.message_prompt:
            raise RefusedError(
                "T2T needs the prompts t2t_question and t2t_prompt of a task file",
                question.benchmark,
                "Run the benchmark with c2c generate, which reads them from the task's metadata",
            )
        return TEMPLATES.from_string(question.message_prompt).render(question.doc)

    def told(self, question: Question, message: str) -> Question:
        """The question as the Receiver reads it after the message."""
        template = TEMPLATES.from_string(question.told_prompt)
        return replace(question, prompt=template.render(question.doc, message=message, prompt=question.prompt))

    def read(self, questions: Sequence[Question]) -> Reading:
        """Write the messages, then read them with the prompts."""
        sent = self.messages(questions)
        told = [self.told(q, (m.output_text or "").strip()) for q, m in zip(questions, sent, strict=True)]
        reading = Alone(self.pair.receiver).read(told)
        for answer, message in zip(reading.answers, sent, strict=True):
            answer.message = (message.output_text or "").strip()
            answer.sharer_tokens_in, answer.sharer_tokens_out = message.tokens_in, message.tokens_out
        return reading

    def length(self, question: Question) -> int:
        """Tokens of the prompt, for the Receiver."""
        return Alone(self.pair.receiver).length(question)


@dataclass
class Fused(Reader):
    """The prefix is fused with the Sharer's cache (methods `c2c`, `c2c_deranged`, `c2c_zeroed`).

    Args:
        pair: The models.
        model: The Receiver, the Sharer and the Fusers.
        aligner: Token alignment that the Fusers were trained with.
        sharer_reads: ``matched`` (this question), ``deranged`` (another one) or ``zeroed`` (nothing).
        seed: Of the derangement.
    """

    pair: Pair
    model: RosettaModel
    aligner: TokenAligner
    sharer_reads: str = "matched"
    seed: int = 0

    def __post_init__(self) -> None:
        self._other: dict[tuple[str, int], Question] = {}
        self._aligned: dict[str, AlignedPrompt] = {}

    def align(self, question: Question) -> AlignedPrompt:
        """The prompt as both models read it; remembered, since a control reads it again."""
        if question.prompt not in self._aligned:
            self._aligned[question.prompt] = self.aligner.align(question.prompt)
        return self._aligned[question.prompt]

    def length(self, question: Question) -> int:
        """Receiver tokens of the prompt."""
        return len(self.align(question).receiver_ids)

    def prepare(self, questions: Sequence[Question]) -> None:
        """Choose whose question the Sharer reads."""
        if self.sharer_reads == "deranged":
            swapped = derange([self.length(q) for q in questions], [q.gold for q in questions], self.seed)
            for question, other in zip(questions, swapped, strict=True):
                self._other[question.benchmark, question.number] = questions[other]

    def sharer_reads_of(self, question: Question) -> tuple[AlignedPrompt, str | None]:
        """What the Sharer reads beside this question's prompt, and whose question that is."""
        own = self.align(question)
        if self.sharer_reads == "zeroed":
            return own, None
        if self.sharer_reads == "matched":
            return own, str(question.doc["id"])
        other = self._other[question.benchmark, question.number]
        read = self.align(other)
        token_map = match_length(read.token_map, len(own.token_map))
        return AlignedPrompt(own.receiver_ids, read.sharer_ids, token_map), str(other.doc["id"])

    def inputs(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor, SharerInput, list[str | None]]:
        """Receiver ids and mask, each ``(B, N)``; what the Sharer reads; whose questions those are."""
        read = [self.sharer_reads_of(question) for question in questions]
        device = self.pair.receiver.model.device
        ids, mask = left_pad([aligned.receiver_ids for aligned, _ in read], self.pair.receiver.pad)
        check_room(self.pair.receiver, ids.shape[1], max(question.max_new_tokens for question in questions))
        sharer_input = batch_readings(
            [aligned for aligned, _ in read],
            self.pair.sharer.pad,
            zeroed=self.sharer_reads == "zeroed",
            reencode=self.aligner.reencode,
        )
        return ids.to(device), mask.to(device), sharer_input.to(device), [whose for _, whose in read]

    @torch.no_grad()
    def read(self, questions: Sequence[Question]) -> Reading:
        """Prefill both models, and fuse."""
        ids, mask, sharer_input, whose = self.inputs(questions)
        fused_response = self.model.include_response
        sections = read_sections(generate_kv_cache_index(ids.shape[1] - 1, 1), ids, 1, include_response=fused_response)
        read = self.model.read_prompt(
            sections, ids, mask, kv_cache.positions_of(mask), [sharer_input], keep_unfused=fused_response
        )
        ran = self.sharer_reads != "zeroed"
        answers = [
            Answer(
                prompt_read=question.prompt,
                tokens_in=int(row.sum()),
                sharer_question_id=name,
                sharer_tokens_in=int(given.sum()) if ran else 0,
            )
            for question, row, given, name in zip(questions, mask, sharer_input.attention_mask, whose, strict=True)
        ]
        response = ResponseFusion(self.model, read, sections[-1].sharers) if fused_response else None
        receiver = self.pair.receiver
        return Reading(receiver.model, receiver.tokenizer, ids, mask, read.cache, answers, response)


def text_hash(text: str) -> str:
    """First 16 hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
