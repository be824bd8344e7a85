"""One model alone, or a fused one, as a respondent to lm-eval's requests: tokens in, likelihoods or text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from lm_eval.api.instance import Instance
from lm_eval.models.utils import resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from c2c.alignment.chat import AlignedChat
from c2c.alignment.tokens import AlignedPrompt, left_pad
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.harness.requests import Item, question_of
from c2c.evaluation.harness.respondents import BatchRespondent
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import Fused
from c2c.evaluation.readers.reader import Alone, positions


class Single(BatchRespondent):
    """One model alone; what is too long loses its beginning, as in lm-eval's ``hf`` model."""

    rolls = True

    def __init__(self, method: Method, rows: int | None = None, room: int | None = None) -> None:
        assert isinstance(method.reader, Alone)
        self.reader = method.reader
        config, tokenizer = self.reader.loaded.model.config, self.reader.loaded.tokenizer
        super().__init__(method, rows, resolve_max_length(config, tokenizer) if room is None else room)

    def text(self, question: Question) -> str:
        """See `Respondent`; the Sharer reads what is private, too."""
        return self.reader.text(question)

    def context(self, question: Question, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """See `BatchRespondent`; cut to the last positions of the model."""
        ids, rest = self.encoder.pair(text, continuation, chat=bool(question.messages))
        if len(rest) > self.room:
            raise RefusedError(
                f"A continuation of {question.benchmark} must have at most {self.room} tokens",
                len(rest),
                "Correct the task, or raise max_length",
            )
        return ids[-(self.room + 1 - len(rest)) :], rest

    def to_continue(self, question: Question) -> Item:
        """See `Respondent`; cut to what leaves room for the answer."""
        left = self.room - question.max_new_tokens
        if left < 1:
            raise RefusedError(
                f"An answer to {question.benchmark} must be shorter than the model's {self.room} positions",
                question.max_new_tokens,
                "Lower max_gen_toks of the task (--gen_kwargs), or raise max_length",
            )
        ids = self.encoder.tokens(self.text(question), chat=bool(question.messages))
        start = [] if self.encoder.prefix is None else [self.encoder.prefix]
        if not ids and not start:
            raise RefusedError("A context must have a token", question.prompt, "Write a longer prompt")
        return Item(question, (ids or start)[-left:])

    def plan_rolling(self, requests: Sequence[Instance]) -> list[Item]:
        """See `Respondent`; lm-eval's own windows."""
        items = []
        for place, request in enumerate(requests):
            ids = self.encoder.tokens(str(request.args[0]))
            prefix = self.encoder.prefix
            if prefix is None:
                raise RefusedError(
                    "A rolling likelihood must begin with a token that begins or ends texts",
                    self.loaded.name,
                    "Use a tokenizer with bos_token or eos_token",
                )
            windows = get_rolling_token_windows(ids, prefix_token=prefix, max_seq_len=self.room, context_len=1)
            for before, window in map(make_disjoint_window, windows):
                question = replace(question_of(request, 0), max_new_tokens=len(window) - 1)
                items.append(Item(question, list(before), [list(window)], [place]))
        return items

    def read(self, items: Sequence[Item]) -> DecodingState:
        """The ids as they are."""
        ids, mask = left_pad([item.ids for item in items], self.loaded.pad)
        device = self.loaded.model.device
        answers = [Answer(tokens_in=len(item.ids)) for item in items]
        return DecodingState(
            self.loaded.model, self.loaded.tokenizer, ids.to(device), mask.to(device), None, answers, special=False
        )


class RequestFused(Fused):
    """A fused reader of which the Receiver's tokens may end before the blanks at the end of a rendered conversation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ends: dict[tuple[str, int], list[int]] = {}

    def align(self, question: Question) -> AlignedPrompt:
        """The prompt as both models read it."""
        aligned = super().align(question)
        ids = self.ends.get((question.benchmark, question.number))
        return aligned if ids is None else ending_with(aligned, ids)


def ending_with(aligned: AlignedPrompt, ids: list[int]) -> AlignedPrompt:
    """An aligned prompt whose Receiver reads `ids`: its own tokens, but for some at the end that are not fused.

    Raises:
        RefusedError: If they are others.
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
    sections = [each._replace(end=min(each.end, len(ids))) for each in shorter.sections if each.start < len(ids)]
    return replace(shorter, sections=tuple(sections))


class FusedModel(BatchRespondent):
    """A Receiver whose prompt is fused: it needs a context of two tokens or more, and is handed all of it."""

    def __init__(self, method: Method, rows: int | None = None, room: int | None = None) -> None:
        super().__init__(method, rows, room)
        own = method.reader
        assert isinstance(own, Fused)
        self.reader = RequestFused(**{each.name: getattr(own, each.name) for each in fields(Fused)})

    def context(self, question: Question, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """See `BatchRespondent`."""
        self.check_context(question, text)
        return self.encoder.pair(text, continuation, chat=bool(question.messages))

    def plan_weights(self, requests: Sequence[Instance]) -> list[Item]:
        """See `Respondent`."""
        items = super().plan_weights(requests)
        for item in items:
            # In plain text the blanks at the end are no part of the prompt; of a conversation it is cut when aligned.
            if not item.question.messages:
                item.question.prompt = item.question.prompt.rstrip()
            self.reader.ends[item.question.benchmark, item.question.number] = item.ids
        self._check(items)
        return items

    def to_continue(self, question: Question) -> Item:
        """See `Respondent`."""
        self.check_context(question, question.prompt)
        item = super().to_continue(question)
        self.reader.ends[question.benchmark, question.number] = item.ids
        self._check([item])
        return item

    def _check(self, items: Sequence[Item]) -> None:
        for item in items:
            aligned, sharer = self.reader.align(item.question), self.reader.pair.sharer
            if len(aligned.sharer_ids) > positions(sharer):
                raise RefusedError(
                    f"A context of {item.question.benchmark} must fit into the Sharer's {positions(sharer)} positions",
                    len(aligned.sharer_ids),
                    "Give the task shorter contexts or fewer shots",
                )

    def prepare(self, items: Sequence[Item]) -> None:
        """Each benchmark's contexts at once: a control chooses among them whose the Sharer reads."""
        for benchmark in dict.fromkeys(item.question.benchmark for item in items):
            questions = [item.question for item in items if item.question.benchmark == benchmark]
            self.reader.prepare(questions, self.method.token_budget)

    def read(self, items: Sequence[Item]) -> DecodingState:
        """Prefill both models, and fuse."""
        return self.reader.read([item.question for item in items])
