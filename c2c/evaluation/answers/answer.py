"""The answer to a question, and the state of a model from which it is decoded.

Methods differ only in what the answering model has in its cache before it answers: that is a `DecodingState`. All
methods share the code after it: `c2c.evaluation.answers.writing` and `c2c.evaluation.answers.likelihood`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from c2c.cache import kv_cache
from c2c.fusion.response import ResponseFusion


@dataclass
class Answer:
    """What a method answered; the fields are columns of a record (`c2c.evaluation.schema`)."""

    output_text: str | None = None
    output_ids: list[int] | None = None
    choice_scores: list[float] | None = None
    choice_tokens: list[int] | None = None
    choice_greedy: list[bool] | None = None
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
class DecodingState:
    """A batch of prompts and what the answering model has of them in its cache.

    Args:
        model: The model that answers.
        tokenizer: Its tokenizer.
        input_ids: ``(B, N)`` int64, left-padded prompts.
        attention_mask: ``(B, N)`` int64, 1 for tokens and 0 for pads.
        cache: Keys and values of the first N - 1 columns, of fewer where `response` reads the rest, or None if nothing
            has been read yet.
        answers: One a row, filled with what is known before the model answers.
        response: Fuses the tokens that the model writes, too (a RosettaModel with `include_response`); `cache` is its
            own then.
        special: Whether the tokenizer added special tokens to the prompts; the text of a chat contains its own.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    input_ids: Tensor
    attention_mask: Tensor
    cache: Cache | None
    answers: list[Answer] = field(default_factory=list)
    response: ResponseFusion | None = None
    special: bool = True

    def of_rows(self, rows: Tensor) -> DecodingState:
        """The same state for rows ``(B',)`` of its batch; `answers` stay those of all."""
        # (B, N) -> (B', N); a fused response brings its own cache, and the Sharers' with it.
        ids, mask = self.input_ids[rows], self.attention_mask[rows]
        if self.response is not None:
            response = self.response.of_rows(rows)
            return replace(self, input_ids=ids, attention_mask=mask, cache=response.cache, response=response)
        cache = None if self.cache is None else kv_cache.repeat_rows(self.cache, rows, self.model.config)
        return replace(self, input_ids=ids, attention_mask=mask, cache=cache)
