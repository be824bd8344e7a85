"""Free-text answers to a batch of questions; `c2c.evaluation.answers.likelihood` scores options instead.

Greedy answers are written by a loop of our own, sampled ones by ``generate`` of transformers. Rows that have ended
leave the batch: a few long answers would otherwise carry all others along to their end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel

from c2c.cache import kv_cache
from c2c.cache.rows import mask_of_steps
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.likelihood import PrefilledBatch, check_finite
from c2c.evaluation.questions.question import Question
from c2c.generation.compiled import begin_batch, decodes_compiled
from c2c.generation.decoding import StopAtText, StopStrings, continue_text, end_tokens

STRETCH = 32
"""Tokens that a batch writes by sampling before the rows that have ended leave it."""
LEAVING = 1 / 8
"""Share of a batch's rows that must have ended before they leave it: the caches of the others are copied then."""


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
    stops: StopStrings
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
    rows = [_Row(question.max_new_tokens, StopStrings(state.tokenizer, question.stops)) for question in questions]
    if sampling:
        _write_in_stretches(state, rows, sampling)
    else:
        write_greedily(state, rows)
    # Tokens to text, cut before the first stop string.
    for answer, row, question in zip(state.answers, rows, questions, strict=True):
        text = row.stops.text(row.ids)
        for stop in filter(None, question.stops):
            text = text.split(stop)[0]
        answer.output_text, answer.output_ids, answer.tokens_out = text, row.ids, len(row.ids)
        answer.confidence = row.probability()
    return state.answers


@torch.no_grad()
def write_greedily(state: DecodingState, rows: Sequence[_Row]) -> None:
    """Write the likeliest token of each row, step by step, until all have ended.

    It writes what ``generate`` of transformers writes, without building masks and positions from the whole text at each
    step. Rows that have ended leave the batch as soon as they are an eighth of it. Inside of
    `c2c.generation.compiled.compiled_decoding` the steps are compiled, and all rows stay.
    """
    model = state.model
    if decodes_compiled(model):
        _write_compiled(state, rows)
        return
    batch, unfinished, mask = PrefilledBatch.of(state), list(rows), state.attention_mask
    ids = state.input_ids[:, batch.columns_read :]
    steps = mask_of_steps(model, mask, max(row.limit for row in rows))
    while True:
        # 1. One token a row
        step_mask = None if steps is None or ids.shape[1] > 1 else steps[..., : mask.shape[1]]
        logits = batch.logits(ids, mask, step_mask=step_mask)
        tokens = _add_tokens(unfinished, logits, model)
        # 2. Rows that have ended leave the batch
        places = [place for place, row in enumerate(unfinished) if not row.ended]
        if not places:
            return
        ids = tokens[:, None]
        if len(places) <= (1 - LEAVING) * len(unfinished):
            chosen = torch.tensor(places, device=mask.device)
            batch, ids, mask = batch.of_rows(chosen), ids[chosen], mask[chosen]
            steps = None if steps is None else steps[chosen]
            unfinished = [unfinished[place] for place in places]
        # (B, N) -> (B, N + 1)
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)


def _write_compiled(state: DecodingState, rows: Sequence[_Row]) -> None:
    """`write_greedily` by compiled steps, whose shape is constant: no row leaves the batch before all have ended."""
    assert state.response is None, "c2c.evaluation.methods.inputs refuses it"
    cache = kv_cache.empty_cache(state.model.config) if state.cache is None else state.cache
    limit = max(row.limit for row in rows)
    with begin_batch(state.model, cache, state.input_ids, state.attention_mask, limit) as batch:
        ids = state.input_ids[:, -1:]
        while not all(row.ended for row in rows):
            # (B, V) -> (B, 1)
            ids = _add_tokens(rows, batch.logits(state.model, ids), state.model)[:, None]


def _add_tokens(rows: Sequence[_Row], logits: Tensor, model: PreTrainedModel) -> Tensor:
    """Add the likeliest token to each row that has not ended; `logits` are ``(B, V)``, the tokens ``(B,)``."""
    ends, scores = end_tokens(model), logits.float()
    # Numbers of all rows in one tensor, so that the device is waited for once: (B, V) -> (B,)
    tokens = scores.argmax(-1)
    log_probabilities = (scores.max(-1).values - scores.logsumexp(-1)).tolist()
    for row, token, log_probability in zip(rows, tokens.tolist(), log_probabilities, strict=True):
        if not row.ended:
            row.ids.append(token)
            row.log_probabilities.append(log_probability)
            row.ended = token in ends or len(row.ids) == row.limit
    check_finite([row.log_probabilities[-1] for row in rows], model)
    for row in rows:
        row.ended = row.ended or (bool(row.stops.stops) and row.stops.end([row.ids])[0])
    return tokens


def _write_in_stretches(state: DecodingState, rows: Sequence[_Row], sampling: Mapping[str, Any]) -> None:
    """Write with ``generate`` of transformers, `STRETCH` tokens at a time; rows that have ended leave between two."""
    width, stops = state.input_ids.shape[1], sorted({stop for row in rows for stop in row.stops.stops})
    if state.cache is None and state.response is None:
        state = replace(state, cache=kv_cache.empty_cache(state.model.config))
    unfinished = list(rows)
    while unfinished:
        state = _write_stretch(state, unfinished, stops, width, sampling)
        places = [place for place, row in enumerate(unfinished) if not row.ended]
        if len(places) < len(unfinished):
            unfinished = [unfinished[place] for place in places]
            state = state.of_rows(torch.tensor(places, device=state.input_ids.device)) if unfinished else state


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
