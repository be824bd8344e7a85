"""From sentences with blanks to an item: the texts of all models, and the spans of the blanks in them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from c2c.testbed.items import Item, Place

QUESTION = "\nQuestion: {question}\nAnswer:"


class Blank(NamedTuple):
    """A value in a sentence, which the Receiver does not read.

    Args:
        value: The value, without its leading space.
        sender: Index of the Sharer that reads it.
    """

    value: str
    sender: int = 0


Sentence = tuple[str | Blank, ...]
"""Texts and blanks, one after the other; all blanks of a sentence have one sender."""


class Choice(NamedTuple):
    """Options in random order and the index of the right one."""

    options: tuple[str, ...]
    answer: int


def choice(right: str, wrong: Sequence[str], chance: random.Random) -> Choice:
    """The right value and the wrong ones as options."""
    options = chance.sample([right, *wrong], len(wrong) + 1)
    return Choice(tuple(options), options.index(right))


def compose(
    sentences: Sequence[Sentence],
    placeholder: str | None,
    *,
    id: str,
    task: str,
    subset: str,
    question: str,
    options: Choice,
    facts: Mapping[str, str],
    ending: str = QUESTION,
) -> Item:
    """The item of some sentences.

    Args:
        sentences: Sentences in the order of the text.
        placeholder: Text in place of each value, with its leading space; None leaves the values in the Receiver's text.
        id: Name of the item.
        task: Name of its task.
        subset: Part of the task.
        question: The question alone.
        options: Options and the right one.
        facts: All values by attribute or person.
        ending: Text after the sentences, with the field ``{question}``.
    """
    senders = {part.sender for sentence in sentences for part in sentence if isinstance(part, Blank)}
    sharers = [""] * len(senders)
    prompt, full, places = "", "", []
    for sentence in sentences:
        sender = next(part.sender for part in sentence if isinstance(part, Blank))
        # Sentences are separated by spaces; a Sharer reads its own alone.
        prompt, full, sharer = (f"{text} " if text else "" for text in (prompt, full, sharers[sender]))
        for part in sentence:
            text = f" {part.value}" if isinstance(part, Blank) else part
            visible = placeholder if isinstance(part, Blank) and placeholder is not None else text
            if isinstance(part, Blank):
                bounds = (len(full), len(full) + len(text))
                ends = (len(sharer), len(sharer) + len(text)), (len(prompt), len(prompt) + len(visible))
                places.append(Place(sender, *ends, bounds, bounds))
            prompt, full, sharer = prompt + visible, full + text, sharer + text
        sharers[sender] = sharer
    end = ending.format(question=question)
    return Item(
        id=id,
        task=task,
        subset=subset,
        sharer_texts=tuple(sharers),
        prompt=prompt + end,
        full_prompt=full + end,
        target_prompt=full + end,
        places=tuple(places),
        question=question,
        options=options.options,
        answer=options.answer,
        value=options.options[options.answer],
        facts=facts,
    )
