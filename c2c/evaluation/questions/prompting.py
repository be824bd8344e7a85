"""How a question becomes a prompt: plain text, or messages that each model renders with its own chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from c2c.alignment.content import encode, encode_rendering, split_bos
from c2c.alignment.template import ChatTemplate, RenderedText
from c2c.alignment.tokens import private_lines
from c2c.errors import RefusedError, check_choice
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.templates import render
from c2c.models.loading import LoadedModel
from c2c.types import PROMPTS

MESSAGE_END = "\n\n"
"""Ends a message of T2T in plain prompts: a base model would continue with texts of its own."""


def check_prompts(prompts: str, models: Sequence[LoadedModel]) -> None:
    """Refuse an unknown kind of prompts, or chats with a model that has no chat template.

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


def check_length(question: Question, models: Sequence[LoadedModel]) -> None:
    """Refuse a question of which one of the models has nothing to fuse: all methods refuse it then.

    A plain prompt needs two tokens besides special ones, since its last one is not fused; the user's message of a chat
    needs one.

    Raises:
        RefusedError: With the prompt.
    """
    text, least = (question.prompt.strip(), 1) if question.messages else (question.prompt, 2)
    if any(len(prompt_ids(loaded, text, chat=True)) < least for loaded in models):
        number = "a token" if question.messages else "at least two tokens"
        raise RefusedError(f"A prompt must have {number}", question.prompt, "Write a longer prompt")


def messages_as_json(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as the text that lm-eval passes on, from which each model can render its own prompt."""
    return json.dumps([dict(message) for message in messages], ensure_ascii=False)


def chat_question(question: Question, conversation: str) -> Question:
    """A question as a conversation; ``prompt`` becomes the user's last message.

    Args:
        question: In plain text.
        conversation: Written by `messages_as_json`.
    """
    messages = tuple(json.loads(conversation))
    return replace(question, messages=messages, prompt=last_user_message(messages))


def last_user_message(messages: Sequence[Mapping[str, Any]]) -> str:
    """The content of the user's last message; empty if there is none."""
    return next((str(message["content"]) for message in reversed(messages) if message["role"] == "user"), "")


def prompt_text(loaded: LoadedModel, question: Question, *, private: bool = False) -> str:
    """The prompt of a question as one model reads it.

    Args:
        loaded: Its chat template renders the messages, with thinking off; the assistant's opening is left open.
        question: With messages, or in plain text.
        private: Put the question's private line, if it has one, before it. Only the Sharer may read that line.

    Raises:
        RefusedError: As `ChatTemplate.render`.
    """
    private_text = private_lines(question.private) if private else ""
    if not question.messages:
        return private_text + question.prompt
    # The private line stands before the last content of the user, as `ChatAligner.align` puts it.
    messages = [dict(message) for message in question.messages]
    last_user = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last_user is not None:
        messages[last_user]["content"] = private_text + messages[last_user]["content"]
    return RenderedText.of(ChatTemplate(loaded.tokenizer).render(messages, **turn_options(question)))


def turn_options(question: Question) -> dict[str, bool]:
    """Options of a chat template: open an assistant's turn, or continue the opening that the task gives."""
    has_opening = bool(question.messages) and question.messages[-1]["role"] == "assistant"
    return {"add_generation_prompt": not has_opening, "continue_final_message": has_opening}


def prompt_ids(loaded: LoadedModel, text: str, *, chat: bool) -> list[int]:
    """Token ids of a text of `prompt_text`, encoded as in `c2c.alignment`: contents hold no control tokens.

    The text of a rendered conversation contains its special tokens.
    """
    if isinstance(text, RenderedText):
        return encode_rendering(loaded.tokenizer, text, text.contents).ids
    bos, content = (False, text) if chat else split_bos(loaded.tokenizer, text)
    return encode(loaded.tokenizer, content, bos=bos, add_special_tokens=not chat).ids


def message_request(question: Question) -> str:
    """The request to the Sharer of T2T for a message.

    Raises:
        RefusedError: If the task file has no wording for it.
    """
    if not question.t2t_question:
        raise RefusedError(
            "A task of T2T must have the prompts t2t_question and t2t_prompt",
            question.benchmark,
            "Run the benchmark with c2c generate, which reads them from the task's metadata",
        )
    return render(f"t2t_question of {question.benchmark}", question.t2t_question, question.doc)


def message_question(question: Question) -> Question:
    """The question to the Sharer of T2T: the request for a message, in chats as the user's one message."""
    request = message_request(question)
    messages = ({"role": "user", "content": request},) if question.messages else ()
    stops = () if question.messages else (MESSAGE_END,)
    return replace(question, prompt=request, messages=messages, stops=stops, options=(), max_new_tokens=1)


def question_with_message(question: Question, message: str) -> Question:
    """The question to the Receiver of T2T: after the message; in chats as a conversation that begins with it."""
    if question.messages:
        turns = (
            {"role": "user", "content": message_request(question)},
            {"role": "assistant", "content": message},
        )
        return replace(question, messages=(*turns, *question.messages))
    values = {**question.doc, "message": message, "prompt": question.prompt}
    return replace(question, prompt=render(f"t2t_prompt of {question.benchmark}", question.t2t_prompt, values))
