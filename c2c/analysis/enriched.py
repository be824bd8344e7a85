"""A question's cache that was made after answered examples, without the examples' part of it.

The cache of the question is *enriched*: it is as long as that of the question alone, but was made while the model saw
the examples (paper §3.1, cache enrichment oracle).

Positions: the question stands where it stands when it is read alone, and the examples before it, at negative
positions. Rotary position embeddings depend on distances alone, so each token sees the examples as in one text that
starts with them, the answer follows at the position that it has without examples, and layers of both readings fit
together in one cache.

With `Shots.sink_tokens`, as in the released script, the first tokens of the examples stay in the cache, as far from the
question as they were. A layer that is not enriched then holds the question as it is read behind these tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.alignment.tokens import left_pad
from c2c.analysis.run import digest
from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.templates import render
from c2c.evaluation.readers.reader import Reader, check_room
from c2c.models.loading import LoadedModel
from c2c.types import KeyValue

Key = tuple[str, int]


@dataclass(frozen=True)
class Shot:
    """A question with its answer, as an example.

    Args:
        question: As the task asks it.
        answer: What a good answer is, without the delimiter before it.
    """

    question: Question
    answer: str


@dataclass(frozen=True)
class Shots:
    """Examples to choose from, and how they are written.

    Args:
        examples: All of them.
        count: Number of examples before a question.
        delimiter: Between a prompt and its answer (the task's ``target_delimiter``).
        between: Between two examples (the task's ``fewshot_delimiter``); plain prompts only.
        lead: Template of what stands before the first example; its names are the columns of the question asked.
        reply: What the oracle reads after the question, when the examples are dropped.
        sink_tokens: How many tokens at the start of the examples stay in the oracle's cache.
        in_order: Whether a question gets the first examples of the file, instead of ones drawn for it.

    Raises:
        RefusedError: If there are fewer examples than `count`, `count` is below 1, or `sink_tokens` below 0.
    """

    examples: Sequence[Shot]
    count: int
    delimiter: str = " "
    between: str = "\n\n"
    lead: str = ""
    reply: str = ""
    sink_tokens: int = 0
    in_order: bool = False

    def __post_init__(self) -> None:
        if self.sink_tokens < 0:
            rule = "The number of tokens of the examples that stay must be at least 0"
            raise RefusedError(rule, self.sink_tokens, "Correct metadata.enrichment.sink_tokens of the task")
        if not 1 <= self.count < len(self.examples):
            rule = f"There must be at least 1 example before a question, and fewer than the {len(self.examples)} known"
            raise RefusedError(rule, self.count, "Change --shots, or prepare more examples")

    def of(self, question: Question) -> list[Shot]:
        """The examples of one question: of its subset where enough are, never itself.

        They are drawn by a hash of both ids, or are the first of the file (`in_order`).
        """
        others = [shot for shot in self.examples if shot.question.doc["id"] != question.doc["id"]]
        own = [shot for shot in others if shot.question.doc.get("subset") == question.doc.get("subset")]
        chosen = own if len(own) >= self.count else others
        if self.in_order:
            return chosen[: self.count]
        # Sorted by a hash of both ids: each question has examples of its own, the same in every run.
        return sorted(chosen, key=lambda shot: digest(f"{question.doc['id']}/{shot.question.doc['id']}"))[: self.count]


class EnrichedPrompt(NamedTuple):
    """Token ids of a question alone, and behind its examples.

    Args:
        alone: The question's prompt.
        whole: The same with the examples in it.
        enriched: How many tokens at the end of both are the question's. What stands before them in `alone` (special
            tokens, a system prompt, sink tokens) stands before the examples in `whole`.
        text: What `whole` says.
        reply: Tokens that the oracle reads after the question.
    """

    alone: list[int]
    whole: list[int]
    enriched: int
    text: str
    reply: list[int]

    @property
    def examples(self) -> int:
        """Tokens of the examples that are dropped."""
        return len(self.whole) - len(self.alone)


def enriched_prompt(loaded: LoadedModel, question: Question, shots: Shots) -> EnrichedPrompt:
    """The two prompts of a question.

    Raises:
        RefusedError: If a chat template does not write the question behind examples as it writes it alone, or a chat is
            asked with a lead, a reply or sink tokens.
    """
    if question.messages and (shots.lead or shots.reply or shots.sink_tokens):
        rule = "An enrichment oracle with a lead, a reply or sink tokens must be asked in plain prompts"
        raise RefusedError(rule, question.benchmark, "Pass --prompts plain")
    text = prompting.prompt_text(loaded, question)
    alone = prompting.prompt_ids(loaded, text, chat=bool(question.messages))
    if question.messages:
        whole_text = prompting.prompt_text(loaded, _with_turns(question, shots))
        whole = prompting.prompt_ids(loaded, whole_text, chat=True)
        enriched = _common_end(alone, whole)
    else:
        chosen = shots.of(question)
        written = [render(f"lead of {question.benchmark}", shots.lead, question.doc)] if shots.lead else []
        written += [f"{shot.question.prompt}{shots.delimiter}{shot.answer}{shots.between}" for shot in chosen]
        enriched = len(prompting.prompt_ids(loaded, text, chat=True))
        lead = len(alone) - enriched
        # Parts are tokenised alone, so that the question has the same tokens in both prompts; a text as a whole might
        # join its first characters with the examples.
        whole = alone[:lead] + prompting.prompt_ids(loaded, "".join(written), chat=True) + alone[lead:]
        whole_text = "".join(written) + text
    lead = len(alone) - enriched
    if enriched < 2 or whole[:lead] != alone[:lead] or whole[len(whole) - enriched :] != alone[lead:]:
        rule = "A question must stand at the end of its prompt in the same tokens, with examples before it and without"
        raise RefusedError(rule, loaded.name, "Ask in plain prompts, with a tokenizer that adds nothing at the end")
    # The first tokens of the examples stay, and so belong to both prompts; special tokens before them are counted.
    sinks = min(shots.sink_tokens, len(whole) - enriched)
    if sinks > lead:
        alone = whole[:sinks] + alone[lead:]
    reply = prompting.prompt_ids(loaded, shots.reply, chat=True) if shots.reply else []
    return EnrichedPrompt(alone, whole, enriched, whole_text, reply)


def _with_turns(question: Question, shots: Shots) -> Question:
    """The question as a conversation in which the examples were asked and answered before."""
    turns: list[dict[str, str]] = []
    for shot in shots.of(question):
        # An assistant's opening at the end of an example begins the answer's message.
        *messages, last = shot.question.messages
        has_opening = last["role"] == "assistant"
        answer = f"{last['content']}{shots.delimiter}{shot.answer}" if has_opening else shot.answer
        turns += [*messages, *([] if has_opening else [last]), {"role": "assistant", "content": answer}]
    # One system message: the question's.
    system = [message for message in question.messages if message["role"] == "system"]
    rest = [message for message in question.messages if message["role"] != "system"]
    turns = [message for message in turns if message["role"] != "system"]
    return replace(question, messages=(*system, *turns, *rest))


def _common_end(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens at the end of two texts are the same."""
    most = min(len(first), len(second))
    return next((at for at in range(most) if first[-1 - at] != second[-1 - at]), most)


class EnrichedCaches(NamedTuple):
    """A model's caches of a batch of questions, alone and enriched.

    Args:
        ids: ``(B, N)`` int64, left-padded prompts of the questions alone, with the first token of a reply.
        mask: ``(B, N)``.
        alone: T layers ``(B, H, N - 1, D)``.
        enriched: The same, where the question's tokens have seen the examples.
    """

    ids: Tensor
    mask: Tensor
    alone: list[KeyValue]
    enriched: list[KeyValue]


class Enrichment:
    """Both readings of questions, kept until `forget`, so that several methods answer from them.

    Args:
        loaded: The model; its positions are rotary.
        shots: The examples.

    Raises:
        RefusedError: If its config names no rotary position embeddings.
    """

    def __init__(self, loaded: LoadedModel, shots: Shots) -> None:
        if not getattr(loaded.model.config.get_text_config(), "rope_parameters", None):
            rule = "A model must have rotary position embeddings for examples to be dropped from its cache"
            raise RefusedError(rule, loaded.model.config.model_type, "Choose a model that has them")
        self.loaded, self.shots = loaded, shots
        self._prompts: dict[Key, EnrichedPrompt] = {}
        self._caches: dict[tuple[Key, ...], EnrichedCaches] = {}

    @property
    def layers(self) -> int:
        """T, layers of the model."""
        return int(self.loaded.model.config.get_text_config().num_hidden_layers)

    def prompt(self, question: Question) -> EnrichedPrompt:
        """The question's two prompts."""
        key = (question.benchmark, question.number)
        if key not in self._prompts:
            self._prompts[key] = enriched_prompt(self.loaded, question, self.shots)
        return self._prompts[key]

    def forget(self) -> None:
        """Drop the caches."""
        self._caches.clear()

    @torch.no_grad()
    def caches(self, questions: Sequence[Question]) -> EnrichedCaches:
        """Read a batch twice: alone, and behind the examples."""
        key = tuple((question.benchmark, question.number) for question in questions)
        if key not in self._caches:
            prompts = [self.prompt(question) for question in questions]
            room = max(question.max_new_tokens for question in questions)
            check_room(self.loaded, max(len(prompt.whole) + len(prompt.reply) for prompt in prompts), room)
            # Each question alone, and after its examples, which are at negative positions. Before a reply the question
            # is read to its end, so that all of it has seen the examples.
            examples = [prompt.examples for prompt in prompts]
            # Sink tokens are as far from the question as in the whole prompt; without them nothing is moved.
            leads = [len(prompt.alone) - prompt.enriched if self.shots.sink_tokens else 0 for prompt in prompts]
            ids, mask, alone = self._prefix([prompt.alone + prompt.reply[:1] for prompt in prompts], examples, leads)
            rows_behind = [prompt.whole + prompt.reply[:1] for prompt in prompts]
            _, _, whole = self._prefix(rows_behind, examples, [len(row) for row in rows_behind])
            # The question's own tokens are enriched; those before them (special ones, a system prompt) are not.
            width = ids.shape[1] - 1
            counts = [prompt.enriched + len(prompt.reply[:1]) - 1 for prompt in prompts]
            counted = torch.tensor(counts, device=ids.device)
            is_enriched = torch.arange(width, device=ids.device) >= width - counted[:, None]
            rows = is_enriched[:, None, :, None]  # (B, M) -> (B, 1, M, 1)
            enriched = [
                (torch.where(rows, new_keys, keys), torch.where(rows, new_values, values))
                for (new_keys, new_values), (keys, values) in zip(
                    kv_cache.last_tokens(whole, width), alone, strict=True
                )
            ]
            self._caches[key] = EnrichedCaches(ids, mask, alone, enriched)
        return self._caches[key]

    def _prefix(
        self, rows: Sequence[Sequence[int]], before: Sequence[int], leads: Sequence[int]
    ) -> tuple[Tensor, Tensor, list[KeyValue]]:
        """Ids and mask of left-padded rows, and the cache of all but their last tokens.

        The first ``leads[i]`` tokens of row i have their positions lowered by ``before[i]``.
        """
        device = self.loaded.model.device
        ids, mask = (tensor.to(device) for tensor in left_pad(rows, self.loaded.pad))
        positions = kv_cache.positions_of(mask)
        # (B, N) < (B, 1): the question's tokens have the same positions in both readings
        is_lead = positions < torch.tensor(leads, device=device)[:, None]
        positions = positions - is_lead * torch.tensor(before, device=device)[:, None]
        cache = kv_cache.prefill(self.loaded.model, ids[:, :-1], mask[:, :-1], positions[:, :-1])
        return ids, mask, kv_cache.layers_of(cache)


@dataclass
class FewShot(Reader):
    """The question behind its examples, all of which stay in the cache (method `few_shot`)."""

    enrichment: Enrichment

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The one model."""
        return (self.enrichment.loaded,)

    def length(self, question: Question) -> int:
        """Tokens with the examples."""
        return len(self.enrichment.prompt(question).whole)

    def read_questions(self, questions: Sequence[Question]) -> DecodingState:
        """Nothing yet: the answering model reads the whole prompt."""
        loaded = self.enrichment.loaded
        prompts = [self.enrichment.prompt(question) for question in questions]
        check_room(loaded, max(map(self.length, questions)), max(question.max_new_tokens for question in questions))
        ids, mask = left_pad([prompt.whole for prompt in prompts], loaded.pad)
        ids, mask = ids.to(loaded.model.device), mask.to(loaded.model.device)
        special = not questions[0].messages
        return DecodingState(loaded.model, loaded.tokenizer, ids, mask, None, _answers(prompts), special=special)


@dataclass
class Oracle(FewShot):
    """The question's cache, enriched in some layers (methods `oracle` and `oracle_layers`).

    Args:
        layers_of: Which layers of a question's cache are the enriched ones; all of them if None.
    """

    layers_of: Callable[[Question], Sequence[int]] | None = None

    def read_questions(self, questions: Sequence[Question]) -> DecodingState:
        """Both readings, joined layer by layer for each question."""
        loaded, both = self.enrichment.loaded, self.enrichment.caches(questions)
        # Layers of the same question and length, one cache: the positions of both readings are the same.
        everything = range(self.enrichment.layers)
        chosen = [set(self.layers_of(question) if self.layers_of else everything) for question in questions]
        layers: list[KeyValue] = []
        for number, (old, new) in enumerate(zip(both.alone, both.enriched, strict=True)):
            # (B,) -> (B, 1, 1, 1)
            rows = torch.tensor([number in its_layers for its_layers in chosen], device=both.ids.device)[
                :, None, None, None
            ]
            layers.append((torch.where(rows, new[0], old[0]), torch.where(rows, new[1], old[1])))
        cache = kv_cache.cache_of_layers(layers, loaded.model.config)
        prompts = [self.enrichment.prompt(question) for question in questions]
        ids, mask = both.ids, both.mask
        if prompts[0].reply:
            # The reply is the same for all questions, and reads the joined cache: (B, N) -> (B, N + n - 1)
            further = torch.tensor([prompt.reply[1:] for prompt in prompts], dtype=ids.dtype, device=ids.device)
            columns_read, ids = ids.shape[1] - 1, torch.cat([ids, further], dim=1)
            mask = torch.cat([mask, torch.ones_like(further)], dim=1)
            if further.shape[1]:
                positions = kv_cache.positions_of(mask)[:, columns_read:-1]
                cache = kv_cache.prefill(loaded.model, ids[:, columns_read:-1], mask[:, :-1], positions, cache)
        answers = _answers(prompts, self.enrichment.shots.reply)
        special = not questions[0].messages
        return DecodingState(loaded.model, loaded.tokenizer, ids, mask, cache, answers, special=special)


def _answers(prompts: Sequence[EnrichedPrompt], reply: str = "") -> list[Answer]:
    return [
        Answer(prompt_read=prompt.text + reply, tokens_in=len(prompt.whole) + (len(prompt.reply) if reply else 0))
        for prompt in prompts
    ]
