"""How a question is put to a model: as plain text, or as messages that each model writes with its own chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from c2c.alignment.content import encode, encode_rendering, split_bos
from c2c.alignment.template import ChatTemplate, RenderedText
from c2c.alignment.tokens import private_lines
from c2c.errors import RefusedError, check_choice
from c2c.evaluation.questions.templates import render
from c2c.models.loading import LoadedModel
from c2c.types import PROMPTS

if TYPE_CHECKING:
    from c2c.evaluation.answers.answering import Question

MESSAGE_END = "\n\n"
"""Ends a message of T2T in plain prompts: a base model would go on with texts of its own."""


def check_prompts(prompts: str, models: Sequence[LoadedModel]) -> None:
    """Refuse a kind of prompts that is unknown, or chats with a model that has no chat template.

    Raises:
        RefusedError: With the model.
    """
    check_choice("The kind of prompts", prompts, PROMPTS)
    for loaded in models if prompts == "chat" else ():
        if not ChatTemplate(loaded.tokenizer).source:
            raise RefusedError(
                "Chat prompts must be asked of models that have a chat template",
                loaded.name,
                "Ask this pair in plain prompts: --prompts plain, or plain in the column prompts of config/pairs.tsv",
            )


def as_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as the text that lm-eval carries, so that each model can render its own."""
    return json.dumps([dict(each) for each in messages], ensure_ascii=False)


def in_chat(question: Question, conversation: str) -> Question:
    """A question as a conversation: `conversation` is what `as_text` gave; ``prompt`` is the user's last message."""
    messages = tuple(json.loads(conversation))
    prompt = next((each["content"] for each in reversed(messages) if each["role"] == "user"), "")
    return replace(question, messages=messages, prompt=prompt)


def text_for(loaded: LoadedModel, question: Question, *, private: bool = False) -> str:
    """The question as one model reads it.

    Args:
        loaded: Its chat template renders the messages, thinking off; the assistant's opening is left open.
        question: With messages, or in plain text.
        private: Put what only the Sharer may read, if there is any, on a line before the question.

    Raises:
        RefusedError: As `ChatTemplate.render`.
    """
    told = private_lines(question.private) if private else ""
    if not question.messages:
        return told + question.prompt
    messages = [dict(each) for each in question.messages]
    last = max((place for place, each in enumerate(messages) if each["role"] == "user"), default=None)
    if last is not None:
        messages[last]["content"] = told + messages[last]["content"]
    return RenderedText.of(ChatTemplate(loaded.tokenizer).render(messages, **opening(question)))


def opening(question: Question) -> dict[str, bool]:
    """Whether an assistant's turn is opened, or its opening, which the task gives, is continued."""
    begun = bool(question.messages) and question.messages[-1]["role"] == "assistant"
    return {"add_generation_prompt": not begun, "continue_final_message": begun}


def check_length(question: Question, models: Sequence[LoadedModel]) -> None:
    """Refuse a question of which one of the models has nothing to fuse: all methods refuse it then.

    A plain prompt must have two tokens beside special ones, since its last one is not fused; a chat one of the user's.

    Raises:
        RefusedError: With the prompt.
    """
    text, least = (question.prompt.strip(), 1) if question.messages else (question.prompt, 2)
    if any(len(tokens_for(each, text, chat=True)) < least for each in models):
        number = "a token" if question.messages else "at least two tokens"
        raise RefusedError(f"A prompt must have {number}", question.prompt, "Write a longer prompt")


def tokens_for(loaded: LoadedModel, text: str, *, chat: bool) -> list[int]:
    """Token ids of a text of `text_for`, as `c2c.alignment` tokenises it: contents hold no control tokens.

    A rendered conversation has its special tokens in the text.
    """
    if isinstance(text, RenderedText):
        return encode_rendering(loaded.tokenizer, text, text.contents).ids
    bos, rest = (False, text) if chat else split_bos(loaded.tokenizer, text)
    return encode(loaded.tokenizer, rest, bos=bos, add_special_tokens=not chat).ids


def request(question: Question) -> str:
    """What the Sharer of T2T is asked for.

    Raises:
        RefusedError: If the task file has no wording for it.
    """
    if not question.message_prompt:
        raise RefusedError(
            "A task of T2T must have the prompts t2t_question and t2t_prompt",
            question.benchmark,
            "Run the benchmark with c2c generate, which reads them from the task's metadata",
        )
    return render(f"t2t_question of {question.benchmark}", question.message_prompt, question.doc)


def asked_for_message(question: Question) -> Question:
    """What the Sharer of T2T reads: the request, in chats as the user's one message."""
    wanted = request(question)
    messages = ({"role": "user", "content": wanted},) if question.messages else ()
    stops = () if question.messages else (MESSAGE_END,)
    return replace(question, prompt=wanted, messages=messages, stops=stops, options=(), max_new_tokens=1)


def told(question: Question, message: str) -> Question:
    """The question as the Receiver reads it after the message, in chats as a conversation that had it before."""
    if question.messages:
        before = ({"role": "user", "content": request(question)}, {"role": "assistant", "content": message})
        return replace(question, messages=(*before, *question.messages))
    values = {**question.doc, "message": message, "prompt": question.prompt}
    return replace(question, prompt=render(f"t2t_prompt of {question.benchmark}", question.told_prompt, values))
