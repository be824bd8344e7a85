"""Let a model answer a batch of questions by writing; `c2c.evaluation.answers.likelihood` weighs given options instead.

Rows that have ended leave the batch: a few long answers would otherwise carry all others along to their end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from c2c.cache import kv_cache
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.likelihood import check_finite
from c2c.evaluation.questions.question import Question
from c2c.generation.decoding import StopAtText, StopStrings, continue_text, end_tokens

STRETCH = 32
"""Tokens that a batch writes before the rows that have ended leave it."""


class ConfidenceMeter(LogitsProcessor):
    """Notes the probability of each greedy token; changes nothing."""

    def __init__(self) -> None:
        self.log_probabilities: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` ``(B, V)`` as they came."""
        scores_now = scores.float()
        self.log_probabilities.append(scores_now.max(-1).values - scores_now.logsumexp(-1))
        return scores


@dataclass
class _Row:
    """One answer as it grows: token ids, and the log-probability of each."""

    limit: int
    ids: list[int] = field(default_factory=list)
    sure: list[float] = field(default_factory=list)
    ended: bool = False

    def probability(self) -> float:
        """Geometric mean of the tokens' probabilities, in (0, 1]."""
        return float(torch.tensor(self.sure[: max(len(self.ids), 1)]).mean().exp())


def decode_answers(
    reading: DecodingState, questions: Sequence[Question], sampling: Mapping[str, Any] | None = None
) -> list[Answer]:
    """Answer in free text, each row up to its stop string, an end token or the token limit.

    Args:
        reading: What the answering model has read.
        questions: One a row.
        sampling: Options of `c2c.generation.decoding.continue_text` that hold for each token alone, or for all tokens
            before it; greedy if None.
    """
    rows = [_Row(question.max_new_tokens) for question in questions]
    width, stops = reading.input_ids.shape[1], sorted({stop for each in questions for stop in each.stops})
    if reading.cache is None and reading.response is None:
        reading = replace(reading, cache=kv_cache.empty_cache(reading.model.config))
    state, going = reading, rows
    while going:
        state = _write_on(state, going, stops, width, sampling or {})
        places = [place for place, row in enumerate(going) if not row.ended]
        if len(places) < len(going):
            going = [going[place] for place in places]
            state = state.of_rows(torch.tensor(places, device=state.input_ids.device)) if going else state
    for answer, row, question in zip(reading.answers, rows, questions, strict=True):
        text = StopStrings(reading.tokenizer, question.stops).text(row.ids)
        for stop in filter(None, question.stops):
            text = text.split(stop)[0]
        answer.output_text, answer.output_ids, answer.tokens_out = text, row.ids, len(row.ids)
        answer.confidence = row.probability()
    return reading.answers


def _write_on(
    reading: DecodingState, rows: Sequence[_Row], stops: Sequence[str], width: int, sampling: Mapping[str, Any]
) -> DecodingState:
    """Write a stretch after what has been read and written, and return all of it; the prompt has `width` columns."""
    before, meter = reading.input_ids.shape[1], ConfidenceMeter()
    stop = StopAtText(reading.tokenizer, stops, width)
    with nullcontext(reading.cache) if reading.response is None else reading.response.in_generation() as cache:
        sequences = continue_text(
            reading.model,
            reading.input_ids,
            reading.attention_mask,
            cache,
            max_new_tokens=min(STRETCH, max(row.limit for row in rows) - (before - width)),
            criteria=[stop] if stop.stops else [],
            processors=[meter],
            **sampling,
        )
    ends, steps = end_tokens(reading.model), torch.stack(meter.log_probabilities, dim=1).tolist()
    for number, (row, ids) in enumerate(zip(rows, sequences[:, width:].tolist(), strict=True)):
        row.ids = _until_end(ids[: stop.lengths.get(number)], ends)[: row.limit]
        row.sure += steps[number]
        check_finite(row.sure[: len(row.ids)], reading.model)
        row.ended = len(row.ids) in (row.limit, stop.lengths.get(number)) or row.ids[-1] in ends
    new = reading.attention_mask.new_ones((len(rows), sequences.shape[1] - before))
    mask = torch.cat([reading.attention_mask, new], dim=1)
    return replace(reading, input_ids=sequences, attention_mask=mask)


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to and with the first end token."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids
