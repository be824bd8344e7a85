"""Writes the questions of a private benchmark, or a training set for it.

    python -m benchmarks.private.make --task private_line --seed 0 --test 600 --train 8000 --validation 256
        --benchmark results/laptop/data/benchmarks/gap_private_line.jsonl
    python -m benchmarks.private.make --task private_line --seed 0 --test 600 --train 8000 --validation 256
        --validation-values unseen --training-set results/laptop/data/training/gap_private_line_unseen

The same task, sizes and seed give the same splits, whichever file is written. Training examples use the prompts
of the task files (`benchmarks.prompts`); ``private`` is the text that only the Sharer reads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.private import private_line, skill, words
from benchmarks.private.splits import Row, Sizes
from benchmarks.prompts import PromptFormat
from c2c.errors import RefusedError, exit_code
from c2c.provenance import stamp
from c2c.storage.formats import write_json_lines
from c2c.testbed.tasks.bank import check_sizes

TASKS: dict[str, Callable[[Sizes, int], dict[str, list[Row]]]] = {
    "private_line": private_line.build_splits,
    "words": words.build_splits,
    "skill": skill.build_splits,
}
VALIDATION_VALUES = {"seen": "validation", "unseen": "unseen"}
"""The validation split: persons with values of the training, or with values that neither training nor test has."""


def training_rows(splits: dict[str, list[Row]], prompt_format: PromptFormat, values: str) -> dict[str, list[Row]]:
    """Examples by file stem, ``train`` and ``validation``.

    Raises:
        RefusedError: If the task has no validation on other values.
    """
    chosen = VALIDATION_VALUES[values]
    if chosen not in splits:
        raise RefusedError("A validation on unseen values must be of private_line", values, "Leave it at seen")
    return {stem: [_example(row, prompt_format) for row in splits[split]] for stem, split in _stems(chosen)}


def _stems(validation: str) -> list[tuple[str, str]]:
    return [("train", "train"), ("validation", validation)]


def _example(row: Row, prompt_format: PromptFormat) -> Row:
    private = {"private": row["private"]} if "private" in row else {}
    return prompt_format.example(row) | private


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make the questions or the training set of a private benchmark.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True, help="which benchmark")
    parser.add_argument("--seed", type=int, required=True, help="fixes splits, names, facts and options")
    parser.add_argument("--test", type=int, required=True, help="test questions")
    parser.add_argument("--train", type=int, required=True, help="training examples at most")
    parser.add_argument("--validation", type=int, required=True, help="validation examples")
    parser.add_argument(
        "--validation-values", choices=VALIDATION_VALUES, default="seen", help="unseen: of private_line, other values"
    )
    parser.add_argument("--tasks", type=Path, default=Path("benchmarks/tasks"), help="folder of task files")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument("--benchmark", type=Path, help="file of the test questions (.jsonl)")
    output.add_argument("--training-set", type=Path, help="folder of train.jsonl and validation.jsonl")
    return parser


def _run(options: argparse.Namespace) -> None:
    settings = {name: getattr(options, name) for name in ("task", "seed", "test", "train", "validation")}
    sizes = {name: settings[name] for name in ("test", "train", "validation")}
    check_sizes(sizes)
    splits = TASKS[options.task](sizes, options.seed)
    if options.benchmark:
        files = {options.benchmark: splits["test"]}
    else:
        prompt_format = PromptFormat.load(options.tasks, "text")
        settings["validation_values"] = options.validation_values
        rows = training_rows(splits, prompt_format, options.validation_values)
        files = {options.training_set / f"{stem}.jsonl": examples for stem, examples in rows.items()}
    for path, rows_of_file in files.items():
        with stamp(path, settings=settings) as notes:
            write_json_lines(path, rows_of_file)
            notes["rows"] = len(rows_of_file)
        print(f"{len(rows_of_file)} rows in {path}")


def main() -> int:
    """Write the files; a refusal is printed as one line and ends with exit code 2."""
    return exit_code("benchmarks.private.make", lambda: _run(_parser().parse_args()))


if __name__ == "__main__":
    sys.exit(main())
