"""Writes the items of the task `world_word` of the test bed, for the models of the knowledge-gap world.

python -m benchmarks.world.items --world results/smoke/world/world.json --seed 0 --test 100 --train 400
--validation 50 --tokenizers models/receiver models/sharer --output results/smoke/testbed/items/world_word/0
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from benchmarks.world import texts as world_texts
from benchmarks.world.texts import Fact
from benchmarks.world.world import World
from c2c.errors import exit_code
from c2c.models.hub import resolve
from c2c.testbed.items import Item
from c2c.testbed.tasks.bank import OPTIONS, split_values
from c2c.testbed.tasks.make import add_item_flags, sizes_of, write_splits
from c2c.testbed.tasks.tasks import Maker, Task
from c2c.testbed.tasks.texts import Blank, choice, compose
from c2c.testbed.tasks.values import SPLITS, Material, Stock, equal_values
from c2c.testbed.tasks.vocabularies import FILE, Vocabularies


def world_word(material: Material, number: int, task: Task) -> Maker:
    """One fact of an entity of the knowledge-gap world, in the words that its models were pretrained to read."""
    del number
    entity, attribute = material.person(), material.attribute()
    head, tail = world_texts.STATEMENT.split("{value}")
    question = world_texts.question(Fact(entity, attribute, "")).prompt

    def make(name: str) -> Item:
        values = material.attributes[attribute]
        value = values.draw()
        return compose(
            [(head.format(entity=entity, attribute=attribute).rstrip(), Blank(value), tail)],
            task.placeholder,
            id=name,
            task=task.name,
            subset=attribute,
            question=question,
            options=choice(value, values.sample(OPTIONS - 1, [value]), material.chance),
            facts={attribute: value},
            ending=" {question}",
        )

    return make


WORLD_WORD = Task("world_word", world_word, " what")


def world_stock(world: World, vocabularies: Vocabularies, seed: int, placeholder: str) -> Stock:
    """Entities and values of a world: its entities as it has split them, its values by the seed.

    An entity of the test is asked about values that its facts need not have, which no model has learned.
    """
    parts = split_values(world.attributes, seed)
    values = {"train": parts["train"], "validation": parts["unseen"], "test": parts["test"]}
    attributes, dropped = equal_values(vocabularies, values, placeholder)

    def entities(split: str) -> Iterator[str]:
        names = [entity.name for entity in world.entities if entity.split == split]
        return cycle(random.Random(f"entities {split} {seed}").sample(names, len(names)))

    return Stock(seed, entities, attributes, [], {split: [] for split in SPLITS}, dropped)


def _run(options: argparse.Namespace) -> None:
    sizes = sizes_of(options)
    folders = [resolve(source) for source in options.tokenizers]
    world = World.load(options.world)
    values = world_stock(world, Vocabularies.load(folders), sizes.seed, WORLD_WORD.placeholder)
    inputs = [*(folder / FILE for folder in folders), options.world]
    write_splits(WORLD_WORD, values, sizes, inputs, options.output)


def main() -> int:
    """Write the files; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Make the items of the world's task of the test bed.")
    parser.add_argument("--world", type=Path, required=True, help="the world of the models (.json)")
    add_item_flags(parser)
    return exit_code("benchmarks.world.items", lambda: _run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
