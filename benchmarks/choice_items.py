"""Items of the test bed from a benchmark of multiple choice: both models read the question, and nothing is redacted.

    python -m benchmarks.choice_items --task arc_easy_text --questions arc_easy.jsonl --seed 0
        --source reader=arc,dataset=allenai/ai2_arc,subset=ARC-Easy,split=train,revision=main
        --without arc_easy.jsonl openbookqa.jsonl --test 100 --train 300 --validation 60 --output items

Test items are the first questions of the prepared benchmark. Training and validation items are questions of other
sources, as a rule those of the pair's training set, drawn by the seed and asked in the words of the same task.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.catalogue import FOLDER
from benchmarks.overlap import asked_in, fold
from benchmarks.prepare import parse_source
from benchmarks.readers.base import Row
from benchmarks.rows import RowCounts, read_rows
from benchmarks.sources import Source
from benchmarks.user_files import UserFile
from c2c.errors import RefusedError, exit_code
from c2c.evaluation.protocol import CORRECTED
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.provenance import stamp
from c2c.storage.formats import write_json_lines
from c2c.testbed.items import Item, check_item, write_items
from c2c.testbed.tasks.bank import check_sizes

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ChoiceTask:
    """A benchmark whose questions become items.

    Args:
        name: Id of the task, ``arc_easy_text``.
        tasks: Folder of task files.
        questions: Prepared questions.
    """

    name: str
    tasks: Path
    questions: Path

    def items(self, path: Path, count: int) -> list[Item]:
        """The first questions of a file of prepared questions as items.

        Args:
            path: Questions in the form of the benchmark's own.
            count: How many.

        Raises:
            RefusedError: If the task has no options that are weighed, a question has a private line or does not fit an
                item, or there are too few.
        """
        task = load_tasks(self.tasks, {self.name: path})["tasks"][self.name]
        if task.OUTPUT_TYPE != "multiple_choice":
            rule = "A benchmark of the test bed must be a task whose options are weighed"
            raise RefusedError(rule, f"{self.name}: {task.OUTPUT_TYPE}", "Choose its scoring text or logits")
        items = []
        for question in questions_of(task, limit=count):
            if question.private:
                rule = "A benchmark of the test bed must have no private line, since both models read the same"
                raise RefusedError(rule, self.name, "Choose the task private_line (docs/testbed.md)")
            # Options that read alike are one answer, as for the benchmark's own scoring.
            options = tuple(dict.fromkeys(task.doc_to_choice(question.doc)))
            item = Item(
                id=str(question.doc["id"]),
                task=self.name,
                subset=str(question.doc.get("subset") or ""),
                sharer_texts=(question.prompt,),
                prompt=question.prompt,
                full_prompt=question.prompt,
                target_prompt=question.prompt,
                places=(),
                question=question.prompt,
                options=options,
                answer=options.index(question.gold) if question.gold in options else None,
                value=question.gold,
                facts={},
                by_character=task.config.metadata["scoring"] == "text",
            )
            check_item(item, f"Question {item.id} of {self.name}")
            items.append(item)
        if len(items) < count:
            rule = f"The questions of {self.name} must be as many as the items of a split"
            raise RefusedError(rule, f"{len(items)} for {count}", "Ask for fewer, or prepare a larger sample")
        return items


def training_questions(
    sources: Sequence[Source | UserFile], without: Sequence[Path], counts: RowCounts
) -> tuple[list[Row], int]:
    """Questions with options of all sources that no benchmark asks, and how many were dropped as repetitions.

    Args:
        sources: Where they come from.
        without: Prepared benchmarks.
        counts: Counts every row.

    Raises:
        RefusedError: If a source does not exist, or its rows are no questions with options.
    """
    excluded, questions, texts = asked_in(without), [], set()
    repeats = 0
    for source in sources:
        for row in read_rows(source, CORRECTED, counts, without=excluded):
            if not row.get("options"):
                rule = "The training items of a benchmark must be made of questions with options"
                remedy = "Give the pair a training set of such questions, as choice_mix, in config/pairs.tsv"
                raise RefusedError(rule, f"a row of {source.dataset} without", remedy)
            # One text may be asked twice with other options: two splits would share it.
            text = fold(row["question"])
            if text in texts:
                repeats += 1
                continue
            texts.add(text)
            questions.append({**row, "id": f"{source.dataset}/{source.subset or 'default'}/{row['id']}"})
    return questions, repeats


def draw_splits(questions: Sequence[Row], sizes: Mapping[str, int], seed: int) -> dict[str, list[Row]]:
    """Validation and training questions: those with the lowest hash of the seed and their id.

    Raises:
        RefusedError: If there are too few.
    """
    count = sizes["validation"] + sizes["train"]
    if len(questions) < count:
        rule = f"The sources must have {count} questions for training and validation"
        raise RefusedError(rule, len(questions), "Ask for fewer, or name further sources")
    ranked = sorted(questions, key=lambda row: hashlib.sha256(f"{seed}/{row['id']}".encode()).hexdigest())
    return {"validation": ranked[: sizes["validation"]], "train": ranked[sizes["validation"] : count]}


def make_items(
    task: ChoiceTask,
    sources: Sequence[Source | UserFile],
    without: Sequence[Path],
    sizes: Mapping[str, int],
    seed: int,
    output: Path,
) -> None:
    """Write the items of all splits.

    Args:
        task: The benchmark.
        sources: Of training and validation questions.
        without: Prepared benchmarks whose questions are left out of both, besides the task's own.
        sizes: Items of each split.
        seed: Draws training and validation.
        output: Folder of the three files.

    Raises:
        RefusedError: As the functions above.
    """
    check_sizes(sizes)
    # 1. All items, before any file is written
    outcomes, inputs = RowCounts(), list(dict.fromkeys([task.questions, *without]))
    questions, repeats = training_questions(sources, inputs, outcomes)
    items = {"test": task.items(task.questions, sizes["test"])}
    with tempfile.TemporaryDirectory() as folder:
        for split, rows in draw_splits(questions, sizes, seed).items():
            path = Path(folder, f"{split}.jsonl")
            write_json_lines(path, rows)
            items[split] = task.items(path, sizes[split])
    # 2. A file a split
    settings = {
        "task": task.name,
        "seed": seed,
        **{split: sizes[split] for split in sorted(SPLITS)},
        "sources": [asdict(source) for source in sources],
    }
    for split in SPLITS:
        path = output / f"{split}.jsonl"
        with stamp(path, inputs=inputs, settings=settings | {"split": split}, sources=[task.tasks]) as notes:
            write_items(path, items[split])
            notes.update(rows=len(items[split]), repeats=repeats, data=[source.note() for source in sources])
            notes.update(left_out=outcomes.exclusions, questions=len(questions))
        print(f"{len(items[split])} items in {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make items of the test bed from a benchmark of multiple choice.")
    parser.add_argument("--task", required=True, help="id of the task, with its scoring")
    parser.add_argument("--questions", type=Path, required=True, help="prepared questions of the benchmark")
    parser.add_argument("--tasks", type=Path, default=FOLDER, help="folder of task files")
    parser.add_argument(
        "--source", nargs="+", required=True, help="training questions, as of benchmarks.prepare training-set"
    )
    parser.add_argument("--without", type=Path, nargs="*", default=[], help="benchmarks whose questions are left out")
    parser.add_argument("--seed", type=int, required=True, help="draws training and validation")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=int, required=True, help=f"{split} items")
    parser.add_argument("--output", type=Path, required=True, help="folder of train, validation and test (.jsonl)")
    return parser


def _run(options: argparse.Namespace) -> None:
    task = ChoiceTask(options.task, options.tasks, options.questions)
    sizes = {split: getattr(options, split) for split in SPLITS}
    sources = [parse_source(text) for text in options.source]
    make_items(task, sources, options.without, sizes, options.seed, options.output)


def main() -> int:
    """Write the files; a refusal is printed as one line and ends with exit code 2."""
    return exit_code("benchmarks.choice_items", lambda: _run(_parser().parse_args()))


if __name__ == "__main__":
    sys.exit(main())
