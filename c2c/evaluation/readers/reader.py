"""Readers: from questions to the state from which a model answers."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.models.loading import LoadedModel


class Reader(ABC):
    """Prefills the answering model with questions, as a method wants it."""

    def prepare(self, questions: Sequence[Question], token_budget: int) -> None:  # noqa: B027  (most readers need no preparation)
        """Plan with all questions of a benchmark, before the first batch is read."""

    def plan(self, batches: Sequence[Sequence[Question]]) -> None:  # noqa: B027  (only a reader with a memory plans)
        """Plan prompts that are kept in a memory, in the batches in which all questions of a benchmark are read."""

    @property
    @abstractmethod
    def models(self) -> tuple[LoadedModel, ...]:
        """The models that read the prompts."""

    @abstractmethod
    def read_questions(self, questions: Sequence[Question]) -> DecodingState:
        """Read one batch."""

    @abstractmethod
    def length(self, question: Question) -> int:
        """Tokens that the answering model reads, or the Sharer if those are more; batches are formed by it."""


def positions(loaded: LoadedModel) -> int:
    """Positions of a model by its config; without limit if the config names none."""
    # A multimodal model names them in the config of its text model.
    return getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


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


def tokenise(loaded: LoadedModel, texts: Sequence[str], *, chat: bool = False) -> tuple[Tensor, Tensor, list[int]]:
    """Left-padded ids and mask, each ``(B, N)`` on the model's device, and the tokens of each text."""
    rows = [prompting.prompt_ids(loaded, text, chat=chat) for text in texts]
    ids, mask = left_pad(rows, loaded.pad)
    return ids.to(loaded.model.device), mask.to(loaded.model.device), [len(row) for row in rows]


@dataclass
class SingleReader(Reader):
    """One model reads the prompt (methods `receiver` and `sharer`).

    Args:
        loaded: The model.
        private: Whether it reads what only the Sharer may.
        memory: The model's caches of prompts, which other readers of the same model share; None reads each prompt anew.
    """

    loaded: LoadedModel
    private: bool = False
    memory: PromptMemory | None = None

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The model, alone."""
        return (self.loaded,)

    def text(self, question: Question) -> str:
        """The prompt as the model reads it."""
        return prompting.prompt_text(self.loaded, question, private=self.private)

    def read_questions(self, questions: Sequence[Question]) -> DecodingState:
        """A batch of prompts, none of which has been read."""
        chat = bool(questions[0].messages)
        # A batch is all plain or all chats: lm-eval asks a task in one form.
        texts = [self.text(question) for question in questions]
        ids, mask, lengths = tokenise(self.loaded, texts, chat=chat)
        check_room(self.loaded, ids.shape[1], max(question.max_new_tokens for question in questions))
        answers = [Answer(prompt_read=text, tokens_in=n) for text, n in zip(texts, lengths, strict=True)]
        prefix = None if self.memory is None else self.memory.prefix(ids, mask)
        cache = None if prefix is None else kv_cache.cache_of_layers(prefix, self.loaded.model.config)
        return DecodingState(self.loaded.model, self.loaded.tokenizer, ids, mask, cache, answers, special=not chat)

    def plan(self, batches: Sequence[Sequence[Question]]) -> None:
        """See `Reader.plan`."""
        if self.memory is not None:
            texts = [[self._ids(question) for question in batch] for batch in batches]
            self.memory.plan([[ids[:-1] for ids in batch] for batch in texts])

    def _ids(self, question: Question) -> list[int]:
        return prompting.prompt_ids(self.loaded, self.text(question), chat=bool(question.messages))

    def length(self, question: Question) -> int:
        """Tokens of the prompt."""
        return len(self._ids(question))


def text_hash(text: str) -> str:
    """First 16 hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
