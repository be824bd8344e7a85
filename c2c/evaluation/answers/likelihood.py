"""The likelihood of given options after what a model has read, with as little work as they need.

The prompt is read once a question. Its last position gives the first token of every option, so options of one token
need no more than that; of longer ones only the tokens after the first are run, on rows that repeat the cache. The
vocabulary's logits are computed at the positions that are looked at, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from c2c.cache import kv_cache
from c2c.cache.rows import check_rotations, masks_in_tokens, rotations_of_positions, splits_windows
from c2c.errors import ModelFaultError
from c2c.generation.head import logits_at

if TYPE_CHECKING:
    from c2c.evaluation.answers.answer import Answer, DecodingState
    from c2c.evaluation.questions.question import Question

AT_ONCE = 64
"""Positions whose logits are turned into probabilities at a time: a vocabulary may have 150,000 tokens."""


def option_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, options: Sequence[str], *, special: bool
) -> list[list[int]]:
    """Tokens of each option after `text`: what the whole has beyond the text's own, as lm-eval counts them.

    Args:
        tokenizer: Of the answering model.
        text: What it has read.
        options: Continuations.
        special: Whether `text` was tokenised with special tokens.
    """
    read = len(tokenizer(text, add_special_tokens=special)["input_ids"])
    wholes = tokenizer([text + option for option in options], add_special_tokens=special)["input_ids"]
    alone = [tokenizer(option, add_special_tokens=False)["input_ids"] for option in options]
    return [whole[read:] or own for whole, own in zip(wholes, alone, strict=True)]


def score_options(reading: DecodingState, questions: Sequence[Question]) -> list[Answer]:
    """Score each option of each question: the sum of its tokens' log-probabilities after the prompt, in nats."""
    options = [
        option_tokens(reading.tokenizer, answer.prompt_read, question.options, special=reading.special)
        for answer, question in zip(reading.answers, questions, strict=True)
    ]
    for answer, each, weights in zip(reading.answers, options, score_tokens(reading, options), strict=True):
        answer.choice_scores, answer.choice_tokens = [score for score, _ in weights], [len(ids) for ids in each]
        answer.choice_greedy = [greedy for _, greedy in weights]
        answer.tokens_out = sum(answer.choice_tokens)
        answer.confidence = float(torch.tensor(answer.choice_scores).softmax(-1).max())
    return reading.answers


def check_finite(log_probabilities: Sequence[float], model: PreTrainedModel) -> None:
    """Refuse log-probabilities, in nats, that a model without finite logits gives.

    Raises:
        ModelFaultError: With the first of them.
    """
    wrong = [each for each in log_probabilities if not math.isfinite(each)]
    if wrong:
        rule = f"Every logit of {model.config.model_type} must be a finite number"
        remedy = "Check the weights of the models and the Fusers, and try --dtype float32"
        raise ModelFaultError(rule, f"log-probability {wrong[0]} of a token", remedy)


@torch.no_grad()
def score_tokens(reading: DecodingState, options: Sequence[Sequence[Sequence[int]]]) -> list[list[tuple[float, bool]]]:
    """Weigh given tokens after what has been read.

    Args:
        reading: B rows.
        options: For each row its options, each of at least one token id.

    Returns:
        For each option of each row the sum of its tokens' log-probabilities in nats, and whether each of its tokens is
        the likeliest one at its place.
    """
    device = reading.input_ids.device
    rows = torch.tensor([row for row, each in enumerate(options) for _ in each], device=device)
    flat = [ids for each in options for ids in each]
    state, first = _State(reading), torch.tensor([ids[0] for ids in flat], device=device)
    logits = state.read_on(reading.input_ids[:, state.columns_read :], reading.attention_mask)
    sums, greedy = log_probability(logits, rows, first).double(), is_likeliest(logits, rows, first)
    longer = [number for number, ids in enumerate(flat) if len(ids) > 1]
    if longer:
        scores, likeliest = _rest(state.of_rows(rows[longer]), [flat[number] for number in longer])
        sums[longer] += scores.double()
        greedy[longer] &= likeliest
    check_finite(sums.tolist(), reading.model)
    weights = iter(zip(sums.tolist(), greedy.tolist(), strict=True))
    return [[next(weights) for _ in each] for each in options]


def _rest(state: _State, options: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Of the tokens after each first one, ``(n,)``: sum of log-probabilities, and whether all are the likeliest."""
    width = max(len(ids) for ids in options) - 1
    device = state.mask.device

    def padded(rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=device)

    written = padded([[1] * (len(ids) - 1) for ids in options])
    targets, places = padded([ids[1:] for ids in options]), written.bool()
    logits = state.read_on(padded([ids[:-1] for ids in options]), torch.cat([state.mask, written], dim=1), places)
    rows = torch.arange(len(logits), device=device)
    scores, likeliest = torch.zeros(targets.shape, device=device), torch.ones_like(places)
    scores[places] = log_probability(logits, rows, targets[places])
    likeliest[places] = is_likeliest(logits, rows, targets[places])
    return scores.sum(-1), likeliest.all(-1)


def log_probability(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of a token each, ``(n,)`` float32, in the `rows` ``(n,)`` of logits ``(K, V)``."""
    sizes = torch.cat([part.float().logsumexp(-1) for part in logits.split(AT_ONCE)])
    return logits[rows, tokens].float() - sizes[rows]


def is_likeliest(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Whether each token, ``(n,)``, is the likeliest one in the `rows` ``(n,)`` of logits ``(K, V)``; bool."""
    return logits.argmax(-1)[rows] == tokens


class _State:
    """What a model has read of a batch, and what reads on: a cache, or one whose new tokens are fused too."""

    def __init__(self, reading: DecodingState) -> None:
        self.model, self.mask, self.response = reading.model, reading.attention_mask, reading.response
        unread = reading.cache is None and reading.response is None
        self.cache: Cache | None = kv_cache.empty_cache(self.model.config) if unread else reading.cache
        self.columns_read = 0 if unread else reading.input_ids.shape[1] - 1
        if self.response is not None:
            self.columns_read = self.response.cache.get_seq_length()

    def read_on(self, ids: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        """Read new tokens; logits ``(K, V)`` at `places` ``(B, n)`` of them, in the last column if None."""
        if places is None:
            places = torch.zeros_like(ids, dtype=torch.bool)
            places[:, -1] = True
        positions = kv_cache.positions_of(mask)[:, -ids.shape[1] :]
        if self.response is not None:
            self.response.lay_down(ids, mask, positions)
            self.cache = self.response.cache
        masks: Any = mask
        if self.response is not None and splits_windows(self.model, mask, mask.shape[1]):
            masks = masks_in_tokens(self.model, mask, ids.shape[1], self.response.cache)
        check_rotations("the model", self.model.config, self.mask.sum(-1), mask.sum(-1))
        with logits_at(self.model, places), rotations_of_positions(self.model, positions):
            output = self.model(
                input_ids=ids, attention_mask=masks, position_ids=positions, cache=self.cache, use_cache=True
            )
        self.mask = mask
        logits: Tensor = output.logits[0]
        return logits

    def of_rows(self, rows: Tensor) -> _State:
        """The same state for rows ``(B',)`` of its batch."""
        other: _State = _State.__new__(_State)
        other.model, other.mask, other.columns_read, other.cache = self.model, self.mask[rows], self.columns_read, None
        other.response = None if self.response is None else self.response.of_rows(rows)
        if self.response is None:
            assert self.cache is not None
            other.cache = kv_cache.repeat_rows(self.cache, rows, self.model.config)
        return other
