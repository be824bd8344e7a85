"""The tasks of the test bed: which facts a text has, and which of them is asked.

A task is a function that returns a *maker*: texts with one head (person, attributes, question) and other values at
each call. Training has several texts of each head, so that models read what they share once.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.private.splits import OPTIONS
from benchmarks.redacted.texts import Blank, choice, compose
from benchmarks.redacted.values import CODE_PLACEHOLDER, PLACEHOLDER, Material
from c2c.testbed.items import Item

Maker = Callable[[str], Item]
"""Makes an item of an id."""
CODE = "access code"


def word(material: Material, number: int, task: str, placeholder: str | None = PLACEHOLDER) -> Maker:
    """One fact of one person; the value is a word."""
    del number
    person, attribute = next(material.persons), material.attribute()
    topic = f"{person}'s {attribute}"

    def make(name: str) -> Item:
        values = material.bag(attribute)
        value = values.draw()
        return compose(
            [(f"{topic} is", Blank(value), ".")],
            placeholder,
            id=name,
            task=task,
            subset=attribute,
            question=f"{topic} is what?",
            options=choice(value, values.sample(OPTIONS - 1, [value]), material.chance),
            facts={attribute: value},
        )

    return make


def unredacted_word(material: Material, number: int, task: str) -> Maker:
    """The same facts as `word`, in a text that the Receiver reads whole: it needs no message."""
    return word(material, number, task, placeholder=None)


def code(material: Material, number: int, task: str) -> Maker:
    """One fact of one person; the value has four digits, so that a guess is right once in ten thousand times."""
    del number
    topic = f"{next(material.persons)}'s {CODE}"

    def make(name: str) -> Item:
        value = material.codes.draw()
        return compose(
            [(f"{topic} is", Blank(value), ".")],
            CODE_PLACEHOLDER,
            id=name,
            task=task,
            subset=CODE,
            question=f"{topic} is what?",
            options=choice(value, material.codes.sample(OPTIONS - 1, [value]), material.chance),
            facts={CODE: value},
        )

    return make


TASKS: dict[str, Callable[[Material, int, str], Maker]] = {
    "redacted_word": word,
    "unredacted_word": unredacted_word,
    "redacted_code": code,
}


def build_items(task: str, material: Material, count: int, texts_of_a_head: int) -> list[Item]:
    """Items of one split, several texts of each head one after the other; no text occurs twice.

    Args:
        task: Name of the task.
        material: Persons and values of the split.
        count: Number of items.
        texts_of_a_head: Most texts of one head; a head with fewer different values has fewer.
    """
    items: list[Item] = []
    number = 0
    while len(items) < count:
        maker, texts = TASKS[task](material, number, task), set()
        for _ in range(2 * texts_of_a_head):
            item = maker(f"{task}.{number}.{len(texts)}")
            if item.full_prompt not in texts and len(items) < count:
                texts.add(item.full_prompt)
                items.append(item)
            if len(texts) == texts_of_a_head:
                break
        number += 1
    return items
