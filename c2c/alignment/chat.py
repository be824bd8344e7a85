"""Alignment of conversations: each model reads its own template, and only the messages' tokens are fused.

Receiver and Sharer are matched inside each message, by the characters of its content, so the two templates may differ
in any way: other words, a system prompt of their own, blanks that one of them trims. Only under ``unaligned`` does the
Sharer read the Receiver's template, whose words are then fused too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal, NamedTuple

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from c2c.alignment.content import encode, encode_rendering
from c2c.alignment.template import ChatTemplate, Message, Rendering, Span
from c2c.alignment.tokens import UNMATCHED, AlignedPrompt, TokenAligner, private_lines
from c2c.errors import RefusedError
from c2c.types import UNALIGNED

SectionKind = Literal["template", "message"]


class ChatSection(NamedTuple):
    """Receiver tokens ``start`` to ``end``: a template's words, or the messages' that are fused."""

    start: int
    end: int
    kind: SectionKind


@dataclass(frozen=True)
class AlignedChat(AlignedPrompt):
    """A conversation as the Receiver reads it, and as the Sharer reads it with its own template.

    Args:
        sections: They tile the N Receiver tokens, and their kinds alternate. The last one is what the Receiver
            continues from: of a message that is to be continued it is the last token, and its kind is ``template``.
    """

    sections: tuple[ChatSection, ...]


@dataclass(frozen=True)
class _RenderedTokens:
    """A rendering's tokens: ids, first and last character of each (`last` never falls), and places of characters.

    Those are the contents', and of what the Sharer alone reads before one of them.
    """

    ids: list[int]
    first: list[int]
    last: list[int]
    spans: tuple[Span, ...]
    private: range = range(0)

    def of(self, span: Span) -> range:
        """The tokens whose last character is one of the content."""
        return range(bisect_left(self.last, span.start), bisect_left(self.last, span.end))

    def ending_at(self, character: int) -> range:
        """The tokens that end with a character; several if it is split into bytes."""
        return range(bisect_left(self.last, character), bisect_right(self.last, character))

    def is_private(self, token: int) -> bool:
        """Whether a token has a character that the Sharer alone reads."""
        return self.first[token] < self.private.stop and self.last[token] >= self.private.start

    def tokens_at(self, character: int, span: Span) -> range:
        """The tokens that end with a character of a content, else the one over it, else the content's one before."""
        # `ending.start` is the first token that ends at or after the character, whether one ends there or not.
        ending = self.ending_at(character)
        if ending:
            return ending
        # A token that begins before the character and ends after it covers it.
        at = ending.start
        if at < len(self.ids) and self.first[at] <= character:
            return range(at, at + 1)
        return range(at - 1, at) if at - 1 in self.of(span) else range(0)


class ChatAligner:
    """Aligns conversations between the tokenizers and chat templates of a Receiver and a Sharer.

    Args:
        receiver: The Receiver's tokenizer.
        sharer: The Sharer's tokenizer.
        alignment: ``span``: the Sharer reads its own tokens, and a Receiver token takes the one that covers its last
            character. ``first``, ``longest``: inside messages it reads the Receiver's tokens, re-encoded
            (``docs/reference-behaviour.md``, "Token alignment"). ``unaligned``: it reads the Receiver's tokens,
            template and all, and everything but the last token is fused (the same, "Chat alignment").

    Attributes:
        templates: The chat templates that are used, the Receiver's first; under ``unaligned`` that one alone.

    Raises:
        RefusedError: If the alignment is unknown, or ``span`` is asked of a tokenizer without character offsets.
    """

    def __init__(
        self, receiver: PreTrainedTokenizerBase, sharer: PreTrainedTokenizerBase, alignment: str = "span"
    ) -> None:
        self.tokens = TokenAligner(receiver, sharer, alignment)
        self.receiver, self.sharer = ChatTemplate(receiver), ChatTemplate(self.tokens.sharer)
        self.templates = [self.receiver] if alignment == UNALIGNED else [self.receiver, self.sharer]

    def align_text(self, text: str, private: str = "", *, control_tokens: bool = False) -> AlignedPrompt:
        """Tokenise and map plain text; see `TokenAligner.align`."""
        return self.tokens.align(text, private, control_tokens=control_tokens)

    @property
    def reencode(self) -> Callable[[Tensor], Tensor] | None:
        """How the Sharer reads a response (`TokenAligner.reencode`); None if it reads the Receiver's token ids."""
        return None if self.tokens.alignment == UNALIGNED else self.tokens.reencode

    @property
    def identical(self) -> bool:
        """Whether both models read the same tokens, so that one rendering serves both."""
        return self.tokens.identical and self.receiver.source == self.sharer.source

    def align(
        self,
        messages: Sequence[Message],
        *,
        private: str = "",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        roles: Collection[str] | None = None,
    ) -> AlignedChat:
        """Render and tokenise a conversation for both models, and map the Receiver's message tokens.

        Args:
            messages: Turns with ``role`` and ``content``; a content may be empty.
            private: What the Sharer alone reads, on lines of its own, before the last content of a user. Nothing of it
                is fused: the map points at tokens behind it.
            add_generation_prompt: End with what opens an assistant's turn.
            continue_final_message: End with the last content instead, so that the Receiver continues it.
            roles: Whose messages are fused; everyone's if None. Both models read the others' as words of the template.
                Under ``unaligned`` those are fused too, whatever the roles.

        Raises:
            RefusedError: If a tokenizer has no chat template or gives no character offsets, there is no message, a
                template refuses the conversation, a content is not found in a rendering, or there is a private text
                but no message of a user.
        """
        if self.tokens.alignment == UNALIGNED:
            return self._align_one_for_one(messages, private, add_generation_prompt, continue_final_message)
        # 1. What each model reads. A private text of re-encoded messages is added to the ids later.
        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": continue_final_message}
        receiver_tokens = _tokenise(self.receiver.tokenizer, self.receiver.render(messages, **options))
        if not receiver_tokens.ids:
            raise RefusedError("A conversation must have at least one token", list(messages), "Write a message")
        private_message = _last_of_user(messages) if private else None
        by_characters = self.identical or self.tokens.alignment == "span"
        sharer_tokens = receiver_tokens
        if not self.identical or (private and by_characters):
            sharer_tokens = self._sharer_tokens(messages, private_message, private if by_characters else "", options)
        # 2. What may be fused: nothing beyond the prefix, and the messages of some roles alone.
        if continue_final_message:
            sharer_tokens = _truncate(sharer_tokens, _prefix_end(receiver_tokens, sharer_tokens))
        if roles is not None:
            receiver_tokens, sharer_tokens = (
                _restrict_to_roles(tokens, messages, roles) for tokens in (receiver_tokens, sharer_tokens)
            )
        # 3. The map from Receiver tokens to Sharer tokens.
        if by_characters:
            sharer_ids, token_map = sharer_tokens.ids, _map_characters(receiver_tokens, sharer_tokens)
        else:
            sharer_ids, token_map = self._reencode_messages(receiver_tokens, sharer_tokens, private_message, private)
        return AlignedChat(
            receiver_tokens.ids, sharer_ids, token_map[: len(receiver_tokens.ids) - 1], _sections(receiver_tokens)
        )

    def _align_one_for_one(
        self, messages: Sequence[Message], private: str, add_generation_prompt: bool, continue_final_message: bool
    ) -> AlignedChat:
        """All tokens of the Receiver's rendering but the last, each fused with itself as the Sharer reads it."""
        rendering = self.receiver.render(
            messages, add_generation_prompt=add_generation_prompt, continue_final_message=continue_final_message
        )
        tokens = _tokenise(self.receiver.tokenizer, rendering)
        prefix = len(tokens.ids) - 1
        if prefix < 1:
            raise RefusedError("A prompt must have at least two tokens", rendering.text, "Write a longer prompt")
        sharer_ids, token_map = tokens.ids[:-1], list(range(prefix))
        # A private text stands before the last content of a user; the tokens behind it move to the right.
        if private:
            user = _last_of_user(messages)
            place = next((tokens.of(span).start for span in tokens.spans if span.message == user), prefix)
            lines = encode(self.receiver.tokenizer, private_lines(private), add_special_tokens=False).ids
            sharer_ids[place:place] = lines
            token_map = [at if at < place else at + len(lines) for at in token_map]
        sections = (ChatSection(0, prefix, "message"), ChatSection(prefix, prefix + 1, "template"))
        return AlignedChat(tokens.ids, sharer_ids, token_map, sections)

    def _sharer_tokens(
        self, messages: Sequence[Message], private_message: int | None, private: str, options: Mapping[str, bool]
    ) -> _RenderedTokens:
        """The Sharer's tokens; the place of a content does not include the private lines before it."""
        before = private_lines(private)
        # 1. The Sharer's rendering, with the private lines at the beginning of the message
        sharer_messages = [
            dict(message) | {"content": before + message["content"]} if number == private_message else message
            for number, message in enumerate(messages)
        ]
        rendering = self.sharer.render(sharer_messages, **options)
        # 2. The places of the contents, without those lines
        spans = tuple(
            _without_prefix(span, len(before)) if span.message == private_message else span for span in rendering.spans
        )
        # 3. The private characters, without the line break after them, which a token may share with the content
        places = [span for span in rendering.spans if span.message == private_message]
        private_characters = (
            range(places[0].start, places[0].start + len(private) - places[0].trimmed) if places else range(0)
        )
        return replace(_tokenise(self.sharer.tokenizer, rendering), spans=spans, private=private_characters)

    def _reencode_messages(
        self,
        receiver_tokens: _RenderedTokens,
        sharer_tokens: _RenderedTokens,
        private_message: int | None,
        private: str,
    ) -> tuple[list[int], list[int]]:
        """The Sharer's template tokens with the Receiver's tokens between them, one for one."""
        # `copied` is the end of what was taken of the Sharer's own tokens so far.
        tokens_of = {span.message: receiver_tokens.of(span) for span in receiver_tokens.spans}
        ids: list[int] = []
        token_map = [UNMATCHED] * len(receiver_tokens.ids)
        copied = 0
        for span in sharer_tokens.spans:
            content = sharer_tokens.of(span)
            ids += sharer_tokens.ids[copied : content.start]
            copied = content.stop
            if span.message == private_message:
                ids += encode(self.sharer.tokenizer, private_lines(private), add_special_tokens=False).ids
            for token in tokens_of.get(span.message, range(0)):
                # The last Receiver token is beyond the prefix: it is neither read nor fused.
                if token < len(receiver_tokens.ids) - 1:
                    token_map[token] = len(ids)
                    ids.append(self.tokens.reencode_token(receiver_tokens.ids[token]))
        return ids + sharer_tokens.ids[copied:], token_map


def _last_of_user(messages: Sequence[Message]) -> int:
    """Number of the last message of a user, before whose content a private text is put."""
    users = [number for number, message in enumerate(messages) if message.get("role") == "user"]
    if not users or not messages[users[-1]]["content"].strip():
        raise RefusedError(
            "A private text stands before the last content of a user, which must have characters",
            list(messages),
            "Add a user's message, or leave the private text out",
        )
    return users[-1]


def _without_prefix(span: Span, before: int) -> Span:
    """The place of a content without the `before` characters that were put before it."""
    return replace(
        span,
        start=min(span.start + max(before - span.trimmed, 0), span.end),
        trimmed=max(span.trimmed - before, 0),
    )


def _tokenise(tokenizer: PreTrainedTokenizerBase, rendering: Rendering) -> _RenderedTokens:
    if not tokenizer.is_fast:
        raise RefusedError(
            "A tokenizer of conversations must give character offsets",
            type(tokenizer).__name__,
            "Load the fast tokenizer",
        )
    encoding = encode_rendering(tokenizer, rendering.text, rendering.contents)
    # A blank whose offsets a tokenizer trims away still ends with the blank.
    last = list(accumulate((end - 1 for _, end in encoding.offsets), max))
    first = [min(start, end) for (start, _), end in zip(encoding.offsets, last, strict=True)]
    return _RenderedTokens(encoding.ids, first, last, rendering.spans)


def _sections(tokens: _RenderedTokens) -> tuple[ChatSection, ...]:
    fused = [False] * len(tokens.ids)
    for span in tokens.spans:
        for token in tokens.of(span):
            fused[token] = True
    # The last token is what the Receiver continues from, and is never fused.
    fused[-1:] = [False] * len(fused[-1:])
    # A section begins where the kind changes.
    starts = [at for at, kind in enumerate(fused) if at == 0 or kind != fused[at - 1]]
    return tuple(
        ChatSection(start, end, "message" if fused[start] else "template")
        for start, end in zip(starts, [*starts[1:], len(fused)], strict=True)
    )


def _map_characters(receiver_tokens: _RenderedTokens, sharer_tokens: _RenderedTokens) -> list[int]:
    """For each Receiver token the Sharer token of the same message that covers its last character, else -1.

    Byte fragments of one character are matched in order: the last with the last, all with the one if there is one. A
    character that no Sharer token covers, or none that it may read, takes the token before it, as in plain text.
    """
    places = {span.message: span for span in sharer_tokens.spans}
    token_map = [UNMATCHED] * len(receiver_tokens.ids)
    for span in receiver_tokens.spans:
        place = places.get(span.message)
        for token in receiver_tokens.of(span) if place else ():
            assert place is not None
            character = receiver_tokens.last[token]
            # The same character in the Sharer's rendering, whose template may have trimmed another number of blanks.
            there = character - span.start + span.trimmed - place.trimmed + place.start
            fragments, candidates = receiver_tokens.ending_at(character), sharer_tokens.tokens_at(there, place)
            if place.start <= there < place.end and candidates and not sharer_tokens.is_private(candidates.start):
                # Fragment r of m takes candidate ceil(r * k / m) of k: the last one takes the last one.
                rank = token - fragments.start + 1
                token_map[token] = candidates.start + -(-rank * len(candidates) // len(fragments)) - 1
    return token_map


def _prefix_end(receiver_tokens: _RenderedTokens, sharer_tokens: _RenderedTokens) -> int:
    """The end of what the Sharer may read, so that it sees no more of the last message than the prefix has."""
    span = receiver_tokens.spans[-1]
    place = next(candidate for candidate in sharer_tokens.spans if candidate.message == span.message)
    # Of a character that the last token shares with the one before, the prefix holds some bytes alone.
    length = (
        min(receiver_tokens.last[-2] + 1, receiver_tokens.first[-1]) - span.start + span.trimmed
        if len(receiver_tokens.ids) > 1
        else 0
    )
    return max(place.start, length - place.trimmed + place.start)


def _restrict_to_roles(tokens: _RenderedTokens, messages: Sequence[Message], roles: Collection[str]) -> _RenderedTokens:
    """The same tokens with the contents of these roles alone."""
    return replace(tokens, spans=tuple(span for span in tokens.spans if messages[span.message]["role"] in roles))


def _truncate(tokens: _RenderedTokens, end: int) -> _RenderedTokens:
    """The tokens that do not reach past a character."""
    count = bisect_left(tokens.last, end)
    return replace(tokens, ids=tokens.ids[:count], first=tokens.first[:count], last=tokens.last[:count])
