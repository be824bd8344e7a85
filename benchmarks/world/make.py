"""Makes a world and all files that are derived from it.

    python -m benchmarks.world.make --entities 512 --attributes 4 --values 16 --seed 0
        --output results/smoke/world/world.json --benchmarks results/smoke/data/benchmarks
        --training-set results/smoke/data/training/knowledge_gap

writes the world, ``knowledge_gap_free.jsonl`` and ``knowledge_gap_choice.jsonl`` into the folder of benchmarks, and
``train.jsonl`` and ``validation.jsonl`` into that of the training set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.world import questions
from benchmarks.world.world import World, generate
from c2c.errors import exit_code
from c2c.provenance import stamp
from c2c.storage.formats import write_json_lines


def files(world: World, benchmarks: Path, training_set: Path) -> dict[Path, list[dict[str, Any]]]:
    """The rows of all files that are derived from the world."""
    return {
        benchmarks / "knowledge_gap_free.jsonl": questions.free(world),
        benchmarks / "knowledge_gap_choice.jsonl": questions.choice(world),
        training_set / "train.jsonl": questions.examples(world, "train"),
        training_set / "validation.jsonl": questions.examples(world, "validation"),
    }


def main(arguments: list[str] | None = None) -> int:
    """The command; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Make a knowledge-gap world, its questions and its training set.")
    parser.add_argument("--entities", type=int, default=512, help="a multiple of 16")
    parser.add_argument("--attributes", type=int, default=4, help="attributes of each entity")
    parser.add_argument("--values", type=int, default=16, help="possible values of each attribute")
    parser.add_argument("--seed", type=int, default=0, help="fixes names, splits, facts and options")
    parser.add_argument("--output", type=Path, required=True, help="the world (.json)")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of the benchmarks' questions")
    parser.add_argument("--training-set", type=Path, required=True, help="folder of the training set")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.world.make", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    settings = {name: getattr(options, name) for name in ("entities", "attributes", "values", "seed")}
    world = generate(**settings)
    with stamp(options.output, settings=settings):
        world.save(options.output)
    for path, rows in files(world, options.benchmarks, options.training_set).items():
        with stamp(path, inputs=[options.output], settings=settings):
            write_json_lines(path, rows)
    print(f"{len(world.entities)} entities, {len(world.facts())} facts in {options.output}")


if __name__ == "__main__":
    sys.exit(main())
