"""What answers lm-eval's requests: one model alone, a fused model, or a method that asks several models in turn.

Requests are planned first and answered then. Planning encodes each context once and refuses what cannot be answered,
before any model runs.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.utils import resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from c2c.alignment.chat import AlignedChat
from c2c.alignment.tokens import AlignedPrompt, left_pad
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.batches import batches_of
from c2c.evaluation.answers.likelihood import score_tokens
from c2c.evaluation.answers.writing import decode_answers
from c2c.evaluation.harness.requests import Context, Encoder, TextSettings, context_question, text_settings
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import FusedReader, SharerPrompts
from c2c.evaluation.readers.reader import SingleReader, positions
from c2c.models.loading import LoadedModel

Score = tuple[float, bool]
"""Log-likelihood in nats, and whether it is that of the greedy tokens."""


class Respondent(ABC):
    """Plans requests and answers them.

    Args:
        method: Whose answers they are.
        rows: Greatest number of requests of a batch; None for as many as the token budget allows.
        room: Greatest number of positions of the answering model; None for the number in its config.
    """

    def __init__(self, method: Method, rows: int | None = None, room: int | None = None) -> None:
        self.method, self.rows = method, rows
        self.loaded: LoadedModel = method.models[0]
        self.encoder = Encoder(self.loaded)
        self.room = positions(self.loaded) if room is None else room
        self.numbers = itertools.count()

    @property
    def end(self) -> str:
        """Text of the tokenizer's end token; empty if there is none."""
        eos = self.loaded.tokenizer.eos_token_id
        return "" if eos is None else str(self.loaded.tokenizer.decode([eos]))

    def text(self, question: Question) -> str:
        """The context as the answering model reads it."""
        return prompting.prompt_text(self.loaded, question)

    @abstractmethod
    def plan_likelihoods(self, requests: Sequence[Instance]) -> list[Context]:
        """Plan ``loglikelihood`` requests; each context of a document is read once.

        Raises:
            RefusedError: If a request cannot be answered.
        """

    @abstractmethod
    def score(self, contexts: Sequence[Context], show: bool = True) -> list[list[Score]]:
        """The score of each continuation of each context; `show` shows a progress bar."""

    @abstractmethod
    def generate(self, contexts: Sequence[Context], settings: TextSettings, show: bool = True) -> list[str]:
        """The text that is generated after each context; `show` shows a progress bar."""

    def plan_texts(self, requests: Sequence[Instance]) -> dict[TextSettings, list[Context]]:
        """Plan ``generate_until`` requests, grouped by the settings of their texts.

        Equal requests share a greedy text; each has a sampled text of its own.

        Raises:
            RefusedError: If a request cannot be answered.
        """
        plan: dict[TextSettings, list[Context]] = {}
        contexts: dict[Any, Context] = {}
        for number, request in enumerate(requests):
            settings = text_settings(request.args[1], self.end, str(request.task_name))
            key = (request.task_name, request.doc_id, request.args[0], settings)
            # A greedy text answers all equal requests
            if key in contexts and not dict(settings.options).get("do_sample"):
                contexts[key].requests.append(number)
                continue
            # Any other request has a context of its own
            question = replace(
                context_question(request, next(self.numbers)),
                stops=settings.stops,
                max_new_tokens=settings.max_new_tokens,
            )
            context = self.context_before_text(question)
            context.requests.append(number)
            contexts[key] = context
            plan.setdefault(settings, []).append(context)
        return plan

    def context_before_text(self, question: Question) -> Context:
        """The context after which free text is generated.

        Raises:
            RefusedError: If context and text do not fit into the model's positions.
        """
        context = Context(question, self.encoder.encode(self.text(question), chat=bool(question.messages)))
        self.check_room(context, question.max_new_tokens)
        return context

    def plan_rolling(self, requests: Sequence[Instance]) -> list[Context]:
        """Plan ``loglikelihood_rolling`` requests: windows of the text, each with the number of its request.

        Raises:
            RefusedError: Always, unless one model answers alone.
        """
        raise RefusedError(
            f"A task for {self.method.name} must give a prompt: nothing else is read by two models",
            f"loglikelihood_rolling of {requests[0].task_name}",
            "Ask the receiver or the sharer alone, or choose a task with contexts",
        )

    def check_context(self, question: Question, text: str) -> None:
        """Refuse an empty context, in which two models have nothing to read."""
        if not text.strip():
            raise RefusedError(
                f"A context for {self.method.name} must not be empty: it is what both models read",
                f"a request of {question.benchmark} without a context",
                "Ask the receiver alone, or leave out the task, or the metric acc_mutual_info, which has such requests",
            )

    def check_room(self, context: Context, new_tokens: int) -> None:
        """Refuse a context that does not fit into the model's positions together with its answer."""
        if len(context.ids) + new_tokens > self.room:
            raise RefusedError(
                f"A context of {context.question.benchmark} and its answer must fit into {self.room} positions",
                len(context.ids) + new_tokens,
                f"Give the task shorter contexts or fewer shots: {self.method.name} does not cut a prompt at the left",
            )


class ReaderRespondent(Respondent):
    """A respondent that reads a context once and answers its requests from the model's cache."""

    @abstractmethod
    def prefill(self, contexts: Sequence[Context]) -> DecodingState:
        """Read one batch."""

    @abstractmethod
    def encode_request(self, question: Question, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """Token ids of the context, and of the continuation that is scored after it.

        Raises:
            RefusedError: If the request cannot be answered.
        """

    def prepare(self, contexts: Sequence[Context]) -> None:
        """Get all contexts of a call before the first batch of them."""

    def plan_likelihoods(self, requests: Sequence[Instance]) -> list[Context]:
        """See `Respondent`."""
        contexts: dict[Any, Context] = {}
        for number, request in enumerate(requests):
            question = context_question(request, 0)
            ids, continuation = self.encode_request(question, self.text(question), str(request.args[1]))
            key = (request.task_name, request.doc_id, request.args[0], tuple(ids))
            if key not in contexts:
                contexts[key] = Context(replace(question, number=next(self.numbers)), ids)
            contexts[key].continuations.append(continuation)
            contexts[key].requests.append(number)
        for context in contexts.values():
            # The last token of a continuation is scored, but never read.
            context.question.max_new_tokens = max(map(len, context.continuations)) - 1
            self.check_room(context, context.question.max_new_tokens)
        return list(contexts.values())

    def score(self, contexts: Sequence[Context], show: bool = True) -> list[list[Score]]:
        """See `Respondent`."""
        self.prepare(contexts)
        scores: dict[int, list[Score]] = {}
        for batch in self._batches(contexts, show):
            batch_scores = score_tokens(self.prefill(batch), [context.continuations for context in batch])
            scores |= {id(context): its_scores for context, its_scores in zip(batch, batch_scores, strict=True)}
        return [scores[id(context)] for context in contexts]

    def generate(self, contexts: Sequence[Context], settings: TextSettings, show: bool = True) -> list[str]:
        """See `Respondent`."""
        self.prepare(contexts)
        texts: dict[int, str] = {}
        for batch in self._batches(contexts, show):
            answers = decode_answers(
                self.prefill(batch), [context.question for context in batch], dict(settings.options)
            )
            texts |= {id(context): str(answer.output_text) for context, answer in zip(batch, answers, strict=True)}
        return [texts[id(context)] for context in contexts]

    def _batches(self, contexts: Sequence[Context], show: bool) -> Iterator[list[Context]]:
        """Batches within the token budget, the rows and the model's positions, the longest contexts first."""
        sizes = [len(context.ids) + context.question.max_new_tokens for context in contexts]
        # A continuation of several tokens is a row of its own; those of one token share their context's row.
        rows = [max(1, len(context.continuations)) if context.question.max_new_tokens else 1 for context in contexts]
        rows_of = {id(context): count for context, count in zip(contexts, rows, strict=True)}
        with tqdm(total=len(contexts), desc=self.method.name, unit="context", disable=not show) as bar:
            for batch in batches_of(contexts, sizes, self.method.token_budget, rows):
                part: list[Context] = []
                for context in batch:
                    if part and self.rows and sum(rows_of[id(member)] for member in [*part, context]) > self.rows:
                        yield from self._within_room(part)
                        part = []
                    part.append(context)
                    bar.update(1)
                yield from self._within_room(part)

    def _within_room(self, batch: list[Context]) -> list[list[Context]]:
        """A batch, or its contexts one by one where the longest context and the longest answer do not fit together."""
        longest = max(len(context.ids) for context in batch)
        longest += max(context.question.max_new_tokens for context in batch)
        return [batch] if longest <= self.room else [[context] for context in batch]


class AloneRespondent(ReaderRespondent):
    """One model alone. The beginning of a context that is too long is cut off, as in lm-eval's ``hf`` model."""

    def __init__(self, method: Method, rows: int | None = None, room: int | None = None) -> None:
        assert isinstance(method.reader, SingleReader)
        self.reader = method.reader
        config, tokenizer = self.reader.loaded.model.config, self.reader.loaded.tokenizer
        super().__init__(method, rows, resolve_max_length(config, tokenizer) if room is None else room)

    def text(self, question: Question) -> str:
        """See `Respondent`; a Sharer reads its private line, too."""
        return self.reader.text(question)

    def encode_request(self, question: Question, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """See `ReaderRespondent`; cut to the last positions of the model."""
        ids, continuation_ids = self.encoder.encode_pair(text, continuation, chat=bool(question.messages))
        if len(continuation_ids) > self.room:
            raise RefusedError(
                f"A continuation of {question.benchmark} must have at most {self.room} tokens",
                len(continuation_ids),
                "Correct the task, or raise max_length",
            )
        # The last token of the continuation is not read, which leaves one position more for the context.
        return ids[-(self.room + 1 - len(continuation_ids)) :], continuation_ids

    def context_before_text(self, question: Question) -> Context:
        """See `Respondent`; cut so that the text fits."""
        room = self.room - question.max_new_tokens
        if room < 1:
            raise RefusedError(
                f"An answer to {question.benchmark} must be shorter than the model's {self.room} positions",
                question.max_new_tokens,
                "Lower max_gen_toks of the task (--gen_kwargs), or raise max_length",
            )
        ids = self.encoder.encode(self.text(question), chat=bool(question.messages))
        prefix = [] if self.encoder.prefix is None else [self.encoder.prefix]
        if not ids and not prefix:
            raise RefusedError("A context must have a token", question.prompt, "Write a longer prompt")
        return Context(question, (ids or prefix)[-room:])

    def plan_rolling(self, requests: Sequence[Instance]) -> list[Context]:
        """See `Respondent`; lm-eval's own windows."""
        contexts = []
        for number, request in enumerate(requests):
            ids = self.encoder.encode(str(request.args[0]))
            prefix = self.encoder.prefix
            if prefix is None:
                raise RefusedError(
                    "A rolling likelihood must begin with a token that begins or ends texts",
                    self.loaded.name,
                    "Use a tokenizer with bos_token or eos_token",
                )
            # Each token is scored once, after as many tokens before it as the model has positions for.
            windows = get_rolling_token_windows(ids, prefix_token=prefix, max_seq_len=self.room, context_len=1)
            for context, window in map(make_disjoint_window, windows):
                question = replace(context_question(request, 0), max_new_tokens=len(window) - 1)
                contexts.append(Context(question, list(context), [list(window)], [number]))
        return contexts

    def prefill(self, contexts: Sequence[Context]) -> DecodingState:
        """The ids of the contexts; nothing is read yet."""
        ids, mask = left_pad([context.ids for context in contexts], self.loaded.pad)
        device = self.loaded.model.device
        answers = [Answer(tokens_in=len(context.ids)) for context in contexts]
        return DecodingState(
            self.loaded.model, self.loaded.tokenizer, ids.to(device), mask.to(device), None, answers, special=False
        )


class RequestPrompts(SharerPrompts):
    """Prompts whose Receiver may read fewer tokens: without the blanks at the end of a rendered conversation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.receiver_ids: dict[tuple[str, int], list[int]] = {}
        """The Receiver's token ids of each context, by benchmark and number of the question."""

    def align(self, question: Question) -> AlignedPrompt:
        """The prompt as both models read it."""
        aligned = super().align(question)
        ids = self.receiver_ids.get((question.benchmark, question.number))
        return aligned if ids is None else with_receiver_ids(aligned, ids)


def with_receiver_ids(aligned: AlignedPrompt, ids: list[int]) -> AlignedPrompt:
    """An aligned prompt whose Receiver reads `ids`: its own tokens, except for some at the end that are not fused.

    Raises:
        RefusedError: If the tokens before the last one differ from the prompt's.
    """
    prefix = len(ids) - 1
    if prefix < 1 or ids[:prefix] != aligned.receiver_ids[:prefix]:
        raise RefusedError(
            "A prompt must be two tokens or more, the same ones with and without the blanks at its end",
            aligned.receiver_ids[-8:],
            "Begin it with no token that the tokenizer adds itself, and end it without blanks",
        )
    shorter = replace(aligned, receiver_ids=ids, token_map=aligned.token_map[:prefix])
    if not isinstance(shorter, AlignedChat):
        return shorter
    # Tokens that are cut off at the end belong to the last sections, which are not fused.
    sections = [
        section._replace(end=min(section.end, len(ids))) for section in shorter.sections if section.start < len(ids)
    ]
    return replace(shorter, sections=tuple(sections))


class FusedRespondent(ReaderRespondent):
    """A Receiver whose prompt is fused: a context has two tokens or more, and is never cut."""

    def __init__(self, method: Method, rows: int | None = None, room: int | None = None) -> None:
        super().__init__(method, rows, room)
        reader = method.reader
        assert isinstance(reader, FusedReader)
        prompts = {field.name: getattr(reader.sharer, field.name) for field in fields(SharerPrompts)}
        self.prompts = RequestPrompts(**prompts)
        self.reader = FusedReader([self.prompts])

    def encode_request(self, question: Question, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """See `ReaderRespondent`."""
        self.check_context(question, text)
        return self.encoder.encode_pair(text, continuation, chat=bool(question.messages))

    def plan_likelihoods(self, requests: Sequence[Instance]) -> list[Context]:
        """See `Respondent`."""
        contexts = super().plan_likelihoods(requests)
        for context in contexts:
            # In plain text the blanks at the end are no part of the prompt; a conversation is cut when it is aligned.
            if not context.question.messages:
                context.question.prompt = context.question.prompt.rstrip()
            self._align(context)
        return contexts

    def context_before_text(self, question: Question) -> Context:
        """See `Respondent`."""
        self.check_context(question, question.prompt)
        context = super().context_before_text(question)
        self._align(context)
        return context

    def _align(self, context: Context) -> None:
        """Align a context, and refuse it where it does not fit into the Sharer's positions."""
        question, sharer = context.question, self.prompts.pair.sharer
        self.prompts.receiver_ids[question.benchmark, question.number] = context.ids
        aligned = self.prompts.align(question)
        if len(aligned.sharer_ids) > positions(sharer):
            raise RefusedError(
                f"A context of {question.benchmark} must fit into the Sharer's {positions(sharer)} positions",
                len(aligned.sharer_ids),
                "Give the task shorter contexts or fewer shots",
            )

    def prepare(self, contexts: Sequence[Context]) -> None:
        """Prepare the reader for each benchmark: a control chooses another context of it for the Sharer."""
        for benchmark in dict.fromkeys(context.question.benchmark for context in contexts):
            questions = [context.question for context in contexts if context.question.benchmark == benchmark]
            self.reader.prepare(questions, self.method.token_budget)

    def prefill(self, contexts: Sequence[Context]) -> DecodingState:
        """Read the contexts with both models, and fuse their caches."""
        return self.reader.read_questions([context.question for context in contexts])


class MethodRespondent(Respondent):
    """A method that asks several models in turn: text to text, or routing.

    Args:
        method: As in `Respondent`.
        is_routed: Whether whole documents are sent to one model or the other.
        wording: The prompts ``t2t_question`` and ``t2t_prompt`` of text to text.
    """

    def __init__(self, method: Method, *, is_routed: bool = False, wording: Mapping[str, str] | None = None) -> None:
        super().__init__(method)
        self.is_routed, self.wording = is_routed, wording

    def with_wording(self, question: Question) -> Question:
        """A question with the prompts of text to text, which may name the document's fields and ``prompt``."""
        if self.wording is None:
            return question
        doc = {"question": question.prompt, **question.doc, "prompt": question.prompt}
        return replace(
            question, doc=doc, t2t_question=self.wording["t2t_question"], t2t_prompt=self.wording["t2t_prompt"]
        )

    def plan_likelihoods(self, requests: Sequence[Instance]) -> list[Context]:
        """See `Respondent`; a document is what is routed, so its requests share one context and give a choice."""
        contexts: dict[Any, Context] = {}
        for number, request in enumerate(requests):
            # The blanks at the end of a plain context belong to the continuation.
            question = context_question(request, 0)
            full_text, continuation = self.text(question), str(request.args[1])
            text = full_text.rstrip()
            if not question.messages:
                question.prompt, continuation = text, full_text[len(text) :] + continuation
            ids = self._encode(question)
            key = (request.task_name, request.doc_id, None if self.is_routed else request.args[0])
            if key not in contexts:
                contexts[key] = Context(self.with_wording(replace(question, number=next(self.numbers))), ids)
            context = contexts[key]
            if context.ids != ids:
                raise self._refusal_of_routing(request, "requests with different contexts")
            context.question.options += (continuation,)
            context.requests.append(number)
            tokens = len(self.encoder.encode(continuation))
            context.question.max_new_tokens = max(context.question.max_new_tokens, tokens)
        for context in contexts.values():
            if self.is_routed and len(context.requests) < 2:
                raise self._refusal_of_routing(requests[context.requests[0]], "one request alone")
            self.check_room(context, context.question.max_new_tokens)
        return list(contexts.values())

    def _refusal_of_routing(self, request: Instance, received: str) -> RefusedError:
        return RefusedError(
            f"A document of {request.task_name} must give one context and several options to be routed",
            received,
            "Choose a task of multiple choice or of free answers",
        )

    def _encode(self, question: Question) -> list[int]:
        text = self.text(question)
        self.check_context(question, text)
        return self.encoder.encode(text, chat=bool(question.messages))

    def context_before_text(self, question: Question) -> Context:
        """See `Respondent`."""
        context = Context(question, self._encode(question))
        self.check_room(context, question.max_new_tokens)
        return replace(context, question=self.with_wording(question))

    def plan_texts(self, requests: Sequence[Instance]) -> dict[TextSettings, list[Context]]:
        """See `Respondent`; greedy text alone."""
        plan = super().plan_texts(requests)
        for settings in plan:
            if settings.options:
                raise RefusedError(
                    f"Text of {self.method.name} must be greedy and without penalties",
                    dict(settings.options),
                    "Pass --gen_kwargs do_sample=False, or ask receiver, sharer or c2c",
                )
        return plan

    def score(self, contexts: Sequence[Context], show: bool = True) -> list[list[Score]]:
        """See `Respondent`."""
        answers = self._answers(contexts)
        return [list(zip(answer.choice_scores or [], answer.choice_greedy or [], strict=True)) for answer in answers]

    def generate(self, contexts: Sequence[Context], settings: TextSettings, show: bool = True) -> list[str]:
        """See `Respondent`."""
        return [str(answer.output_text) for answer in self._answers(contexts)]

    def _answers(self, contexts: Sequence[Context]) -> list[Answer]:
        answers = self.method.answer([context.question for context in contexts])
        for context, answer in zip(contexts, answers, strict=True):
            if answer.error:
                raise RefusedError(
                    f"Each request must be answered by {self.method.name}",
                    f"{answer.error} (document {context.question.doc['id']} of {context.question.benchmark})",
                    "Correct what the error names, or leave the document out (--samples)",
                )
        return answers
