"""Items of the test bed: a question with all its texts, and the places at which it is fused. Imports no torch.

A file of items is JSON lines with the fields of `Item`. `read_items` refuses a row whose spans do not hold what the
test bed relies on: one wrong character would fuse another token and measure something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.storage.formats import read_json_lines, write_json_lines
from c2c.storage.manifests import check_keys

MAKE = "Make the items anew: c2c.testbed.tasks.make"
JOINER = " and "
"""Between the facts of an answer that is made of several."""
Span = tuple[int, int]
"""Characters of a text, half-open."""
SPANS = ("sharer", "receiver", "full", "target")


@dataclass(frozen=True)
class Place:
    """A span that is fused, in each text of its item.

    Args:
        sender: Index of the Sharer that reads the value.
        sharer: Span of ``sharer_texts[sender]`` whose states are sent.
        receiver: Span of ``prompt`` whose states are replaced: the placeholder.
        full: Span of ``full_prompt`` whose states the Receiver would send itself (the bound ``own_states``).
        target: Span of ``target_prompt`` that holds the value with its leading space: the target of a closed form.
    """

    sender: int
    sharer: Span
    receiver: Span
    full: Span
    target: Span


@dataclass(frozen=True)
class Item:
    """A question of the test bed.

    Args:
        id: Name of the item; no other item of its file has it.
        task: Name of the task.
        subset: Part of the task by which results are split: an attribute, a number of facts, a wording.
        sharer_texts: Text that each Sharer reads.
        prompt: Text that the Receiver reads: placeholders and the question.
        full_prompt: The same with the values, or with the private line before it (the bound ``full``).
        target_prompt: The prompt with the values at its places.
        places: Spans that are fused; with none, the whole prefix is.
        question: The question alone.
        options: Texts to choose from; empty where the answer is generated only.
        answer: Index of the right option, or None without options.
        value: The right answer.
        facts: All values of the texts by attribute, or by person where the texts have several.
        by_character: Whether options are compared by their log-probability a character, as the scoring ``text`` of a
            benchmark does; then only the choice counts, and no written answer is recorded.
    """

    id: str
    task: str
    subset: str
    sharer_texts: tuple[str, ...]
    prompt: str
    full_prompt: str
    target_prompt: str
    places: tuple[Place, ...]
    question: str
    options: tuple[str, ...]
    answer: int | None
    value: str
    facts: Mapping[str, str]
    by_character: bool = False

    @property
    def need(self) -> bool:
        """Whether the Receiver needs a message: its prompt lacks what the full prompt says."""
        return self.prompt != self.full_prompt

    @property
    def row(self) -> dict[str, Any]:
        """The item as a JSON object."""
        return asdict(self)


KEYS = {
    name: {"str": str, "bool": bool, "Mapping[str, str]": dict}.get(str(kind), list)
    for name, kind in ((field.name, field.type) for field in fields(Item))
    if name != "answer"
}
OPTIONAL_KEYS = ("by_character",)
PLACE_KEYS = {"sender": int} | dict.fromkeys(SPANS, list)


def read_items(path: Path) -> list[Item]:
    """The items of a file.

    Raises:
        RefusedError: If there is no such file or no item in it, or at the first row that breaks a rule, with its line.
    """
    items = [parse_item(row, f"Line {number} of {path.name}") for number, row in read_json_lines(path, MAKE)]
    if not items:
        raise RefusedError(f"{path.name} must hold items", "none", MAKE)
    doubles = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if doubles:
        raise RefusedError(f"Each item of {path.name} must have an id of its own", doubles, MAKE)
    return items


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write items as JSON lines; the file is there whole or not at all."""
    write_json_lines(path, (item.row for item in items))


def parse_item(row: Mapping[str, Any], where: str) -> Item:
    """The item in a JSON object, checked.

    Raises:
        RefusedError: With `where` and the rule that it breaks.
    """
    content = {name: value for name, value in row.items() if name != "answer"}
    check_keys(where, content, KEYS, optional=OPTIONAL_KEYS, remedy=MAKE)
    if "answer" not in row:
        raise RefusedError(f"{where} must hold answer", sorted(row), MAKE)
    for name in ("sharer_texts", "options"):
        _check_texts(where, name, row[name])
    _check_texts(where, "facts", list(row["facts"].values()))
    places = []
    for number, content in enumerate(row["places"]):
        check_keys(f"{where}: place {number}", content, PLACE_KEYS, remedy=MAKE)
        places.append(Place(content["sender"], *(_span(f"{where}: place {number}", content, name) for name in SPANS)))
    item = Item(
        **{name: row[name] for name in KEYS if name in row and name not in ("sharer_texts", "options", "places")},
        sharer_texts=tuple(row["sharer_texts"]),
        options=tuple(row["options"]),
        places=tuple(places),
        answer=row["answer"],
    )
    check_item(item, where)
    return item


def check_item(item: Item, where: str) -> None:
    """Check the answer of an item and each of its places.

    Raises:
        RefusedError: With `where` and the rule that the item breaks.
    """
    try:
        _check(item)
    except RefusedError as refusal:
        raise RefusedError(f"{where}: {refusal.rule}", refusal.received, refusal.remedy) from None


def _check(item: Item) -> None:
    def check(holds: bool, rule: str, received: object) -> None:
        if not holds:
            raise RefusedError(rule, received, MAKE)

    # Answer and options
    options, answer = item.options, item.answer
    check(item.prompt == item.prompt.rstrip(), "the prompt must end before the space of the answer", item.prompt)
    check(len(set(options)) == len(options) != 1, "options must differ, and be two or more, or none", options)
    if options:
        index = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options)
        check(index and options[answer or 0] == item.value, "answer must be the index of the value in options", answer)
    else:
        check(answer is None, "answer must be null without options", answer)
        check(not item.by_character, "by_character must be false without options", item.by_character)
    check(bool(item.sharer_texts), "sharer_texts must hold a text for each Sharer", item.sharer_texts)
    if not item.places:
        return
    parts = item.value.split(JOINER)
    check(
        set(parts) <= set(item.facts.values()), "value must be a fact, or facts with ' and ' between them", item.value
    )

    # Spans lie in their texts, in order
    for number, place in enumerate(item.places):
        check(
            0 <= place.sender < len(item.sharer_texts),
            f"sender of place {number} must be the index of a Sharer's text",
            place.sender,
        )
        texts = (item.sharer_texts[place.sender], item.prompt, item.full_prompt, item.target_prompt)
        for name, text in zip(SPANS, texts, strict=True):
            start, end = getattr(place, name)
            check(0 <= start < end <= len(text), f"span {name} of place {number} must lie in its text", (start, end))
    ends = [bound for place in item.places for bound in place.receiver]
    check(ends == sorted(ends), "receiver spans must be in the order of the prompt and must not overlap", ends)

    # Texts in the spans
    redacted = item.target_prompt == item.full_prompt
    for number, place in enumerate(item.places):
        target = text_at(item.target_prompt, place.target)
        full = text_at(item.full_prompt, place.full)
        values = {f" {value}" for value in item.facts.values()}
        check(target in values, f"span target of place {number} must hold a fact's value with its space", target)
        if redacted:
            sharer = text_at(item.sharer_texts[place.sender], place.sharer)
            check(sharer == target, f"span sharer of place {number} must hold the value", sharer)
            check(full == target, f"span full of place {number} must hold the value", full)
        else:
            check(
                full == text_at(item.prompt, place.receiver),
                f"span full of place {number} must hold the words of the prompt",
                full,
            )
    check(
        filled(item) == item.target_prompt,
        "the prompt must be the target prompt once its receiver spans hold the values",
        filled(item),
    )
    if item.need:
        check(not visible_values(item), "the prompt must not hold a value", visible_values(item))


def text_at(text: str, span: Span) -> str:
    """The characters of a span."""
    return text[span[0] : span[1]]


def filled(item: Item) -> str:
    """The prompt of an item with the text of each target span in place of its receiver span."""
    parts, start = [], 0
    for place in item.places:
        parts += [item.prompt[start : place.receiver[0]], text_at(item.target_prompt, place.target)]
        start = place.receiver[1]
    return "".join((*parts, item.prompt[start:]))


def visible_values(item: Item) -> list[str]:
    """Facts of an item that its prompt holds."""
    return [value for value in item.facts.values() if holds_word(item.prompt, value)]


def holds_word(text: str, word: str) -> bool:
    """Whether a text holds a word, in whatever case, with no letter or digit next to it."""
    text, word = text.casefold(), word.casefold()
    start = text.find(word)
    while start >= 0:
        around = text[start - 1 : start] + text[start + len(word) : start + len(word) + 1]
        if not any(character.isalnum() for character in around):
            return True
        start = text.find(word, start + 1)
    return False


def _check_texts(where: str, name: str, values: Sequence[Any]) -> None:
    if not all(isinstance(value, str) and value for value in values):
        raise RefusedError(f"{where}: {name} must hold texts", values, MAKE)


def _span(where: str, content: Mapping[str, Any], name: str) -> Span:
    match content[name]:
        case [int(start), int(end)] if not isinstance(start, bool) and not isinstance(end, bool):
            return start, end
    raise RefusedError(f"{where}: {name} must be two whole numbers", content[name], MAKE)
