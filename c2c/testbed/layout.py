"""From items to what the two models read: contexts for the Sharer, prompts for the Receiver, and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from c2c.errors import RefusedError
from c2c.testbed.channel import Prompt, SharerContext, TokenSpan, TrainingItem
from c2c.testbed.items import Item
from c2c.testbed.models import StateReader


@dataclass(frozen=True)
class ItemLayout:
    """One item as both models read it.

    Args:
        item: The item.
        context: What the Sharer reads.
        prompt: What the Receiver is asked.
        own: The Receiver's own unredacted text, with the places in it: its states there are the bound ``own_states``.
        target: The Receiver's own text with the value at the places.
        redacted: What the Receiver reads, as a context: the message that holds nothing new.
        full: The unredacted prompt, which the bound ``full`` answers.
    """

    item: Item
    context: SharerContext
    prompt: Prompt
    own: SharerContext
    target: SharerContext
    redacted: SharerContext
    full: Prompt

    @property
    def example(self) -> TrainingItem:
        """The item as a training example."""
        return TrainingItem(self.context, self.prompt, self.target)


def lay_out(item: Item, receiver: StateReader) -> ItemLayout:
    """Find the tokens of an item's places.

    An item without places is fused over its whole prompt but for special tokens and the last one: each token of the
    Receiver reads the Sharer's tokens of the same characters, so both texts must be equal.

    Raises:
        RefusedError: If a place holds the last token of the prompt, which is read after the message, or an item without
            places has another text for the Sharer.
    """
    # 1. Spans of the places in all texts.
    if item.places:
        spans = [(place.sender, (place.sharer, place.receiver, place.full, place.target)) for place in item.places]
    else:
        if set(item.sharer_texts) != {item.prompt}:
            rule = f"The Sharer of item {item.id}, which has no places, must read the Receiver's prompt"
            raise RefusedError(rule, item.sharer_texts, "Give the item places")
        spans = [(0, (span, span, span, span)) for span in token_spans(receiver, item.prompt)[:-1]]
    # 2. Tokens of the Receiver's places.
    ids, touching = receiver.tokenise(item.prompt, [its_spans[1] for _, its_spans in spans])
    places = tuple(number for tokens in touching for number in tokens)
    if places and max(places) >= len(ids) - 1:
        rule = f"A place of item {item.id} must end before the last token of its prompt"
        raise RefusedError(rule, item.prompt[-40:], "Ask the question behind it")
    counts = [len(tokens) for tokens in touching]

    def context(texts: Sequence[str], column: int, one_text: bool) -> SharerContext:
        chosen = [
            (0 if one_text else sender, TokenSpan(*its_spans[column], count))
            for (sender, its_spans), count in zip(spans, counts, strict=True)
        ]
        return SharerContext(tuple(texts), tuple(chosen), is_whole=not item.places)

    prompt = Prompt(item.prompt, tuple(ids), places, tuple(item.options), item.value, item.by_character)
    full_ids, _ = receiver.tokenise(item.full_prompt)
    return ItemLayout(
        item=item,
        context=context(item.sharer_texts, 0, False),
        prompt=prompt,
        own=context([item.full_prompt], 2, True),
        target=context([item.target_prompt], 3, True),
        redacted=context([item.prompt], 1, True),
        full=Prompt(item.full_prompt, tuple(full_ids), (), tuple(item.options), item.value, item.by_character),
    )


def token_spans(reader: StateReader, text: str) -> list[tuple[int, int]]:
    """Characters of each token of a text, special tokens left out; tokens that share a character have one span."""
    spans: list[tuple[int, int]] = []
    for start, end in reader.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]:
        if start >= end:
            continue
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans
