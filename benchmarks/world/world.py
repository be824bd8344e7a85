"""The world: entities with invented names, and attributes whose values are drawn uniformly at random.

Entities are split once, before any model exists:

========== ======= ==================================================================
known      1/4     the Receivers are pretrained on their facts
train      7/16    the fuser is trained on questions about them
validation 1/16    the only set on which choices are made
test       1/4     neither a Receiver nor a fuser has seen their facts
========== ======= ==================================================================

The Sharer is pretrained on the facts of all of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.world import texts
from benchmarks.world.sizes import check_world
from benchmarks.world.texts import Fact
from c2c.errors import RefusedError, check_choice
from c2c.storage.files import write_atomically
from c2c.storage.manifests import check_keys, read_object

SHARES = {"known": 4, "train": 7, "validation": 1, "test": 4}
"""Sixteenths of the entities in each split."""
SPLITS = tuple(SHARES)
MAKE = "Make one: benchmarks.world.make"

CONSONANTS, VOWELS, ENDINGS = "bdfgklmnprstvz", "aeiou", "kqvxz"
THREE_SYLLABLES = 0.3


@dataclass(frozen=True)
class Entity:
    """A name, the split it is in, and its value of every attribute."""

    name: str
    split: str
    values: dict[str, str]


@dataclass(frozen=True)
class World:
    """A generated world: the attributes with their possible values, and the entities with their facts."""

    seed: int
    attributes: dict[str, list[str]]
    entities: list[Entity]

    @property
    def names(self) -> list[str]:
        """The names of all entities."""
        return [entity.name for entity in self.entities]

    def facts(self, splits: Iterable[str] = SPLITS) -> list[Fact]:
        """The facts of the entities of `splits`, in the order of the world.

        Raises:
            RefusedError: If there is no split of a name.
        """
        names = {check_choice("A split of the world", split, SPLITS) for split in splits}
        return _facts_of(entity for entity in self.entities if entity.split in names)

    def half(self, number: int) -> list[Fact]:
        """The facts of every second entity of each split: of the first, third, ... (0) or second, fourth, ... (1)."""
        return self.part(number, 2)

    def part(self, number: int, parts: int) -> list[Fact]:
        """The facts of one of `parts` shares of the entities of each split, from 0; the shares have none in common."""
        groups = ([entity for entity in self.entities if entity.split == split] for split in SPLITS)
        return _facts_of(entity for group in groups for entity in group[number::parts])

    def save(self, path: Path) -> None:
        """Write the world as JSON."""
        write_atomically(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> World:
        """The world in a file that `save` wrote.

        Raises:
            RefusedError: If there is no such file, or it holds no world.
        """
        content = read_object(path, MAKE)
        check_keys("A world", content, {"seed": int, "attributes": dict, "entities": list}, remedy=MAKE)
        attributes: dict[str, Any] = content["attributes"]
        for name, possible in attributes.items():
            if not (isinstance(possible, list) and possible and all(isinstance(value, str) for value in possible)):
                raise RefusedError("An attribute of a world must have possible values, texts", {name: possible}, MAKE)
        for entity in content["entities"]:
            check_keys("An entity of a world", entity, {"name": str, "split": str, "values": dict}, remedy=MAKE)
            check_choice("A split of the world", entity["split"], SPLITS)
            values = entity["values"]
            if values.keys() != attributes.keys() or any(values[name] not in attributes[name] for name in values):
                raise RefusedError("An entity must have a possible value of each attribute", entity, MAKE)
        entities = [Entity(**entity) for entity in content["entities"]]
        if not entities or len({entity.name for entity in entities}) < len(entities):
            raise RefusedError("A world must have entities, each once", f"{len(entities)} of them", MAKE)
        return cls(content["seed"], attributes, entities)


def _facts_of(entities: Iterable[Entity]) -> list[Fact]:
    return [Fact(entity.name, attribute, value) for entity in entities for attribute, value in entity.values.items()]


def generate(*, entities: int = 512, attributes: int = 4, values: int = 16, seed: int = 0) -> World:
    """A world with these numbers of entities, of attributes, and of possible values of each attribute.

    Raises:
        RefusedError: If the entities cannot be split into sixteenths, or the bank has too few words.
    """
    check_world(entities, attributes, values)
    chance = random.Random(f"world {seed}")
    bank = {attribute: possible.split()[:values] for attribute, possible in list(texts.BANK.items())[:attributes]}
    splits = [split for split, share in SHARES.items() for _ in range(entities * share // 16)]
    chance.shuffle(splits)
    people = [
        Entity(name, split, {attribute: chance.choice(possible) for attribute, possible in bank.items()})
        for name, split in zip(_names(entities, chance), splits, strict=True)
    ]
    return World(seed, bank, people)


def _names(number: int, chance: random.Random) -> Iterator[str]:
    """Different pronounceable words of two or three syllables, none of which has a meaning in this world."""
    reserved = set(texts.words())
    for _ in range(number):
        name = _name(chance)
        while name in reserved:
            name = _name(chance)
        reserved.add(name)
        yield name


def _name(chance: random.Random) -> str:
    syllables = 3 if chance.random() < THREE_SYLLABLES else 2
    spoken = "".join(chance.choice(CONSONANTS) + chance.choice(VOWELS) for _ in range(syllables))
    return spoken + chance.choice(ENDINGS)
