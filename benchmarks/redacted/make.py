"""Writes the items of a task of the test bed, one file a split.

    python -m benchmarks.redacted.make --task redacted_word --seed 0 --test 300 --train 2000 --validation 100
        --texts-of-a-head 25 --tokenizers models/receiver models/sharer
        --output results/laptop/testbed/items/redacted_word/0

The same task, seed, sizes and vocabularies give the same files. The provenance of each file says how many values and
words the vocabularies excluded, and how many different values the file has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.private.splits import check_sizes
from benchmarks.redacted.tasks import TASKS, WORLD, build_items
from benchmarks.redacted.values import CODE_PLACEHOLDER, PLACEHOLDER, SPLITS, Stock, stock, world_stock
from benchmarks.redacted.vocabularies import FILE, Vocabularies
from benchmarks.world.world import World
from c2c.errors import RefusedError, exit_code
from c2c.models.hub import resolve
from c2c.provenance import stamp
from c2c.testbed.items import check_item, write_items


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make the items of a task of the test bed.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True, help="which task")
    parser.add_argument("--seed", type=int, required=True, help="fixes splits, persons, values and options")
    parser.add_argument("--test", type=int, required=True, help="test items")
    parser.add_argument("--train", type=int, required=True, help="training items")
    parser.add_argument("--validation", type=int, required=True, help="validation items")
    parser.add_argument(
        "--texts-of-a-head", type=int, default=25, help="training texts that differ in their values alone"
    )
    parser.add_argument(
        "--tokenizers",
        nargs="*",
        default=[],
        help="models (folder, manifest, hub id) in which values have as many tokens",
    )
    parser.add_argument("--world", type=Path, help=f"the world of {WORLD} (.json)")
    parser.add_argument("--output", type=Path, required=True, help="folder of train, validation and test (.jsonl)")
    return parser


def _run(options: argparse.Namespace) -> None:
    settings = {name: getattr(options, name) for name in ("task", "seed", *sorted(SPLITS), "texts_of_a_head")}
    sizes = {split: settings[split] for split in SPLITS}
    check_sizes(sizes)
    if options.texts_of_a_head < 1:
        raise RefusedError("--texts-of-a-head must be 1 or more", options.texts_of_a_head, "Leave it out")
    folders = [resolve(source) for source in options.tokenizers]
    values = _stock(options, folders)
    for split in SPLITS:
        path = options.output / f"{split}.jsonl"
        texts_of_a_head = options.texts_of_a_head if split == "train" else 1
        inputs = [folder / FILE for folder in folders] + ([options.world] if options.world else [])
        with stamp(path, inputs=inputs, settings=settings | {"split": split}) as notes:
            items = build_items(options.task, values.material(split), sizes[split], texts_of_a_head)
            for item in items:
                check_item(item, item.id)
            write_items(path, items)
            notes["rows"] = len(items)
            notes["distinct_values"] = len({value for item in items for value in item.facts.values()})
            notes["training_words"] = len(values.words)
            notes["dropped"] = values.dropped
        print(f"{len(items)} items in {path}")


def _stock(options: argparse.Namespace, folders: Sequence[Path]) -> Stock:
    placeholder = TASKS[options.task].placeholder
    if (options.task == WORLD) != (options.world is not None):
        rule = f"--world must be the world of the models for {WORLD}, and be left out for another task"
        raise RefusedError(rule, options.world and str(options.world), "Correct --world or --task")
    vocabularies = Vocabularies.load(folders)
    if options.world:
        return world_stock(World.load(options.world), vocabularies, options.seed, placeholder)
    return stock(vocabularies, options.seed, PLACEHOLDER if placeholder == CODE_PLACEHOLDER else placeholder)


def main() -> int:
    """Write the files; a refusal is printed as one line and ends with exit code 2."""
    return exit_code("benchmarks.redacted.make", lambda: _run(_parser().parse_args()))


if __name__ == "__main__":
    sys.exit(main())
