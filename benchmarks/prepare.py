"""Real data sets as JSON lines: the questions of a benchmark, or a training set in the words of a prompt template.

    python -m benchmarks.prepare benchmark --template benchmarks/tasks/openbookqa.yaml --dataset allenai/openbookqa \
        --subset main --split test --revision main --output openbookqa.jsonl

Prompts live in YAML files alone, as lm-eval reads them (`doc_to_text`, `doc_to_target`); this module renders them.
A data set is found by its hub id in the folders of C2C_HUB_MIRROR, or on the hub.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from datasets import Dataset, load_dataset
from jinja2 import Environment, StrictUndefined, UndefinedError
from tqdm import tqdm

from c2c import hub
from c2c.errors import RefusedError
from c2c.provenance import stamp, write_atomically

JINJA = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
Row = dict[str, Any]


@dataclass(frozen=True)
class Template:
    """Prompt and target of an example, in jinja over its columns."""

    path: Path
    text: str
    target: str

    @classmethod
    def read(cls, path: Path) -> Template:
        """Take `doc_to_text` and `doc_to_target` from a task file.

        Raises:
            RefusedError: The file is missing or lacks one of them.
        """
        if not path.is_file():
            raise RefusedError("A template is a file", str(path), "Name a YAML file with doc_to_text and doc_to_target")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            return cls(path, content["doc_to_text"], content["doc_to_target"])
        except KeyError as key:
            raise RefusedError(f"{path} names doc_to_text and doc_to_target", f"without {key}", "Add it") from None

    def render(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """Prompt and target of one example; the prompt ends without white space, as a task's prompt does.

        Raises:
            RefusedError: The template names a column that the data set lacks.
        """
        try:
            prompt, target = (JINJA.from_string(each).render(row) for each in (self.text, self.target))
        except UndefinedError as error:
            columns = ", ".join(row)
            raise RefusedError(
                f"{self.path} names columns of the data set", str(error), f"It has: {columns}"
            ) from error
        return prompt.rstrip(), target.strip()


@dataclass(frozen=True)
class Source:
    """Where examples come from."""

    dataset: str
    revision: str
    split: str
    subset: str | None = None
    limit: int | None = None

    def load(self) -> Dataset:
        """The first `limit` rows of the split.

        Raises:
            RefusedError: The data set, its subset or its split does not exist.
        """
        folder = hub.resolve(self.dataset, self.revision, "dataset")
        try:
            rows = cast(Dataset, load_dataset(str(folder), self.subset, split=self.split))
        except ValueError as error:
            wanted = f"{self.dataset}, subset {self.subset}, split {self.split}"
            reason = str(error).splitlines()[0]
            raise RefusedError("The data set has the subset and the split", wanted, reason.rstrip(".")) from error
        return rows if self.limit is None else rows.select(range(min(self.limit, len(rows))))

    def note(self) -> Row:
        """What provenance should know: id and revision asked for, and what it resolved to."""
        folder = hub.resolve(self.dataset, self.revision, "dataset")
        mirrored = hub.mirrored(self.dataset) is not None
        resolved = {"source": "mirror"} if mirrored else {"source": "hub", "resolved": folder.name}
        return {"id": self.dataset, "revision": self.revision, **resolved}


def questions(rows: Iterable[Row], name: str, template: Template) -> list[Row]:
    """Benchmark questions with the data set's columns, an `id` and a `subset`.

    Raises:
        RefusedError: A question renders to an empty prompt or target, or two share an id.
    """
    prepared: dict[str, Row] = {}
    for number, row in enumerate(rows):
        question = {**row, "id": str(row.get("id") or f"{name}-{number:05d}"), "subset": str(row.get("subset") or "")}
        if not all(template.render(question)):
            raise RefusedError(
                f"{template.path} gives every question a prompt and a target", row, "Correct the template"
            )
        if question["id"] in prepared:
            raise RefusedError("Questions have different ids", question["id"], "Drop the duplicate from the data set")
        prepared[question["id"]] = question
    return list(prepared.values())


def examples(rows: Iterable[Row], name: str, template: Template) -> tuple[list[Row], int]:
    """Training examples (`id`, `prompt`, `response`), and how many rows lack a prompt or response."""
    prepared, left_out = [], 0
    for number, row in enumerate(rows):
        prompt, response = template.render(row)
        if prompt and response:
            prepared.append(
                {"id": str(row.get("id") or f"{name}-{number:06d}"), "prompt": prompt, "response": response}
            )
        else:
            left_out += 1
    return prepared, left_out


def hold_out(rows: list[Row], count: int) -> tuple[list[Row], list[Row]]:
    """Training and validation rows: the `count` rows with the lowest hash of their id and text are held out.

    The choice depends on nothing but the rows themselves. Rows with the same prompt stay on one side.

    Raises:
        RefusedError: No training row would be left.
    """
    if count >= len(rows):
        raise RefusedError(f"Of {len(rows)} examples some are left for training", count, "Lower --validation")
    rank = {row["prompt"]: hashlib.sha256(row["prompt"].encode()).hexdigest() for row in rows}
    bound = sorted(rank[row["prompt"]] for row in rows)[count]
    training = [row for row in rows if rank[row["prompt"]] >= bound]
    return training, [row for row in rows if rank[row["prompt"]] < bound]


def write_lines(rows: Iterable[Row], path: Path) -> None:
    """Write one JSON object a line."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def prepare_benchmark(source: Source, template: Template, output: Path) -> None:
    """Write the questions of a benchmark."""
    with stamp(output, inputs=[template.path], settings=vars(source)) as notes:
        prepared = questions(_rows(source), output.stem, template)
        write_lines(prepared, output)
        notes.update(data=source.note(), questions=len(prepared))


def prepare_training_set(source: Source, template: Template, count: int, train: Path, validation: Path) -> None:
    """Write a training set and the `count` examples that are held out of it."""
    with ExitStack() as stack:
        settings = {**vars(source), "validation": count}
        notes = [stack.enter_context(stamp(p, inputs=[template.path], settings=settings)) for p in (train, validation)]
        prepared, left_out = examples(_rows(source), train.parent.name, template)
        parts = hold_out(prepared, count)
        for rows, path, note in zip(parts, (train, validation), notes, strict=True):
            write_lines(rows, path)
            note.update(data=source.note(), examples=len(rows), rows_without_prompt_or_response=left_out)


def _rows(source: Source) -> Iterable[Row]:
    loaded = source.load()
    return cast(Iterable[Row], tqdm(loaded, total=len(loaded), unit="rows", desc=source.dataset, mininterval=1))


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--template", type=Path, required=True, help="YAML with doc_to_text and doc_to_target")
    shared.add_argument("--dataset", required=True, help="hub id, owner/name")
    shared.add_argument("--revision", default="main", help="commit, tag or branch")
    shared.add_argument("--subset", help="config name of the data set")
    shared.add_argument("--split", required=True, help="split of the data set")
    shared.add_argument("--limit", type=int, help="only the first rows")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    benchmark = kinds.add_parser("benchmark", parents=[shared], help="questions of a benchmark")
    benchmark.add_argument("--output", type=Path, required=True, help="JSON lines; its stem names the benchmark")
    training = kinds.add_parser("training-set", parents=[shared], help="examples to train on")
    training.add_argument("--validation", type=int, required=True, help="how many examples are held out")
    training.add_argument("--train-output", type=Path, required=True, help="JSON lines: id, prompt, response")
    training.add_argument("--validation-output", type=Path, required=True, help="JSON lines, same format")
    return parser


def main() -> int:
    """Run one sub-command; a refusal is printed as one line and ends with exit code 2."""
    options = _parser().parse_args()
    source = Source(options.dataset, options.revision, options.split, options.subset, options.limit)
    try:
        template = Template.read(options.template)
        if options.kind == "benchmark":
            prepare_benchmark(source, template, options.output)
        else:
            outputs = options.train_output, options.validation_output
            prepare_training_set(source, template, options.validation, *outputs)
    except RefusedError as refusal:
        print(f"benchmarks.prepare: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
