"""A conversation as one model's chat template writes it, and where in that text each message's content stands."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase

from c2c.errors import RefusedError

Message = Mapping[str, Any]
"""One turn: ``role`` and ``content``, both strings, and what else the template reads."""

ENVIRONMENT = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
LARGEST_FACTOR, LONGEST_RENDERING = 1_000_000, 10.0
FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TimeoutError,
    TypeError,
    ValueError,
)
"""What a template's own code may raise."""

NEARBY = (16, 8, 4)
"""Characters of a template's text that must stand on both sides of a content; fewer if more are not found."""


@dataclass(frozen=True)
class Span:
    """Where a message's content stands.

    Args:
        message: Its number, from 0.
        start: Its first character in the rendered text.
        end: The character after its last one.
        trimmed: How many characters of the content the template left out at the left.
    """

    message: int
    start: int
    end: int
    trimmed: int


@dataclass(frozen=True)
class Rendering:
    """A rendered conversation and its contents in the order of the text, without empty ones."""

    text: str
    spans: tuple[Span, ...]

    @property
    def contents(self) -> list[tuple[int, int]]:
        """First character of each content and the one after its last."""
        return [(span.start, span.end) for span in self.spans]


class RenderedText(str):
    """The text of a rendering that keeps where its contents stand, for whoever tokenises it.

    Attributes:
        contents: See `Rendering.contents`.
    """

    contents: list[tuple[int, int]]

    @classmethod
    def of(cls, rendering: Rendering) -> RenderedText:
        """The text of `rendering`."""
        text = cls(rendering.text)
        text.contents = rendering.contents
        return text


class ChatTemplate:
    """The chat template of a tokenizer, with thinking off.

    Args:
        tokenizer: Its template is read when it is needed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    @property
    def source(self) -> Any:
        """The template's text, or None."""
        return getattr(self.tokenizer, "chat_template", None)

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, continue_final_message: bool = False
    ) -> Rendering:
        """Write a conversation and find each content in it.

        Args:
            messages: The turns.
            add_generation_prompt: End with what opens an assistant's turn.
            continue_final_message: End with the last content instead, so that it is continued.

        Raises:
            RefusedError: If there is no template or no message, the template refuses, or does not show a content.
        """
        contents = _check_messages(messages)
        # Written twice: as it is, and with a marker for each content, which gives the template's own pieces.
        text = self._write(messages, add_generation_prompt and not continue_final_message)
        markers = _markers(contents, text)
        marked = [dict(message) | {"content": marker} for message, marker in zip(messages, markers, strict=True)]
        pieces, order = _split(self._write(marked, add_generation_prompt and not continue_final_message), markers)
        spans = _rebuild(text, pieces, order, contents) or _search(text, pieces, order, contents)
        # A message that is continued ends the text: what closes its turn is cut off.
        if not continue_final_message:
            return Rendering(text, tuple(spans))
        final = next((span for span in spans if span.message == len(messages) - 1), None)
        if final is None:
            raise RefusedError(
                "A message that is to be continued must have a content", dict(messages[-1]), "Leave the message out"
            )
        return Rendering(text[: final.end], tuple(span for span in spans if span.end <= final.end))

    def response(self, messages: Sequence[Message]) -> RenderedText:
        """What the last turn adds to the rendering of the turns before it, up to the end of the turn.

        Blanks after the end of the turn open the next one, and are left out. Where the template ends a turn with
        nothing, the tokenizer's end token does.

        Raises:
            RefusedError: As `render`, or if the template changes the turns before it when it is added.
        """
        # 1. The conversation without and with the turn; the second must begin with the first
        before, whole = self.render(messages[:-1]).text, self.render(messages, add_generation_prompt=False)
        if not whole.text.startswith(before):
            raise RefusedError(
                "A conversation with its response must begin with the conversation that asks for it",
                whole.text,
                "Use a chat template whose generation prompt opens the assistant's turn as the turn itself does",
            )
        # 2. The turn: up to its content, then what the template ends it with
        end = max((span.end for span in whole.spans if span.message == len(messages) - 1), default=len(before))
        begin = len(before)
        text = RenderedText(whole.text[begin:end] + (whole.text[end:].rstrip() or self.tokenizer.eos_token or ""))
        # 3. Where the content is in the cut text; one that begins before the cut begins with it
        text.contents = [(max(start - begin, 0), stop - begin) for start, stop in whole.contents if stop > begin]
        return text

    def displayed_content(self, messages: Sequence[Message], number: int) -> str:
        """The part of a message's content that the template writes, without the blanks around it.

        Some templates leave an earlier answer's reasoning out. Where they change more than the content's own place, the
        content is returned as it is.
        """
        content = messages[number]["content"]
        text = self._write(messages, add_generation_prompt=True)
        marker = _markers([content], text)[0]
        marked = [dict(message) | ({"content": marker} if at == number else {}) for at, message in enumerate(messages)]
        # A marker in the content's place gives the template's words around it; what `text` has between them is shown.
        before, separator, after = self._write(marked, add_generation_prompt=True).partition(marker)
        if not separator or not text.startswith(before) or not text.endswith(after) or len(before + after) > len(text):
            return str(content)
        part = text[len(before) : len(text) - len(after)].strip()
        return part if part in content and part != content.strip() else str(content)

    def _write(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        name = getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__
        if not self.source:
            raise RefusedError(
                "A tokenizer of conversations must have a chat template",
                name,
                "Set tokenizer.chat_template, or give a base model plain text (ChatPipeline.complete, TokenAligner)",
            )
        _check_sizes(str(self.source), name)
        # A template is code: it may raise anything, or not end.
        try:
            with within(LONGEST_RENDERING):
                written = self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    enable_thinking=False,
                )
        except TemplateError as error:
            raise RefusedError(
                f"The chat template of {name} must accept the conversation",
                str(error),
                "Change the roles or their order as it says",
            ) from error
        except FAULTS as error:
            raise RefusedError(
                f"The chat template of {name} must write the conversation without an error, in {LONGEST_RENDERING} s",
                f"{type(error).__name__}: {error}",
                "Correct tokenizer.chat_template",
            ) from error
        return str(written)


@lru_cache(maxsize=64)
def _check_sizes(source: str, name: str) -> None:
    """Refuse a template that multiplies by a huge number, which jinja would do before anything could stop it."""
    try:
        # jinja folds constants when it compiles: "a" * 10 ** 10 would take the memory before `within` could raise.
        operations = list(ENVIRONMENT.parse(source).find_all((nodes.Mul, nodes.Pow)))
    except (TemplateError, RecursionError):
        return  # `apply_chat_template` refuses it with its own reason.
    for operation in operations:
        numbers = [part.value for part in (operation.left, operation.right) if isinstance(part, nodes.Const)]
        huge = any(isinstance(number, int) and abs(number) > LARGEST_FACTOR for number in numbers)
        if huge or isinstance(operation, nodes.Pow):
            raise RefusedError(
                f"The chat template of {name} must not multiply by more than {LARGEST_FACTOR:,}, nor use powers",
                f"line {operation.lineno}",
                "Correct tokenizer.chat_template",
            )


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in the block, in whatever thread it runs, if it takes longer."""
    thread, lock, state = threading.get_ident(), threading.Lock(), {"running": True}

    def stop() -> None:
        with lock:
            if state["running"]:
                # Raised between two of its bytecodes; a signal would reach the main thread alone.
                raised = ctypes.py_object(TimeoutError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            state["running"] = False
        timer.cancel()


def _check_messages(messages: Sequence[Message]) -> list[str]:
    if not messages:
        raise RefusedError("A conversation must have at least one message", list(messages), "Add a user's message")
    for message in messages:
        turn = message if isinstance(message, Mapping) else {}
        if not isinstance(turn.get("role"), str) or not isinstance(turn.get("content"), str):
            raise RefusedError(
                "A message must have a role and a content, both text", message, 'Pass {"role": "user", "content": "…"}'
            )
    return [message["content"] for message in messages]


def _markers(contents: Sequence[str], text: str) -> list[str]:
    """A word for each content that is found nowhere else; a content without characters is its own marker."""
    texts, stem = "\n".join([text, *contents]), "Qz"
    # Longer until neither the conversation nor the template contains it.
    while stem in texts:
        stem += "z"
    return [f"{stem}{number}Q" if content else "" for number, content in enumerate(contents)]


def _split(marked: str, markers: Sequence[str]) -> tuple[list[str], list[int]]:
    """The template's own pieces, one more than contents, and which content stands between each two."""
    places = sorted(
        (place, number) for number, marker in enumerate(markers) if marker for place in _places(marked, marker)
    )
    pieces, cursor = [], 0
    for place, number in places:
        pieces.append(marked[cursor:place])
        cursor = place + len(markers[number])
    return [*pieces, marked[cursor:]], [number for _, number in places]


def _places(text: str, part: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + len(part))


def _variants(content: str) -> list[tuple[str, int]]:
    """The content as it is and trimmed at its ends, longest first, and what was cut off at the left."""
    trimmed = len(content) - len(content.lstrip())
    variants = [(content, 0), (content.rstrip(), 0), (content.lstrip(), trimmed), (content.strip(), trimmed)]
    return list(dict.fromkeys(variants))


def _rebuild(text: str, pieces: Sequence[str], order: Sequence[int], contents: Sequence[str]) -> list[Span] | None:
    """The reading of `text` as pieces with contents between them, or None if it is not one or lacks a content."""
    if {number for number, content in enumerate(contents) if content.strip()} - set(order):
        return None
    if not text.startswith(pieces[0]):
        return None
    # Depth first: a reading is the spans so far, and a content may stand in `text` as it is or trimmed.
    readings: list[tuple[Span, ...]] = [()]
    visited: set[tuple[int, int]] = set()
    while readings:
        spans = readings.pop()
        slot = len(spans)
        position = spans[-1].end + len(pieces[slot]) if spans else len(pieces[0])
        # What follows depends on the slot and the place alone, and has been tried from there before.
        if (slot, position) in visited:
            continue
        visited.add((slot, position))
        if slot == len(order):
            if position == len(text):
                return _without_repeats(spans)
            continue
        # Reversed, since the last that is pushed is tried first: the longest variant.
        for variant, trimmed in reversed(_variants(contents[order[slot]])):
            if text.startswith(variant + pieces[slot + 1], position):
                readings.append((*spans, Span(order[slot], position, position + len(variant), trimmed)))
    return None


def _search(text: str, pieces: Sequence[str], order: Sequence[int], contents: Sequence[str]) -> list[Span]:
    """Contents one after the other, for a template whose own words depend on the contents.

    Raises:
        RefusedError: If one is not there.
    """
    spans: list[Span] = []
    position = 0
    for slot, message in enumerate(order):
        # The most context first, then the longest variant.
        for nearby, (variant, trimmed) in product(NEARBY, _variants(contents[message])):
            before, after = pieces[slot][-nearby:], pieces[slot + 1][:nearby]
            place = text.find(before + variant + after, max(position - len(before), 0))
            if place >= 0:
                position = place + len(before) + len(variant)
                spans.append(Span(message, position - len(variant), position, trimmed))
                break
    present = {span.message for span in spans}
    for number, content in enumerate(contents):
        if content.strip() and number not in present:
            raise RefusedError(
                "The chat template must show each content as it is, but for blanks at its ends",
                content,
                "Leave out of the content what the template leaves out, such as an earlier turn's reasoning",
            )
    return _without_repeats(spans)


def _without_repeats(spans: Sequence[Span]) -> list[Span]:
    """The first place of each content that has characters."""
    first: dict[int, Span] = {}
    for span in spans:
        if span.end > span.start:
            first.setdefault(span.message, span)
    return list(first.values())
