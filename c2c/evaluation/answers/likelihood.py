"""The likelihood of options after a prompt, with as few forward passes as they need.

The prompt is read once a question. Its last position gives the first token of every option, so options of one token
need no more than that; of longer ones only the tokens after the first are run, on rows that repeat the cache. The
vocabulary's logits are computed at the positions that are looked at, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from c2c.cache import kv_cache
from c2c.cache.rows import check_rotations, masks_in_tokens, rotations_of_positions, splits_windows
from c2c.errors import ModelFaultError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.questions.question import Question
from c2c.fusion.response import ResponseFusion
from c2c.generation.head import logits_at

LOGIT_ROWS = 64
"""Positions whose logits are turned into probabilities at a time: a vocabulary may have 150,000 tokens."""


def option_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, options: Sequence[str], *, special: bool
) -> list[list[int]]:
    """Tokens of each option after `text`: those of text and option beyond the text's own, as lm-eval counts them.

    Args:
        tokenizer: Of the answering model.
        text: The prompt.
        options: Continuations.
        special: Whether `text` was tokenised with special tokens.
    """
    # Tokenised with the prompt, since an option alone may have another first token; where both together have no
    # token more than the prompt, the option alone is scored.
    prompt_tokens = len(tokenizer(text, add_special_tokens=special)["input_ids"])
    wholes = tokenizer([text + option for option in options], add_special_tokens=special)["input_ids"]
    alone = [tokenizer(option, add_special_tokens=False)["input_ids"] for option in options]
    return [whole[prompt_tokens:] or option_ids for whole, option_ids in zip(wholes, alone, strict=True)]


def score_options(state: DecodingState, questions: Sequence[Question]) -> list[Answer]:
    """Score each option of each question: the sum of its tokens' log-probabilities after the prompt, in nats."""
    options = [
        option_tokens(state.tokenizer, answer.prompt_read, question.options, special=state.special)
        for answer, question in zip(state.answers, questions, strict=True)
    ]
    for answer, tokens, scores in zip(state.answers, options, score_tokens(state, options), strict=True):
        answer.choice_scores, answer.choice_tokens = [score for score, _ in scores], [len(ids) for ids in tokens]
        answer.choice_greedy = [greedy for _, greedy in scores]
        answer.tokens_out = sum(answer.choice_tokens)
        answer.confidence = float(torch.tensor(answer.choice_scores).softmax(-1).max())
    return state.answers


def check_finite(log_probabilities: Sequence[float], model: PreTrainedModel) -> None:
    """Refuse log-probabilities, in nats, of a model whose logits are not finite.

    Raises:
        ModelFaultError: With the first of them.
    """
    not_finite = [number for number in log_probabilities if not math.isfinite(number)]
    if not_finite:
        rule = f"Every logit of {model.config.model_type} must be a finite number"
        remedy = "Check the weights of the models and the Fusers, and try --dtype float32"
        raise ModelFaultError(rule, f"log-probability {not_finite[0]} of a token", remedy)


@torch.no_grad()
def score_tokens(state: DecodingState, options: Sequence[Sequence[Sequence[int]]]) -> list[list[tuple[float, bool]]]:
    """Score tokens after the prompts.

    Args:
        state: B prompts.
        options: For each row its options, each of at least one token id.

    Returns:
        For each option of each row the sum of its tokens' log-probabilities in nats, and whether each of its tokens is
        the likeliest one at its place.
    """
    device = state.input_ids.device
    # All options of all rows in one list, and the row of each: (n,)
    rows = torch.tensor([row for row, its_options in enumerate(options) for _ in its_options], device=device)
    flat = [ids for its_options in options for ids in its_options]
    batch = PrefilledBatch.of(state)
    logits = batch.logits(state.input_ids[:, batch.columns_read :], state.attention_mask)
    sums, greedy = score_continuations(batch, logits, rows, flat)
    scores_of_all = iter(zip(sums.tolist(), greedy.tolist(), strict=True))
    return [[next(scores_of_all) for _ in its_options] for its_options in options]


def score_continuations(
    batch: PrefilledBatch, logits: Tensor, rows: Tensor, continuations: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Score tokens after prompts that have been read.

    Args:
        batch: B prompts with their last tokens.
        logits: ``(B, V)`` after them.
        rows: ``(n,)`` int64, the prompt of each continuation.
        continuations: n times token ids, at least one.

    Returns:
        The sum of each continuation's log-probabilities in nats, ``(n,)`` float64, and whether each of its tokens is
        the likeliest one at its place, ``(n,)`` bool.

    Raises:
        ModelFaultError: If a log-probability is not finite.
    """
    # The first token of every continuation, from the last position of its prompt
    first = torch.tensor([ids[0] for ids in continuations], device=logits.device)
    sums, greedy = log_probability(logits, rows, first).double(), is_likeliest(logits, rows, first)
    # Further tokens, on rows that repeat the cache
    longer = [number for number, ids in enumerate(continuations) if len(ids) > 1]
    if longer:
        further_tokens = [continuations[number] for number in longer]
        scores, likeliest = _score_further_tokens(batch.of_rows(rows[longer]), further_tokens)
        sums[longer] += scores.double()
        greedy[longer] &= likeliest
    check_finite(sums.tolist(), batch.model)
    return sums, greedy


def _score_further_tokens(batch: PrefilledBatch, options: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sum of log-probabilities of the tokens after each first one, ``(n,)``, and whether all are the likeliest."""
    width = max(len(ids) for ids in options) - 1
    device = batch.mask.device

    def pad_rows(rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=device)

    # Right-padded: token t + 1 of an option is predicted from token t. (n, width)
    written = pad_rows([[1] * (len(ids) - 1) for ids in options])
    targets, places = pad_rows([ids[1:] for ids in options]), written.bool()
    # (K, V), the K unpadded places row by row, as boolean indexing orders them
    logits = batch.logits(pad_rows([ids[:-1] for ids in options]), torch.cat([batch.mask, written], dim=1), places)
    rows = torch.arange(len(logits), device=device)
    scores, likeliest = torch.zeros(targets.shape, device=device), torch.ones_like(places)
    scores[places] = log_probability(logits, rows, targets[places])
    likeliest[places] = is_likeliest(logits, rows, targets[places])
    return scores.sum(-1), likeliest.all(-1)


def log_probability(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of one token in each of the `rows` ``(n,)`` of logits ``(K, V)``; ``(n,)`` float32."""
    # In parts, since float32 logits of all rows and tokens would be the largest tensor of a run: (K,)
    sizes = torch.cat([part.float().logsumexp(-1) for part in logits.split(LOGIT_ROWS)])
    return logits[rows, tokens].float() - sizes[rows]


def is_likeliest(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Whether each token, ``(n,)``, is the likeliest one in the `rows` ``(n,)`` of logits ``(K, V)``; bool."""
    return logits.argmax(-1)[rows] == tokens


@dataclass
class PrefilledBatch:
    """A batch as far as it has been read: a cache, or one whose new tokens are fused too.

    Args:
        model: The answering model.
        mask: ``(B, n)`` int64, of the prompts and of all tokens read since.
        columns_read: How many columns of the prompts are in the cache.
        cache: Keys and values; that of `response` if there is one.
        response: Fuses new tokens.
    """

    model: PreTrainedModel
    mask: Tensor
    columns_read: int
    cache: Cache | None
    response: ResponseFusion | None

    @classmethod
    def of(cls, state: DecodingState) -> PrefilledBatch:
        """A batch of prompts as its reader leaves it."""
        if state.response is not None:
            columns_read, cache = state.response.cache.get_seq_length(), state.response.cache
        elif state.cache is not None:
            columns_read, cache = state.input_ids.shape[1] - 1, state.cache
        else:
            columns_read, cache = 0, kv_cache.empty_cache(state.model.config)
        return cls(state.model, state.attention_mask, columns_read, cache, state.response)

    def of_rows(self, rows: Tensor) -> PrefilledBatch:
        """The same for rows ``(B',)`` of the batch."""
        if self.response is not None:
            return replace(self, mask=self.mask[rows], cache=None, response=self.response.of_rows(rows))
        assert self.cache is not None
        cache = kv_cache.repeat_rows(self.cache, rows, self.model.config)
        return replace(self, mask=self.mask[rows], cache=cache)

    def logits(
        self, ids: Tensor, mask: Tensor, places: Tensor | None = None, step_mask: Tensor | None = None
    ) -> Tensor:
        """Read new tokens.

        Args:
            ids: ``(B, n)`` int64.
            mask: ``(B, past + n)``, 1 for tokens and 0 for pads.
            places: ``(B, n)`` bool with K true: the tokens whose logits are computed; those of the last column if None.
            step_mask: For n = 1, ``(B, 1, 1, past + 1)`` bool in place of `mask` (`c2c.cache.rows.mask_of_steps`).

        Returns:
            ``(K, V)``.
        """
        positions = kv_cache.positions_of(mask)[:, -ids.shape[1] :]
        # A response that is fused writes the new tokens into its own cache.
        if self.response is not None:
            self.response.prepare_tokens(ids, mask, positions)
            self.cache = self.response.cache
        # Sections of a batch may have pads between them, which transformers would count into a window.
        masks: Any = mask if step_mask is None else step_mask
        if step_mask is None and splits_windows(self.model, mask, mask.shape[1]):
            masks = masks_in_tokens(self.model, mask, ids.shape[1], self.cache)
        check_rotations("the model", self.model.config, self.mask.sum(-1), mask.sum(-1))
        if places is None and ids.shape[1] > 1:
            places = torch.zeros_like(ids, dtype=torch.bool)
            places[:, -1] = True
        head = nullcontext() if places is None else logits_at(self.model, places)
        with head, rotations_of_positions(self.model, positions):
            output = self.model(
                input_ids=ids, attention_mask=masks, position_ids=positions, cache=self.cache, use_cache=True
            )
        self.mask = mask
        # (B, 1, V) of all rows, or (1, K, V) of the places
        logits: Tensor = output.logits
        return logits.flatten(0, 1)
