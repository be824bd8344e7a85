"""What is asked, what has been read of it, and what is answered.

Methods differ only in what the answering model has read before it goes on: that is a `Reading`. Everything after it is
the same code for all of them: `c2c.evaluation.answers.writing` and `c2c.evaluation.answers.likelihood`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from c2c.cache import kv_cache
from c2c.fusion.response import ResponseFusion


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
        agents_question: What the interpreter of two agents is asked.
        agents_prompt: What the solver reads, with ``{{message}}`` and ``{{prompt}}``.
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
    agents_question: str = ""
    agents_prompt: str = ""
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

    def of_rows(self, rows: Tensor) -> Reading:
        """The same state for rows ``(B',)`` of its batch; `answers` stay those of all."""
        ids, mask = self.input_ids[rows], self.attention_mask[rows]
        if self.response is not None:
            response = self.response.of_rows(rows)
            return replace(self, input_ids=ids, attention_mask=mask, cache=response.cache, response=response)
        cache = None if self.cache is None else kv_cache.repeat_rows(self.cache, rows, self.model.config)
        return replace(self, input_ids=ids, attention_mask=mask, cache=cache)
