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

CHAT = '{"c2c_messages": '
"""Begins the text of a conversation, which is known as one by this alone: lm-eval may hand it on from its own cache."""
TOKENS = 256
"""Tokens of a free answer whose task gives no limit, as lm-eval defines it."""
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def text_of_chat(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as the text that lm-eval carries."""
    return f"{CHAT}{prompting.messages_as_json(messages)}}}"


def messages_of(context: str) -> tuple[dict[str, str], ...]:
    """The messages of a text that `text_of_chat` wrote; none if the context is plain text."""
    return tuple(json.loads(context)["c2c_messages"]) if context.startswith(CHAT) else ()


def question_of(request: Instance, number: int) -> Question:
    """The context of a request as a question; its number is free of others'.

    A document's ``private``, if it is a text, is what the Sharer alone reads; its ``answer`` tells questions with
    another answer from those with the same one.
    """
    doc: dict[str, Any] = {"id": str(request.doc_id), **(request.doc if isinstance(request.doc, Mapping) else {})}
    if not isinstance(doc.get("private"), str):
        doc["private"] = ""
    messages, prompt = messages_of(request.args[0]), str(request.args[0])
    if messages:
        prompt = next((each["content"] for each in reversed(messages) if each["role"] == "user"), "")
    gold = str(doc.get("answer", request.doc_id))
    return Question(request.task_name or "", number, doc, prompt, gold, messages=messages, max_new_tokens=0)


@dataclass
class Item:
    """One context that is read, and what is asked of it.

    Args:
        question: The context as a `Question`.
        ids: Token ids of the answering model.
        options: Token ids that are weighed after it, one list a request; empty where text is written.
        places: Numbers of the requests; those of `options` in their order, or those that the written text answers.
    """

    question: Question
    ids: list[int]
    options: list[list[int]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class Encoder:
    """Texts as tokens of one model, as lm-eval's ``hf`` model encodes them."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.tokenizer = loaded.tokenizer
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.prefix: int | None = eos if bos is None else bos
        self._begin = "" if self.prefix is None else str(self.tokenizer.decode([self.prefix]))

    def tokens(self, text: str, *, chat: bool = False) -> list[int]:
        """Ids of a text; a conversation has its special tokens in the text, and so may a text that begins with one."""
        special = not chat and not (self._begin and text.startswith(self._begin))
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special)
        return ids

    def pair(self, context: str, continuation: str, *, chat: bool = False) -> tuple[list[int], list[int]]:
        """Ids of a context and of its continuation, to which the blanks at the context's end belong.

        An empty context is the token that begins texts, or else the one that ends them.

        Raises:
            RefusedError: If there is nothing to be weighed, or no token before it.
        """
        if context == "":
            ids, rest = self._unconditional(continuation)
        else:
            text = context.rstrip()
            ids = self.tokens(text, chat=chat)
            rest = self.tokens(context + continuation, chat=chat)[len(ids) :]
        if not ids:
            raise RefusedError(
                "A context must have a token", context, "Leave the context empty, or write more than blanks"
            )
        if not rest:
            raise RefusedError(
                "A continuation must have a token of its own", [context, continuation], "Correct the task's options"
            )
        return ids, rest

    def _unconditional(self, continuation: str) -> tuple[list[int], list[int]]:
        ids: list[int] = self.tokenizer.encode(continuation, add_special_tokens=False)
        if self.prefix is None or ids[:1] == [self.prefix]:
            return ids[:1], ids[1:]
        return [self.prefix], ids


@dataclass(frozen=True)
class Writing:
    """How free text is written.

    Args:
        stops: Texts that end it.
        max_new_tokens: Its limit.
        options: Of `c2c.generation.decoding.continue_text`, name and value; ``do_sample`` among them where it is
            sampled.
    """

    stops: tuple[str, ...]
    max_new_tokens: int
    options: tuple[tuple[str, Any], ...] = ()


def writing_of(settings: Mapping[str, Any], eos: str, task: str) -> Writing:
    """What a task's ``generation_kwargs`` ask for, by lm-eval's own rules.

    Args:
        settings: As the request has them.
        eos: Text of the tokenizer's end token, which ends a text too; empty if there is none.
        task: Named where a setting is refused.

    Raises:
        RefusedError: If a setting is unknown, or has a value that cannot be honoured.
    """
    stops = check_stops(f"until of {task}", settings.get("until") or [])
    sampled = settings.get("do_sample")
    if sampled is not None and not isinstance(sampled, bool):
        raise RefusedError(f"do_sample of {task} must be true or false", sampled, "Correct generation_kwargs")
    for name in (*LIMITS, "temperature"):
        value = settings.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RefusedError(f"{name} of {task} must be a number", value, "Correct generation_kwargs")
    normal: dict[str, Any] = {**normalize_gen_kwargs({**settings, "until": stops}, TOKENS)}
    options = {name: normal[name] for name in normal if name not in ("until", "max_gen_toks", "do_sample")}
    offered = (*SAMPLING, *PENALTIES, "no_repeat_ngram_size", *NEUTRAL)
    for name, value in list(options.items()):
        check_choice(f"A generation setting of {task}", name, offered)
        if name in NEUTRAL and value != NEUTRAL[name]:
            raise RefusedError(f"{name} of {task} must be {NEUTRAL[name]}", value, "Leave it out")
        if name in NEUTRAL or (name in SAMPLING and not normal["do_sample"]):
            options.pop(name)  # without any effect on greedy text
    if normal["do_sample"]:
        if "temperature" not in options:
            raise RefusedError(
                f"do_sample of {task} must come with a temperature above 0", dict(settings), "Add it, such as 1.0"
            )
        options["do_sample"] = True
    checked = {name: value for name, value in options.items() if name != "do_sample"}
    check_options(1, normal["max_gen_toks"], bool(normal["do_sample"]), checked)
    ends = [eos] if eos and eos not in stops else []
    return Writing((*stops, *ends), normal["max_gen_toks"], tuple(sorted(options.items())))
