"""The tasks of the test bed: which facts a text has, and which of them is asked.

A task draws a *head* (persons, attributes, question) and returns a maker of items, which differ in their values alone.
Training has several texts of each head, so that models read what they share once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from c2c.errors import RefusedError
from c2c.testbed.items import JOINER, Item, Place, visible_values
from c2c.testbed.tasks.bank import OPTIONS
from c2c.testbed.tasks.texts import QUESTION, Blank, Choice, Sentence, choice, compose
from c2c.testbed.tasks.values import CODE_PLACEHOLDER, COLOUR, PLACEHOLDER, THINGS, Material

CODE = "access code"
LADDER = (1, 2, 4, 8)
"""Numbers of facts of `redacted_record`; its subsets."""
PERSONS_OF_A_TEXT = 5
BOXES = ("first", "second", "third")
MOST_HEADS = 20
"""Heads that are tried for each item, where a split has few values."""
WORDINGS = {
    "possessive": "{person}'s {attribute}",
    "of": "The {attribute} of {person}",
    "file": "In {person}'s file, the {attribute}",
}
"""Subjects of the private line and of its question; each is followed by " is"."""

Maker = Callable[[str], Item]
"""Makes an item of an id."""


class Task(NamedTuple):
    """A task of the test bed.

    Args:
        name: Its name.
        maker: Draws a head from the material of a split; its other arguments are the number of the head and the task.
        placeholder: Text in the prompt in place of a value, with its leading space.
    """

    name: str
    maker: Callable[[Material, int, Task], Maker]
    placeholder: str


def word(material: Material, number: int, task: Task, need: bool = True) -> Maker:
    """One fact of one person; the value is a word."""
    del number
    person, attribute = material.person(), material.attribute()
    topic = f"{person}'s {attribute}"

    def make(name: str) -> Item:
        values = material.bag(attribute)
        value = values.draw()
        return compose(
            [(f"{topic} is", Blank(value), ".")],
            task.placeholder if need else None,
            id=name,
            task=task.name,
            subset=attribute,
            question=f"{topic} is what?",
            options=choice(value, values.sample(OPTIONS - 1, [value]), material.chance),
            facts={attribute: value},
        )

    return make


def unredacted_word(material: Material, number: int, task: Task) -> Maker:
    """The same facts as `word`, in a text that the Receiver reads whole: it needs no message."""
    return word(material, number, task, need=False)


def code(material: Material, number: int, task: Task) -> Maker:
    """One fact of one person; the value has four digits, so that a guess is right once in ten thousand times."""
    del number
    topic = f"{material.person()}'s {CODE}"

    def make(name: str) -> Item:
        value = material.codes.draw()
        item = compose(
            [(f"{topic} is", Blank(value), ".")],
            task.placeholder,
            id=name,
            task=task.name,
            subset=CODE,
            question=f"{topic} is what?",
            options=Choice((value,), 0),
            facts={CODE: value},
        )
        # Only what is written counts: options would tell the digits.
        return replace(item, options=(), answer=None)

    return make


def record(material: Material, number: int, task: Task) -> Maker:
    """Several facts of one person, one of which is asked: the message must hold them all."""
    person, count = material.person(), LADDER[number % len(LADDER)]
    attributes = material.chance.sample(sorted(material.attributes), count)
    question = material.chance.choice(attributes)

    def make(name: str) -> Item:
        bags = {attribute: material.bag(attribute) for attribute in attributes}
        facts: dict[str, str] = {}
        for attribute in attributes:
            facts[attribute] = bags[attribute].draw(facts.values())
        value = facts[question]
        return compose(
            [(f"{person}'s {attribute} is", Blank(fact), ".") for attribute, fact in facts.items()],
            task.placeholder,
            id=name,
            task=task.name,
            subset=str(count),
            question=f"{person}'s {question} is what?",
            options=choice(value, bags[question].sample(OPTIONS - 1, facts.values()), material.chance),
            facts=facts,
        )

    return make


def binding(material: Material, number: int, task: Task) -> Maker:
    """One attribute of five persons, one of whom is asked; options are values of the same text, so order counts.

    The prompt begins the answer. In the unredacted text Qwen2.5-Coder-0.5B finds the value, SmolLM2-135M rarely.
    """
    del number
    persons = [material.person() for _ in range(PERSONS_OF_A_TEXT)]
    attribute, person = material.attribute(least=PERSONS_OF_A_TEXT), material.chance.choice(persons)

    def make(name: str) -> Item:
        values = material.bag(attribute)
        facts: dict[str, str] = {}
        for holder in persons:
            facts[holder] = values.draw(facts.values())
        value = facts[person]
        others = [fact for fact in facts.values() if fact != value]
        return compose(
            [(f"{holder}'s {attribute} is", Blank(fact), ".") for holder, fact in facts.items()],
            task.placeholder,
            id=name,
            task=task.name,
            subset=attribute,
            question=f"{person}'s {attribute} is what?",
            options=choice(value, material.chance.sample(others, OPTIONS - 1), material.chance),
            facts=facts,
            ending=f"{QUESTION} {person}'s {attribute} is",
        )

    return make


def two_senders(material: Material, number: int, task: Task) -> Maker:
    """Two facts of one person, one from each of two Sharers; the answer is made of both.

    The options are the four pairs of two values of each attribute: one fact alone gives the right one in half of the
    questions.
    """
    del number
    person = material.person()
    attributes = material.chance.sample(sorted(material.attributes), 2)

    def make(name: str) -> Item:
        bags = [material.bag(attribute) for attribute in attributes]
        first, second = (bag.draw() for bag in bags)
        if first == second:
            second = bags[1].draw([first])
        pairs = ([value, *bag.sample(1, [first, second])] for value, bag in zip((first, second), bags, strict=True))
        right, *wrong = (JOINER.join(pair) for pair in product(*pairs))
        return compose(
            [
                (f"{person}'s {attribute} is", Blank(value, sender), ".")
                for sender, (attribute, value) in enumerate(zip(attributes, (first, second), strict=True))
            ],
            task.placeholder,
            id=name,
            task=task.name,
            subset="two senders",
            question=f"{person}'s {attributes[0]} and {attributes[1]} are what?",
            options=choice(right, wrong, material.chance),
            facts=dict(zip(attributes, (first, second), strict=True)),
        )

    return make


def two_hop(material: Material, number: int, task: Task) -> Maker:
    """A person has one of three boxes, and each box has a thing: two facts give the answer, and neither alone does.

    Options are the three things. The prompt begins the answer, as that of `binding`. In the unredacted text
    Qwen2.5-Coder-0.5B finds the thing, and SmolLM2-135M does not.
    """
    del number
    person, box = material.person(), material.chance.randrange(len(BOXES))

    def make(name: str) -> Item:
        things = material.bag(material.chance.choice([name for name in THINGS if name in material.attributes]))
        colours = material.bag(COLOUR).sample(len(BOXES))
        contents = things.sample(len(BOXES), colours)
        facts = {person: colours[box]}
        sentences: list[Sentence] = [(f"{person}'s box is", Blank(colours[box]), ".")]
        for label, colour, content in zip(BOXES, colours, contents, strict=True):
            facts |= {f"{label} box": colour, f"{label} thing": content}
            sentences.append(("The", Blank(colour), " box has the", Blank(content), "."))
        return compose(
            sentences,
            task.placeholder,
            id=name,
            task=task.name,
            subset="boxes",
            question=f"What is in {person}'s box?",
            options=choice(contents[box], contents[:box] + contents[box + 1 :], material.chance),
            facts=facts,
            ending=f"{QUESTION} {person}'s box has the",
        )

    return make


def private_line(material: Material, number: int, task: Task) -> Maker:
    """A fact that the Sharer reads before the question, in one of three wordings.

    The Receiver reads the question alone. Its word "what" is fused from the Sharer's " is" before it, where the Sharer
    foresees the value; the target has the value in place of "what".
    """
    wording = list(WORDINGS)[number % len(WORDINGS)]
    person, attribute = material.person(), material.attribute()
    topic = WORDINGS[wording].format(person=person, attribute=attribute)
    question = f"{topic} is{task.placeholder}?"
    prompt = QUESTION.format(question=question).lstrip()
    verb = len("Question: " + topic)
    gap = verb + len(" is")

    def make(name: str) -> Item:
        values = material.bag(attribute)
        value = values.draw()
        line = f"{topic} is {value}.\n"
        target = f"{prompt[:gap]} {value}{prompt[gap + len(task.placeholder) :]}"
        place = Place(
            sender=0,
            sharer=(len(line) + verb, len(line) + gap),
            receiver=(gap, gap + len(task.placeholder)),
            full=(len(line) + gap, len(line) + gap + len(task.placeholder)),
            target=(gap, gap + 1 + len(value)),
        )
        options = choice(value, values.sample(OPTIONS - 1, [value]), material.chance)
        return Item(
            id=name,
            task=task.name,
            subset=wording,
            sharer_texts=(line + prompt,),
            prompt=prompt,
            full_prompt=line + prompt,
            target_prompt=target,
            places=(place,),
            question=question,
            options=options.options,
            answer=options.answer,
            value=value,
            facts={attribute: value},
        )

    return make


TASKS = {
    task.name: task
    for task in (
        Task("redacted_word", word, PLACEHOLDER),
        Task("unredacted_word", unredacted_word, PLACEHOLDER),
        Task("redacted_code", code, CODE_PLACEHOLDER),
        Task("redacted_record", record, PLACEHOLDER),
        Task("redacted_binding", binding, PLACEHOLDER),
        Task("two_senders", two_senders, PLACEHOLDER),
        Task("two_hop", two_hop, PLACEHOLDER),
        Task("private_line", private_line, " what"),
    )
}


def build_items(task: Task, material: Material, count: int, texts_of_a_head: int) -> list[Item]:
    """Items of one split, several texts of each head one after the other; no text occurs twice.

    Args:
        task: The task.
        material: Persons and values of the split.
        count: Number of items.
        texts_of_a_head: Most texts of one head; a head with fewer different values has fewer.

    Raises:
        RefusedError: If the split has too few persons and values.
    """
    items: list[Item] = []
    texts: set[str] = set()
    number = 0
    while len(items) < count:
        if number > MOST_HEADS * count:
            remedy = "Take a smaller split, or a larger world"
            raise RefusedError(f"The values of a split must give {count} different texts", len(items), remedy)
        make, first = task.maker(material, number, task), len(items)
        # A bag may give the same values twice, or a word of a name: further tries, of which some may fail
        for _ in range(2 * texts_of_a_head):
            item = make(f"{task.name}.{number}.{len(items) - first}")
            if item.full_prompt not in texts and not (item.need and visible_values(item)):
                texts.add(item.full_prompt)
                items.append(item)
            if len(items) in (count, first + texts_of_a_head):
                break
        number += 1
    return items
