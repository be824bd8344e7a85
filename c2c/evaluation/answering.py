"""Let a model answer a batch of questions by writing; `c2c.evaluation.likelihood` weighs given options instead.

Methods differ only in what the answering model has read before it goes on: that is a `Reading`. Everything after it is
the same code for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from c2c.decoding import StopAtText, continue_text, end_tokens
from c2c.response import ResponseFusion


@dataclass
class Question:
    """One question as lm-eval rendered it.

    Args:
        benchmark: Id of the benchmark.
        number: Its place in the benchmark.
        doc: The prepared line; has ``id``.
        prompt: The rendered prompt; in chats the user's last message.
        gold: The gold answer.
        options: Continuations to be scored; empty for a free answer.
        stops: Strings that end a free answer.
        max_new_tokens: Upper bound of a free answer.
        message_prompt: What the Sharer is asked in T2T.
        told_prompt: What the Receiver reads in T2T in plain prompts, with ``{{message}}`` and ``{{prompt}}``.
        messages: The conversation, each message with ``role`` and ``content``; empty in plain prompts. An assistant's
            message at the end is the opening that the answer continues.
    """

    benchmark: str
    number: int
    doc: dict[str, Any]
    prompt: str
    gold: str
    options: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    max_new_tokens: int = 64
    message_prompt: str = ""
    told_prompt: str = ""
    messages: tuple[dict[str, str], ...] = ()

    @property
    def private(self) -> str:
        """What only the Sharer may read beside the question."""
        return str(self.doc.get("private") or "")


@dataclass
class Answer:
    """What a method answered; the fields are columns of a record (`c2c.evaluation.schema`)."""

    output_text: str | None = None
    output_ids: list[int] | None = None
    choice_scores: list[float] | None = None
    choice_tokens: list[int] | None = None
    message: str | None = None
    sharer_question_id: str | None = None
    routed_to: str | None = None
    confidence: float | None = None
    prompt_read: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    sharer_tokens_in: int = 0
    sharer_tokens_out: int = 0
    time_s: float = 0.0
    error: str | None = None


@dataclass
class Reading:
    """What the answering model has read of a batch.

    Args:
        model: The model that answers.
        tokenizer: Its tokenizer.
        input_ids: ``(B, N)`` int64, left-padded prompts.
        attention_mask: ``(B, N)``.
        cache: Keys and values of the first N - 1 columns, of fewer where `response` reads the rest, or None if nothing
            has been read yet.
        answers: One a row, with what is known before the model answers.
        response: Fuses what the model writes, too (a RosettaModel with `include_response`); `cache` is its own then.
        special: Whether the tokenizer added special tokens to the prompts; those of a chat stand in its text.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    input_ids: Tensor
    attention_mask: Tensor
    cache: Cache | None
    answers: list[Answer] = field(default_factory=list)
    response: ResponseFusion | None = None
    special: bool = True


class ConfidenceMeter(LogitsProcessor):
    """Notes the probability of each greedy token; changes nothing."""

    def __init__(self) -> None:
        self.log_probabilities: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` ``(B, V)`` as they came."""
        scores_now = scores.float()
        self.log_probabilities.append(scores_now.max(-1).values - scores_now.logsumexp(-1))
        return scores

    def mean_probability(self, lengths: Sequence[int]) -> list[float]:
        """Geometric mean of the probabilities of each row's first `lengths` tokens, in (0, 1]."""
        steps = torch.stack(self.log_probabilities, dim=1)
        return [float(steps[row, : max(length, 1)].mean().exp()) for row, length in enumerate(lengths)]


def write(reading: Reading, questions: Sequence[Question]) -> list[Answer]:
    """Answer greedily in free text, each row up to its stop string, an end token or the token limit."""
    width, meter = reading.input_ids.shape[1], ConfidenceMeter()
    stops = StopAtText(reading.tokenizer, sorted({stop for each in questions for stop in each.stops}), width)
    with nullcontext(reading.cache) if reading.response is None else reading.response.in_generation() as cache:
        sequences = continue_text(
            reading.model,
            reading.input_ids,
            reading.attention_mask,
            cache,
            max_new_tokens=max(question.max_new_tokens for question in questions),
            criteria=[stops] if stops.stops else [],
            processors=[meter],
        )
    ends = end_tokens(reading.model)
    new_ids = [
        _until_end(row[: stops.lengths.get(number)], ends) for number, row in enumerate(sequences[:, width:].tolist())
    ]
    confidence = meter.mean_probability([len(ids) for ids in new_ids])
    for answer, ids, question, sure in zip(reading.answers, new_ids, questions, confidence, strict=True):
        kept = ids[: question.max_new_tokens]
        text = str(reading.tokenizer.decode(kept, skip_special_tokens=True))
        for stop in question.stops:
            text = text.split(stop)[0]
        answer.output_text, answer.output_ids, answer.tokens_out, answer.confidence = text, kept, len(kept), sure
    return reading.answers


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to and with the first end token."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids
