"""The user's questions as items of the test bed.

A file of questions is JSON lines, one question a line:

* ``question`` and ``answer``: what is asked, and the right answer;
* ``options`` (optional): two or more answers to choose from, the right one among them; without them the answer is
  written, and counts if it is written exactly;
* ``text`` (optional): what the Sharer alone reads. It holds the answer, which the Receiver reads as "unknown", and so
  a message is needed. All questions of a file have a text, or none has;
* ``hidden`` (optional): further words of the text that the Receiver must not read;
* ``id`` and ``subset`` (optional).

Without ``text`` both models read the question, as in a benchmark: the message is not needed, and the whole prompt is
fused. Then, or where the vocabularies have too few words of one token for generated training texts, a part of the
questions is used for training.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.storage.formats import read_json_lines
from c2c.storage.manifests import check_keys
from c2c.testbed.experiment.settings import QUESTIONS
from c2c.testbed.items import Item, Place, check_item
from c2c.testbed.tasks.texts import QUESTION
from c2c.testbed.tasks.vocabularies import Vocabularies

KEYS = {"question": str, "answer": str, "options": list, "text": str, "hidden": list, "id": str, "subset": str}
OPTIONAL = ("options", "text", "hidden", "id", "subset")
FORMAT = "See docs/experiment.md for the format"
PLACEHOLDER = " unknown"
LEAST = 20
"""Questions of a file; an interval over fewer says nothing."""
SHARES = {"test": 5, "validation": 1, "train": 4}
"""Tenths of the questions, where a part of them is for training."""


def read_questions(path: Path, vocabularies: Vocabularies) -> list[Item]:
    """The questions of a file as items.

    Args:
        path: JSON lines.
        vocabularies: Of both models: a placeholder has at least as many tokens as what it replaces.

    Raises:
        RefusedError: At the first line that breaks a rule, or if there are too few questions.
    """
    items: list[Item] = []
    lines: dict[tuple[str, str], int] = {}
    for number, row in read_json_lines(path, FORMAT):
        where = f"Line {number} of {path.name}"
        item = _item(row, number, where, vocabularies)
        for kind, content in (("question", item.full_prompt), ("id", item.id)):
            if (first := lines.setdefault((kind, content), number)) != number:
                raise RefusedError(f"{where}: each {kind} must be there once", f"that of line {first}", "Drop one")
        items.append(item)
    if len(items) < LEAST:
        rule = f"{path.name} must hold at least {LEAST} questions"
        raise RefusedError(rule, len(items), "Add some: an interval over fewer says nothing")
    kinds = Counter(item.need for item in items)
    if len(kinds) > 1:
        rule = f"All questions of {path.name} must have a text, or none"
        raise RefusedError(rule, f"{kinds[True]} with, {kinds[False]} without", "Make two files, and two experiments")
    return items


def _item(row: Mapping[str, Any], number: int, where: str, vocabularies: Vocabularies) -> Item:
    # 1. Fields
    check_keys(where, row, KEYS, optional=OPTIONAL, remedy=FORMAT)
    for name in ("options", "hidden"):
        if not all(isinstance(value, str) and value.strip() for value in row.get(name, [])):
            raise RefusedError(f"{where}: {name} must hold texts", row[name], FORMAT)
    answer, question, options = row["answer"].strip(), row["question"].strip(), tuple(row.get("options", ()))
    if not answer or not question:
        raise RefusedError(f"{where}: question and answer must hold a text", dict(row), FORMAT)
    if options and answer not in options:
        raise RefusedError(f"{where}: answer must be one of the options", answer, "Add it to the options")
    fields: dict[str, Any] = {
        "id": row.get("id") or f"line {number}",
        "task": QUESTIONS,
        "subset": row.get("subset", ""),
        "question": question,
        "options": options,
        "answer": options.index(answer) if options else None,
        "value": answer,
    }
    # 2. Texts and places
    if "text" not in row:
        prompt = QUESTION.format(question=question).lstrip()
        texts: dict[str, Any] = {
            "sharer_texts": (prompt,),
            "prompt": prompt,
            "full_prompt": prompt,
            "target_prompt": prompt,
        }
        item = Item(**fields, **texts, places=(), facts={})
    else:
        item = _redacted(row, fields, where, vocabularies)
    try:
        check_item(item, where)
    except RefusedError as refusal:
        raise RefusedError(refusal.rule, refusal.received, "Correct the line") from None
    return item


def _redacted(row: Mapping[str, Any], fields: Mapping[str, Any], where: str, vocabularies: Vocabularies) -> Item:
    """An item whose Receiver reads a placeholder in place of every occurrence of the answer and of hidden words."""
    text, end = row["text"].strip(), QUESTION.format(question=fields["question"])
    values = list(dict.fromkeys([fields["value"], *map(str.strip, row.get("hidden", []))]))
    for value in values:
        if not re.search(rf" {re.escape(value)}(?!\w)", text):
            rule = f"{where}: text must hold {value!r} as words of their own after a space"
            raise RefusedError(rule, text, "Write the answer as the text does, or leave text out")
    # The longest first, so that a value that is part of another one is not found inside it
    pattern = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
    prompt, full, places = "", "", []
    start = 0
    for match in re.finditer(rf" (?:{pattern})(?!\w)", text):
        prompt, full = prompt + text[start : match.start()], full + text[start : match.start()]
        placeholder = _placeholder(match[0], vocabularies)
        span = (len(full), len(full) + len(match[0]))
        places.append(Place(0, span, (len(prompt), len(prompt) + len(placeholder)), span, span))
        prompt, full, start = prompt + placeholder, full + match[0], match.end()
    prompt, full = prompt + text[start:], full + text[start:]
    return Item(
        **fields,
        sharer_texts=(full,),
        prompt=prompt + end,
        full_prompt=full + end,
        target_prompt=full + end,
        places=tuple(places),
        facts={f"value {number}": value for number, value in enumerate(values)},
    )


def _placeholder(value: str, vocabularies: Vocabularies) -> str:
    """The word "unknown" as often as it takes to have as many tokens as the value in every vocabulary."""
    count = 1
    for tokenizer in vocabularies.tokenizers:
        own, wanted = (len(tokenizer.encode(text, add_special_tokens=False).ids) for text in (PLACEHOLDER, value))
        count = max(count, -(-wanted // max(own, 1)))
    return PLACEHOLDER * count


def with_training(items: Sequence[Item], generated: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    """All questions as the test, and generated items without their values for training and validation.

    Args:
        items: The questions.
        generated: Items of another task, by split.
    """
    values = {value.lower() for item in items for value in item.facts.values()}
    splits = {
        split: [
            replace(item, task=QUESTIONS)
            for item in generated[split]
            if values.isdisjoint(value.lower() for value in item.facts.values())
        ]
        for split in ("train", "validation")
    }
    return splits | {"test": list(items)}


def own_splits(items: Sequence[Item], seed: int) -> dict[str, list[Item]]:
    """The questions as test, validation and training, drawn by the seed; no answer that is hidden is in two of them.

    Raises:
        RefusedError: If a split would be empty, because too many questions have one answer.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.value if item.need else item.id, []).append(item)
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    splits: dict[str, list[Item]] = {split: [] for split in SHARES}
    for name in order:
        # The split that lacks most of its share gets the next group.
        split = min(SHARES, key=lambda split: (len(splits[split]) + 1) / SHARES[split])
        splits[split] += groups[name]
    if sizes := [split for split, part in splits.items() if len(part) < 2]:
        rule = "The questions must have different answers enough for test, validation and training"
        raise RefusedError(rule, f"{len(groups)} answers, too few for {', '.join(sizes)}", "Add questions")
    return splits
