"""Writes the items of a task of the test bed, one file a split.

    python -m c2c.testbed.tasks.make --task redacted_word --seed 0 --test 300 --train 2000 --validation 100
        --texts-of-a-head 25 --tokenizers models/receiver models/sharer
        --output results/laptop/testbed/items/redacted_word/0

The same task, seed, sizes and vocabularies give the same files. The provenance of each file says how many values and
words the vocabularies excluded, and how many different values the file has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from c2c.errors import RefusedError, exit_code
from c2c.models.hub import resolve
from c2c.provenance import stamp
from c2c.testbed.items import check_item, write_items
from c2c.testbed.tasks.bank import check_sizes
from c2c.testbed.tasks.tasks import TASKS, Task, build_items
from c2c.testbed.tasks.values import CODE_PLACEHOLDER, PLACEHOLDER, SPLITS, Stock, stock
from c2c.testbed.tasks.vocabularies import FILE, Vocabularies


@dataclass(frozen=True, kw_only=True)
class ItemSizes:
    """How many items there are, and of which seed.

    Args:
        seed: Fixes splits, persons, values and options.
        test: Test items.
        train: Training items.
        validation: Validation items.
        texts_of_a_head: Training texts that differ in their values alone.

    Raises:
        RefusedError: If a split would be empty, or there are too few names for all.
    """

    seed: int
    test: int
    train: int
    validation: int
    texts_of_a_head: int = 25

    def __post_init__(self) -> None:
        check_sizes({split: getattr(self, split) for split in SPLITS})
        if self.texts_of_a_head < 1:
            raise RefusedError("--texts-of-a-head must be 1 or more", self.texts_of_a_head, "Leave it out")


def stock_of(task: Task, vocabularies: Vocabularies, seed: int) -> Stock:
    """The values of a task, with as many tokens as its placeholder in all vocabularies."""
    return stock(vocabularies, seed, PLACEHOLDER if task.placeholder == CODE_PLACEHOLDER else task.placeholder)


def write_splits(task: Task, values: Stock, sizes: ItemSizes, inputs: Sequence[Path], output: Path) -> None:
    """Write the items of all splits of a task, each with its provenance.

    Args:
        task: The task.
        values: What its texts hold.
        sizes: Of the splits.
        inputs: Files on which the items depend.
        output: Folder of ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``.
    """
    settings = {"task": task.name} | dict(sorted(asdict(sizes).items()))
    for split in SPLITS:
        path = output / f"{split}.jsonl"
        texts_of_a_head = sizes.texts_of_a_head if split == "train" else 1
        with stamp(path, inputs=inputs, settings=settings | {"split": split}) as notes:
            items = build_items(task, values.material(split), getattr(sizes, split), texts_of_a_head)
            for item in items:
                check_item(item, item.id)
            write_items(path, items)
            notes["rows"] = len(items)
            notes["distinct_values"] = len({value for item in items for value in item.facts.values()})
            notes["training_words"] = len(values.words)
            notes["dropped"] = values.dropped


def add_item_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `ItemSizes`, of the tokenizers and of the folder."""
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
    parser.add_argument("--output", type=Path, required=True, help="folder of train, validation and test (.jsonl)")


def sizes_of(options: argparse.Namespace) -> ItemSizes:
    """The sizes that flags name."""
    return ItemSizes(**{name: getattr(options, name) for name in ItemSizes.__dataclass_fields__})


def _run(options: argparse.Namespace) -> None:
    task, sizes = TASKS[options.task], sizes_of(options)
    folders = [resolve(source) for source in options.tokenizers]
    values = stock_of(task, Vocabularies.load(folders), sizes.seed)
    write_splits(task, values, sizes, [folder / FILE for folder in folders], options.output)


def main() -> int:
    """Write the files; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Make the items of a task of the test bed.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True, help="which task")
    add_item_flags(parser)
    return exit_code("c2c.testbed.tasks.make", lambda: _run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
