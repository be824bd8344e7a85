"""lm-eval's requests as tokens of the answering model, encoded as lm-eval's own ``hf`` model encodes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.utils import normalize_gen_kwargs

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.generation_settings import NEUTRAL
from c2c.evaluation.questions.question import Question
from c2c.generation.decoding import PENALTIES, SAMPLING, check_options, check_stops
from c2c.models.loading import LoadedModel

CHAT_START = '{"c2c_messages": '
"""Begins the text of a conversation; nothing else marks it, since lm-eval may return the text from its own cache."""
DEFAULT_MAX_TOKENS = 256
"""Tokens of a free answer whose task gives no limit, as lm-eval defines it."""
LIMIT_SETTINGS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names under which a task may give that limit."""


def chat_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as the text of a request, as which lm-eval passes them on."""
    return f"{CHAT_START}{prompting.messages_as_json(messages)}}}"


def messages_of(context: str) -> tuple[dict[str, str], ...]:
    """The messages of a text that `chat_text` wrote; none if the context is plain text."""
    return tuple(json.loads(context)["c2c_messages"]) if context.startswith(CHAT_START) else ()


def context_question(request: Instance, number: int) -> Question:
    """The context of a request as a question.

    A document's ``private``, if it is a text, is the line that the Sharer alone reads. Its ``answer`` is taken as the
    gold answer, so that a derangement gives the Sharer a question with another answer.

    Args:
        request: Of lm-eval.
        number: Of the question; different contexts of a benchmark have different ones.
    """
    doc: dict[str, Any] = {"id": str(request.doc_id), **(request.doc if isinstance(request.doc, Mapping) else {})}
    if not isinstance(doc.get("private"), str):
        doc["private"] = ""
    messages = messages_of(request.args[0])
    prompt = prompting.last_user_message(messages) if messages else str(request.args[0])
    gold = str(doc.get("answer", request.doc_id))
    return Question(request.task_name or "", number, doc, prompt, gold, messages=messages, max_new_tokens=0)


@dataclass
class Context:
    """A context that is read once, and the requests that are answered from it.

    Args:
        question: The context as a `Question`.
        ids: Its token ids for the answering model.
        continuations: Token ids that are scored after it, one list a request; empty where text is generated.
        requests: Numbers of the requests: of `continuations` in their order, or those that the generated text answers.
    """

    question: Question
    ids: list[int]
    continuations: list[list[int]] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)


class Encoder:
    """Encodes texts for one model as lm-eval's ``hf`` model does.

    Args:
        loaded: The model.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.tokenizer = loaded.tokenizer
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.prefix: int | None = eos if bos is None else bos
        self._prefix_text = "" if self.prefix is None else str(self.tokenizer.decode([self.prefix]))

    def encode(self, text: str, *, chat: bool = False) -> list[int]:
        """Token ids of a text.

        No special tokens are added to a conversation, whose text contains them, or to a text that begins with one.
        """
        add_special_tokens = not chat and not (self._prefix_text and text.startswith(self._prefix_text))
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def encode_pair(self, context: str, continuation: str, *, chat: bool = False) -> tuple[list[int], list[int]]:
        """Token ids of a context and of its continuation, to which the blanks at the context's end belong.

        An empty context is the token that begins texts, or else the one that ends them.

        Raises:
            RefusedError: If there is no token to score, or none before it.
        """
        if context == "":
            # The special token is the context, unless the continuation begins with it
            ids: list[int] = self.tokenizer.encode(continuation, add_special_tokens=False)
            if self.prefix is None or ids[:1] == [self.prefix]:
                context_ids, continuation_ids = ids[:1], ids[1:]
            else:
                context_ids, continuation_ids = [self.prefix], ids
        else:
            # Both are tokenised as one text, so that the blanks between them are tokens of the continuation
            context_ids = self.encode(context.rstrip(), chat=chat)
            continuation_ids = self.encode(context + continuation, chat=chat)[len(context_ids) :]
        # Without a token on either side there is nothing to score
        if not context_ids:
            raise RefusedError(
                "A context must have a token", context, "Leave the context empty, or write more than blanks"
            )
        if not continuation_ids:
            raise RefusedError(
                "A continuation must have a token of its own", [context, continuation], "Correct the task's options"
            )
        return context_ids, continuation_ids


@dataclass(frozen=True)
class TextSettings:
    """How free text is generated.

    Args:
        stops: Texts that end it.
        max_new_tokens: Its limit, in tokens.
        options: Options of `c2c.generation.decoding.continue_text`, name and value; ``do_sample`` is among them where
            the text is sampled.
    """

    stops: tuple[str, ...]
    max_new_tokens: int
    options: tuple[tuple[str, Any], ...] = ()


def text_settings(generation_kwargs: Mapping[str, Any], eos: str, task: str) -> TextSettings:
    """The settings of a task's ``generation_kwargs``, by lm-eval's own rules.

    Args:
        generation_kwargs: Of the request.
        eos: Text of the tokenizer's end token, which ends a text too; empty if there is none.
        task: Named where a setting is refused.

    Raises:
        RefusedError: If a setting is unknown, or has a value that cannot be honoured.
    """
    # Values of a wrong type, on which lm-eval's own normalisation would fail.
    stops = check_stops(f"until of {task}", generation_kwargs.get("until") or [])
    do_sample = generation_kwargs.get("do_sample")
    if do_sample is not None and not isinstance(do_sample, bool):
        raise RefusedError(f"do_sample of {task} must be true or false", do_sample, "Correct generation_kwargs")
    for name in (*LIMIT_SETTINGS, "temperature"):
        value = generation_kwargs.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RefusedError(f"{name} of {task} must be a number", value, "Correct generation_kwargs")
    normal: dict[str, Any] = {**normalize_gen_kwargs({**generation_kwargs, "until": stops}, DEFAULT_MAX_TOKENS)}

    # Options that are unknown are refused, and those without any effect on the text are dropped.
    options = {name: normal[name] for name in normal if name not in ("until", "max_gen_toks", "do_sample")}
    for name, value in list(options.items()):
        check_choice(f"A generation setting of {task}", name, (*SAMPLING, *PENALTIES, "no_repeat_ngram_size", *NEUTRAL))
        if name in NEUTRAL and value != NEUTRAL[name]:
            raise RefusedError(f"{name} of {task} must be {NEUTRAL[name]}", value, "Leave it out")
        if name in NEUTRAL or (name in SAMPLING and not normal["do_sample"]):
            options.pop(name)
    if normal["do_sample"] and "temperature" not in options:
        raise RefusedError(
            f"do_sample of {task} must come with a temperature above 0", dict(generation_kwargs), "Add it, such as 1.0"
        )
    check_options(1, normal["max_gen_toks"], bool(normal["do_sample"]), options)
    if normal["do_sample"]:
        options["do_sample"] = True
    ends = [eos] if eos and eos not in stops else []
    return TextSettings((*stops, *ends), normal["max_gen_toks"], tuple(sorted(options.items())))
