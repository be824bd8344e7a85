"""From the lines of a training set to examples: a prompt that is fused, plain or a conversation, and its response.

In plain prompts both models read a text. In chats each reads a conversation in its own template; a line with
``prompt`` and ``response`` is then a user's message and the assistant's answer to it. The answer's `opening`
(``Answer:``), with which a prompt may end, begins the assistant's turn there. It is not learned, and only fused under
the alignment ``unaligned``, which fuses all of the prompt but its last token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from c2c.alignment.chat import AlignedChat, ChatAligner
from c2c.alignment.content import encode, encode_rendering
from c2c.alignment.template import Message, RenderedText
from c2c.alignment.tokens import UNMATCHED, AlignedPrompt
from c2c.errors import RefusedError, check_choice, excerpt
from c2c.storage.formats import read_json_lines
from c2c.types import PROMPTS, UNALIGNED

DELIMITER = " "
"""Stands between prompt and response, as lm-eval's ``target_delimiter`` does."""

CORRECT = "Correct the line, or leave it out"
TOO_LONG = "longer than max_length"


class Example(NamedTuple):
    """An aligned prompt, the Receiver's tokens of the response, end token included, and the line's id."""

    prompt: AlignedPrompt
    response_ids: list[int]
    id: str = ""


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a training set: a JSON object each.

    A line has ``id``, and either ``prompt`` and ``response``, or ``messages`` of which the last, an assistant's, is
    the response. It may have ``private``, a text that the Sharer alone reads, and, with a prompt, ``opening``: how
    the prompt ends, and the answer begins.

    Raises:
        RefusedError: If the file is missing or empty, or a line lacks a key, holds something of another kind than text,
            or ends with another's turn.
    """
    path = Path(path)
    if not path.is_file():
        raise RefusedError("A training set must be a file of JSON lines", str(path), "Prepare it first")
    rows = [_check_row(row, number) for number, row in read_json_lines(path, "Prepare it again")]
    if not rows:
        raise RefusedError("A training set must have at least one example", str(path), "Prepare it again")
    return rows


def _check_row(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A line whose keys are there and hold what they should.

    Raises:
        RefusedError: Otherwise, with the number of the line.
    """
    # Keys, then their kinds, then what must hold between them
    if not any({"id", *keys} <= row.keys() for keys in (("prompt", "response"), ("messages",))):
        raise RefusedError(
            "Each line must have id, prompt and response, or id and messages",
            f"line {number}: {sorted(row)}",
            "Prepare it again",
        )
    if type(row["id"]) not in (str, int):
        raise RefusedError("An id must be text or a whole number", f"line {number}: {excerpt(row['id'])}", CORRECT)
    for key in ("prompt", "response", "private", "opening"):
        # Those that need not be there may be null.
        if key in row and not (isinstance(row[key], str) or (row[key] is None and key in ("private", "opening"))):
            raise RefusedError(f"{key} must be text", f"line {number}: {excerpt(row[key])}", CORRECT)
    if "messages" in row:
        _check_messages(row["messages"], number)
    if not row.get("prompt", "").endswith(row.get("opening") or ""):
        raise RefusedError(
            "A prompt must end with the opening of its answer",
            f"line {number}: {row['opening']!r} after {row.get('prompt')!r}",
            "Append the opening to the prompt, or leave it out",
        )
    return row


def _check_messages(messages: Any, number: int) -> None:
    """Refuse turns without a role and a content; roles are up to the template, whose refusals are counted later."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise RefusedError("messages must be a list of objects", f"line {number}: {excerpt(messages)}", CORRECT)
    keys = ("role", "content")
    if wrong := [message for message in messages if not all(isinstance(message.get(key), str) for key in keys)]:
        rule = "Each message must have a role and a content, both text"
        raise RefusedError(rule, f"line {number}: {excerpt(wrong[0])}", "Leave the line out, or write both as text")
    roles = [message["role"] for message in messages]
    if len(roles) < 2 or roles[-1] != "assistant":
        raise RefusedError(
            "A conversation to learn from must end with an assistant's turn that answers another",
            f"line {number}: {excerpt(roles)}",
            "Leave the line out, or cut it after an assistant's turn",
        )


@dataclass
class Examples:
    """Aligns and tokenises lines for one pair, and counts what it leaves out.

    Args:
        receiver: The Receiver's tokenizer.
        sharer: The Sharer's tokenizer.
        alignment: Token alignment; see `ChatAligner`.
        prompts: ``plain`` or ``chat``.
        max_length: Most tokens of the Receiver, response included; longer examples are left out.

    Attributes:
        left_out: How many lines were left out, by reason.

    Raises:
        RefusedError: If a name is unknown, or chats are asked for of a tokenizer without a chat template.
    """

    receiver: PreTrainedTokenizerBase
    sharer: PreTrainedTokenizerBase
    alignment: str
    prompts: str
    max_length: int
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        check_choice("--prompts", self.prompts, PROMPTS)
        self.aligner = ChatAligner(self.receiver, self.sharer, self.alignment)
        for template in self.aligner.templates if self.prompts == "chat" else ():
            if not template.source:
                raise RefusedError(
                    "Models of chat prompts must have a chat template",
                    getattr(template.tokenizer, "name_or_path", "") or type(template.tokenizer).__name__,
                    "Train this pair on plain prompts: --prompts plain",
                )

    def of(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Example]:
        """The examples of `rows` that fit, in their order.

        A line that cannot be aligned (a template refuses the roles, nothing of the prompt can be fused) is left out.

        Raises:
            RefusedError: If a conversation is to be plain; when all rows are done, if none of them could be used, with
                the id of the last.
        """
        number, refusal = 0, None
        for row in rows:
            place = f"line {row['id']!r}"
            if "messages" in row and self.prompts == "plain":
                raise RefusedError(
                    "Lines of plain prompts must have prompt and response",
                    f"messages in {place}",
                    "Pass --prompts chat, for models with chat templates",
                )
            # Lines that cannot be aligned, and those that are too long, are counted by their reason.
            try:
                example = self.example(row)
            except RefusedError as refused:
                refusal = RefusedError(refused.rule, f"{place}: {excerpt(refused.received)}", refused.remedy)
                self.left_out[refused.rule] += 1
                continue
            if len(example.prompt.receiver_ids) + len(example.response_ids) > self.max_length:
                self.left_out[TOO_LONG] += 1
                continue
            number += 1
            yield example
        if not number:
            raise refusal or RefusedError(
                "At least one example must fit into max_length tokens", self.max_length, "Raise --max-length"
            )

    def example(self, row: Mapping[str, Any]) -> Example:
        """One line, however long it is.

        Raises:
            RefusedError: If it does not fit the templates, or nothing of it can be fused.
        """
        private = row.get("private") or ""
        if self.prompts == "plain":
            # The end token is learned too, so that an answer ends.
            end = [self.receiver.eos_token_id] if self.receiver.eos_token_id is not None else []
            prompt: AlignedPrompt = self.aligner.tokens.align(row["prompt"], private)
            response_ids = encode(self.receiver, DELIMITER + row["response"], add_special_tokens=False).ids
            return Example(prompt, response_ids + end, str(row["id"]))
        messages, opening = _conversation(row)
        response = self.aligner.receiver.response(messages)
        if opening:
            response = _without_opening(response, opening)
        if opening and self.alignment == UNALIGNED:
            # The opening is a part of the one rendering, and fused as the rest of it is.
            turns = [*messages[:-1], {"role": "assistant", "content": opening}]
            prompt = self.aligner.align(turns, private=private, continue_final_message=True)
        else:
            prompt = self.aligner.align(messages[:-1], private=private)
            prompt = self._with_opening(prompt, messages[:-1], opening) if opening else prompt
        return Example(prompt, self._ids(response), str(row["id"]))

    def _ids(self, text: RenderedText) -> list[int]:
        return encode_rendering(self.receiver, text, text.contents).ids

    def _with_opening(self, chat: AlignedChat, messages: Sequence[Message], opening: str) -> AlignedChat:
        """The same conversation, whose last section continues with the opening of the answer."""
        # The Receiver's ids with the opening; those of the messages must be the same as without it.
        turns = [*messages, {"role": "assistant", "content": opening}]
        ids = self._ids(RenderedText.of(self.aligner.receiver.render(turns, continue_final_message=True)))
        last = chat.sections[-1]
        if ids[: last.start] != chat.receiver_ids[: last.start]:
            raise RefusedError(
                "The opening of an answer must not change how the messages before it are read",
                opening,
                "Use a chat template that writes the turns before an answer as it does without it",
            )
        # The opening is the Receiver's own: no token of it is fused.
        token_map = chat.token_map[: last.start] + [UNMATCHED] * (len(ids) - 1 - last.start)
        sections = (*chat.sections[:-1], last._replace(end=len(ids)))
        return replace(chat, receiver_ids=ids, token_map=token_map, sections=sections)


def _conversation(row: Mapping[str, Any]) -> tuple[list[Message], str]:
    """The turns of a line, and the opening of the last one."""
    if "messages" in row:
        return list(row["messages"]), ""
    opening = row.get("opening") or ""
    answer = opening + DELIMITER + row["response"] if opening else row["response"]
    question = row["prompt"].removesuffix(opening)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], opening


def _without_opening(response: RenderedText, opening: str) -> RenderedText:
    if not response.startswith(opening):
        raise RefusedError(
            "An answer must be shown as it is, its opening first",
            response,
            "Use a chat template that does not change an assistant's turn",
        )
    remainder, begin = RenderedText(response.removeprefix(opening)), len(opening)
    remainder.contents = [(max(start - begin, 0), end - begin) for start, end in response.contents if end > begin]
    return remainder
