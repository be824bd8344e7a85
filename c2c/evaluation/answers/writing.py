"""Free-text answers to a batch of questions; `c2c.evaluation.answers.likelihood` scores options instead.

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
    """Records the log-probability of each greedy token; the scores stay as they are."""

    def __init__(self) -> None:
        self.log_probabilities: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return `scores`, ``(B, V)``, unchanged."""
        logits = scores.float()
        self.log_probabilities.append(logits.max(-1).values - logits.logsumexp(-1))
        return scores


@dataclass
class _Row:
    """One answer as it grows: token ids, and the log-probability of each."""

    limit: int
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    ended: bool = False

    def probability(self) -> float:
        """Geometric mean of the tokens' probabilities, in (0, 1]."""
        return float(torch.tensor(self.log_probabilities[: max(len(self.ids), 1)]).mean().exp())


def decode_answers(
    state: DecodingState, questions: Sequence[Question], sampling: Mapping[str, Any] | None = None
) -> list[Answer]:
    """Answer in free text, each row up to its stop string, an end token or the token limit.

    Args:
        state: The prompts, prefilled.
        questions: One a row.
        sampling: Options of `c2c.generation.decoding.continue_text` that hold for each token alone, or for all tokens
            before it; greedy if None.
    """
    rows = [_Row(question.max_new_tokens) for question in questions]
    width, stops = state.input_ids.shape[1], sorted({stop for question in questions for stop in question.stops})
    if state.cache is None and state.response is None:
        state = replace(state, cache=kv_cache.empty_cache(state.model.config))
    # Stretch by stretch; rows that have ended leave the batch after each.
    batch, unfinished = state, rows
    while unfinished:
        batch = _write_stretch(batch, unfinished, stops, width, sampling or {})
        places = [place for place, row in enumerate(unfinished) if not row.ended]
        if len(places) < len(unfinished):
            unfinished = [unfinished[place] for place in places]
            batch = batch.of_rows(torch.tensor(places, device=batch.input_ids.device)) if unfinished else batch
    # Tokens to text, cut before the first stop string.
    for answer, row, question in zip(state.answers, rows, questions, strict=True):
        text = StopStrings(state.tokenizer, question.stops).text(row.ids)
        for stop in filter(None, question.stops):
            text = text.split(stop)[0]
        answer.output_text, answer.output_ids, answer.tokens_out = text, row.ids, len(row.ids)
        answer.confidence = row.probability()
    return state.answers


def _write_stretch(
    state: DecodingState, rows: Sequence[_Row], stops: Sequence[str], width: int, sampling: Mapping[str, Any]
) -> DecodingState:
    """Write the next `STRETCH` tokens of each row; returns the state with them. The prompts have `width` columns."""
    before, meter = state.input_ids.shape[1], ConfidenceMeter()
    stop = StopAtText(state.tokenizer, stops, width)
    with nullcontext(state.cache) if state.response is None else state.response.in_generation() as cache:
        sequences = continue_text(
            state.model,
            state.input_ids,
            state.attention_mask,
            cache,
            max_new_tokens=min(STRETCH, max(row.limit for row in rows) - (before - width)),
            criteria=[stop] if stop.stops else [],
            processors=[meter],
            **sampling,
        )
    # Each row up to its stop string, its end token or its limit.
    # Lists of the whole stretch, so that the device is waited for once: (B, steps)
    ends, steps = end_tokens(state.model), torch.stack(meter.log_probabilities, dim=1).tolist()
    for number, (row, ids) in enumerate(zip(rows, sequences[:, width:].tolist(), strict=True)):
        row.ids = _until_end(ids[: stop.lengths.get(number)], ends)[: row.limit]
        # Steps after the end of a row are those of pads, and are cut off by the number of its tokens.
        row.log_probabilities += steps[number]
        check_finite(row.log_probabilities[: len(row.ids)], state.model)
        row.ended = len(row.ids) in (row.limit, stop.lengths.get(number)) or row.ids[-1] in ends
    # Rows that have ended leave the batch, so every column that is written is a token: (B, N + new)
    new = state.attention_mask.new_ones((len(rows), sequences.shape[1] - before))
    mask = torch.cat([state.attention_mask, new], dim=1)
    return replace(state, input_ids=sequences, attention_mask=mask)


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the first end token, with it."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids
