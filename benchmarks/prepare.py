"""Real data sets as JSON lines: the questions of a benchmark, or a training set in the words of the tasks.

    python -m benchmarks.prepare benchmark --reader arc --dataset allenai/ai2_arc --subset ARC-Easy --split test \
        --revision main --sample 500 --output arc_easy.jsonl
    python -m benchmarks.prepare training-set --asked-as letter --validation 64 --without arc_easy.jsonl \
        --source reader=arc,dataset=allenai/ai2_arc,subset=ARC-Easy,split=train,revision=main \
        --train-output train.jsonl --validation-output validation.jsonl

A data set is found by its hub id in the folders of C2C_HUB_MIRROR, or on the hub. Every row that is left out is
counted by its reason, in what is printed and in the provenance file.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.catalogue import FOLDER
from benchmarks.prompts import PROMPT_FILES
from benchmarks.readers import QUESTIONS, READERS
from benchmarks.readers.base import Row
from benchmarks.readers.longbench import cut_middle
from benchmarks.rows import RowCounts, read_rows
from benchmarks.sources import Source
from benchmarks.training_sets import TrainingSet, prepare_training_set
from benchmarks.user_files import QUESTION_FILE, UserFile
from benchmarks.user_tasks import PROMPTS, task_config, task_text
from c2c.errors import RefusedError, exit_code
from c2c.evaluation.protocol import CORRECTED, PROTOCOLS, active
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.storage.formats import write_json_lines

UNASKED = "solution"
"""A key of questions that training sets alone make use of."""


def sample(questions: list[Row], name: str, count: int) -> list[Row]:
    """The `count` questions with the lowest SHA-256 of ``<name>/<id>``, in their order; all if `count` is 0."""
    if not 0 < count < len(questions):
        return questions
    ranks = [hashlib.sha256(f"{name}/{question['id']}".encode()).hexdigest() for question in questions]
    bound = sorted(ranks)[count - 1]
    return [question for question, rank in zip(questions, ranks, strict=True) if rank <= bound]


def questions(source: Source, protocol: str, outcomes: RowCounts) -> list[Row]:
    """The questions of a benchmark; `outcomes` counts every row.

    Where the protocol asks C-Eval on its test split and the hub withholds those keys, the questions are those of the
    split of `source`, and each id begins with it, so that records name it: ``val-accountant-0``.

    Raises:
        RefusedError: The source does not exist, gives no question, or gives two of the same id.
    """
    repeats, rows = active(protocol, "repeats_are_asked"), []
    asks_test = source.reader == "ceval" and active(protocol, "ceval_test_split")
    if asks_test:
        rows = read_rows(source.of_split("test"), protocol, outcomes, keep_repeats=repeats)
    if not rows:
        rows = read_rows(source, protocol, outcomes, keep_repeats=repeats)
        if asks_test:
            print(f"The keys of split test are withheld: {source.dataset} is asked on its split {source.split}")
            rows = [{**question, "id": f"{source.split}-{question['id']}"} for question in rows]
    if not rows:
        rule = f"{source.dataset}, split {source.split}, must have questions that can be asked"
        raise RefusedError(rule, outcomes.exclusions or "no rows", "Choose another split, reader or protocol")
    return [{key: value for key, value in question.items() if key != UNASKED} for question in rows]


def prepare_benchmark(
    source: Source, output: Path, *, protocol: str = CORRECTED, count: int = 0, context_limit: int = 0
) -> None:
    """Write the questions of a benchmark.

    Args:
        source: Its data set.
        output: JSON lines; the stem names the benchmark.
        protocol: ``corrected``, or ``paper`` for what the reference leaves out.
        count: Size of the sample; 0 takes all questions.
        context_limit: Characters of a text that a question is about; a longer one loses its middle. 0 for no limit.

    Raises:
        RefusedError: A size is below 0; and see `questions`.
    """
    for name, size in (("--sample", count), ("--context-limit", context_limit)):
        if size < 0:
            raise RefusedError(f"{name} must be at least 0", size, "Take 0 for all")
    settings = {**asdict(source), "protocol": protocol, "sample": count, "context_limit": context_limit}
    with stamp(output, settings=settings) as notes:
        outcomes = RowCounts()
        # Read every row, take the sample, and shorten long texts.
        rows = questions(source, protocol, outcomes)
        selection = sample(rows, output.stem, count)
        if context_limit:
            selection = [
                cut_middle(question, context_limit) if "context" in question else question for question in selection
            ]
        write_json_lines(output, selection)
        shortened = sum(bool(question.get("cut")) for question in selection)
        notes.update(data=source.note(), **outcomes.note(), questions=len(selection), contexts_cut=shortened)
        notes["subsets"] = len({question["subset"] for question in rows})
        print(outcomes.table(f"{output.stem}, protocol {protocol}"))
        print(f"{len(selection)} of {len(rows)} questions are asked; {shortened} lost the middle of their text")


def prepare_user_benchmark(path: Path, output: Path, *, count: int = 0) -> None:
    """Write the questions of a user's own file; a sample of `count`, or all of them if that is 0.

    Raises:
        RefusedError: With the line that is no question (`benchmarks.user_files`).
    """
    source = UserFile(path)
    with stamp(output, inputs=[path], settings={"sample": count}) as notes:
        rows = source.questions(output.stem)
        selection = sample(rows, output.stem, count)
        write_json_lines(output, selection)
        notes.update(data=source.note(), rows=len(rows), questions=len(selection))
        print(f"{output.stem}: {len(selection)} of {len(rows)} questions of {path} are asked")


def write_user_task(folder: Path, scoring: str, task: str, questions: Path, tasks: Path, output: Path) -> None:
    """Write the lm-eval task of a user's own benchmark under one scoring, with everything that it includes."""
    files = [folder / f"{folder.name}.yaml", folder / QUESTION_FILE]
    with stamp(output, inputs=files, settings={"task": task, "scoring": scoring}):
        write_atomically(output, task_text(task_config(folder, scoring, task, tasks), questions))


def parse_source(text: str) -> Source | UserFile:
    """``file=mine/train.jsonl``, with ``,limit=…`` where wanted; anything else is a `Source`.

    Raises:
        RefusedError: A part is unknown, or no number where one is wanted.
    """
    if not text.startswith("file="):
        return Source.parse(text)
    path, _, limit = text.removeprefix("file=").partition(",limit=")
    if "," in path or (limit and not limit.isdigit()):
        rule = "A source that is a file must be file=…, with limit=… where wanted, and no comma in its path"
        raise RefusedError(rule, text, "Rename the file, or correct the limit")
    return UserFile(Path(path), int(limit) if limit else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    # Questions of a data set of the hub.
    benchmark = kinds.add_parser("benchmark", help="questions of a benchmark")
    benchmark.add_argument("--reader", choices=sorted(QUESTIONS), required=True, help="who knows the data set's rows")
    benchmark.add_argument("--dataset", required=True, help="hub id, owner/name")
    benchmark.add_argument("--revision", default="main", help="commit, tag or branch")
    benchmark.add_argument("--subset", help="config name of the data set; with * all that fit")
    benchmark.add_argument("--split", required=True, help="split of the data set")
    benchmark.add_argument(
        "--protocol", choices=PROTOCOLS, default=CORRECTED, help="paper, released: the reference's quirks"
    )
    benchmark.add_argument("--sample", type=int, default=0, help="size of the fixed sample; 0 for all questions")
    benchmark.add_argument("--context-limit", type=int, default=0, help="characters of a long text; 0 for all")
    benchmark.add_argument("--output", type=Path, required=True, help="JSON lines; its stem names the benchmark")
    # A benchmark of the user's own: its questions, and its task under one scoring.
    user = kinds.add_parser("own-benchmark", help="questions of a file of one's own")
    user.add_argument("--questions", type=Path, required=True, help="JSON lines: question, options, answer")
    user.add_argument("--sample", type=int, default=0, help="size of the fixed sample; 0 for all questions")
    user.add_argument("--output", type=Path, required=True, help="JSON lines; its stem names the benchmark")
    task = kinds.add_parser("own-task", help="lm-eval task of a benchmark of one's own")
    task.add_argument("--folder", type=Path, required=True, help="folder of the benchmark")
    task.add_argument("--scoring", choices=sorted(PROMPTS), required=True, help="how its answers are scored")
    task.add_argument("--task", required=True, help="id of the task")
    task.add_argument("--questions", type=Path, required=True, help="its prepared questions")
    task.add_argument("--tasks", type=Path, default=FOLDER, help="folder with the prompts of the protocol")
    task.add_argument("--output", type=Path, required=True, help="YAML file")
    # Examples to train on, of data sets and files.
    training = kinds.add_parser("training-set", help="examples to train on")
    training.add_argument(
        "--source",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="file=…[,limit=…], or reader=…,dataset=…,revision=…,split=…[,subset=…][,limit=…]; readers: "
        + ", ".join(sorted(READERS)),
    )
    training.add_argument(
        "--asked-as", choices=sorted(PROMPT_FILES), default="", help="how questions are asked and answered"
    )
    training.add_argument(
        "--protocol", choices=PROTOCOLS, default=CORRECTED, help="released: the released code's words"
    )
    training.add_argument("--tasks", type=Path, default=Path("benchmarks/tasks"), help="folder of task files")
    training.add_argument("--without", type=Path, nargs="*", default=[], help="benchmarks whose questions are left out")
    training.add_argument("--validation", type=int, required=True, help="how many examples are held out")
    training.add_argument("--train-output", type=Path, required=True, help="JSON lines to train on")
    training.add_argument("--validation-output", type=Path, required=True, help="JSON lines that are held out")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.kind == "benchmark":
        source = Source(options.reader, options.dataset, options.revision, options.split, options.subset)
        limits = {"count": options.sample, "context_limit": options.context_limit}
        prepare_benchmark(source, options.output, protocol=options.protocol, **limits)
        return
    if options.kind == "own-benchmark":
        prepare_user_benchmark(options.questions, options.output, count=options.sample)
        return
    if options.kind == "own-task":
        write_user_task(options.folder, options.scoring, options.task, options.questions, options.tasks, options.output)
        return
    sources = tuple(parse_source(text) for text in options.source)
    training_set = TrainingSet(
        sources, options.validation, options.asked_as, options.tasks, tuple(options.without), options.protocol
    )
    prepare_training_set(training_set, options.train_output, options.validation_output)


def main() -> int:
    """Run one sub-command; a refusal is printed as one line and ends with exit code 2."""
    return exit_code("benchmarks.prepare", lambda: _run(_parser().parse_args()))


if __name__ == "__main__":
    sys.exit(main())
