"""Prepared data of a world: its two benchmarks and the training set of the Fusers."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.world import texts
from benchmarks.world.texts import Fact
from benchmarks.world.world import World

OPTIONS = 4


def free(world: World, split: str = "test") -> list[dict[str, Any]]:
    """One open question about each fact of a split's entities; attributes are subsets."""
    return [_question(fact) | {"answer": fact.value} for fact in world.facts([split])]


def choice(world: World, split: str = "test") -> list[dict[str, Any]]:
    """The same questions with four options of the same attribute; ``gold`` is the index of the right one."""
    chance = random.Random(f"options {world.seed}")
    rows = []
    for fact in world.facts([split]):
        wrong = [value for value in world.attributes[fact.attribute] if value != fact.value]
        options = [fact.value, *chance.sample(wrong, OPTIONS - 1)]
        chance.shuffle(options)
        rows.append(_question(fact) | {"choices": options, "gold": options.index(fact.value)})
    return rows


FORMS = {"knowledge_gap_free": free, "knowledge_gap_choice": choice}
"""Builders of the questions, by benchmark."""


def examples(world: World, split: str) -> list[dict[str, Any]]:
    """One prompt and response about each fact of a split."""
    rows = []
    for fact in world.facts([split]):
        prompt, response = texts.question(fact)
        rows.append({"id": _identity(fact), "prompt": prompt, "response": response})
    return rows


def _question(fact: Fact) -> dict[str, Any]:
    return {"id": _identity(fact), "subset": fact.attribute, "entity": fact.entity, "attribute": fact.attribute}


def _identity(fact: Fact) -> str:
    return f"{fact.entity}.{fact.attribute}"
