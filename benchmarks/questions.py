r"""The texts of a scale's questions as one parquet file, to which the ids of answer records refer.

    python -m benchmarks.questions --tasks benchmarks/tasks --plain arc_easy_text=arc_easy.jsonl \
        --output questions.parquet

Records hold ids and hashes only; whoever exchanges records, or looks at one answer, needs the prompt as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from c2c.cli.flags import benchmark_files
from c2c.errors import RefusedError, exit_code
from c2c.evaluation import schema
from c2c.evaluation.questions.prompting import messages_as_json
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.reader import text_hash
from c2c.provenance import stamp
from c2c.types import PROMPTS


def question_rows(tasks: Path, files: Mapping[str, Path], prompts: str) -> list[dict[str, Any]]:
    """One row a question, with the columns of `c2c.evaluation.schema.QUESTION_COLUMNS`.

    Args:
        tasks: Folder of task files.
        files: Prepared questions of each task.
        prompts: ``plain`` or ``chat``, as the pairs that answer are asked.

    Raises:
        RefusedError: As `load_tasks`.
    """
    rows = []
    for name, task in load_tasks(tasks, files)["tasks"].items() if files else ():
        is_weighed = task.OUTPUT_TYPE == "multiple_choice"
        shows_options = task.config.metadata["scoring"] == "letter"
        for question in questions_of(task, prompts):
            options = task.doc_to_choice(question.doc) if is_weighed else question.doc.get("options")
            rows.append(
                {
                    "benchmark": name,
                    "prompts": prompts,
                    "question_id": str(question.doc["id"]),
                    "question_hash": text_hash(json.dumps(question.doc, sort_keys=True)),
                    "subset": str(question.doc.get("subset") or ""),
                    "prompt": messages_as_json(question.messages) if question.messages else question.prompt,
                    "private": question.private,
                    "choices": options if is_weighed or shows_options else None,
                    "gold": question.gold,
                    "max_new_tokens": None if is_weighed else question.max_new_tokens,
                }
            )
    return rows


def write_questions(tasks: Path, files: Mapping[str, Mapping[str, Path]], output: Path) -> None:
    """Write the questions of all tasks, which `files` has by kind of prompts, and their provenance.

    Raises:
        RefusedError: There is no task, or as `question_rows`.
    """
    paths = [path for named in files.values() for path in named.values()]
    if not paths:
        raise RefusedError("At least one task must have its questions written", [], "Pass --plain or --chat ID=FILE")
    with stamp(output, inputs=dict.fromkeys(paths), sources=[tasks]):
        rows = [row for prompts, named in files.items() for row in question_rows(tasks, named, prompts)]
        schema.write_records(schema.frame_of(rows, schema.QUESTION_SCHEMA), output, schema.QUESTION_SCHEMA)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files")
    for prompts in PROMPTS:
        what = f"tasks that are asked in {prompts} prompts, each with its prepared questions"
        parser.add_argument(f"--{prompts}", nargs="*", default=[], metavar="ID=FILE", help=what)
    parser.add_argument("--output", type=Path, required=True, help="parquet file")
    arguments = parser.parse_args()

    def act() -> None:
        files = {prompts: benchmark_files(getattr(arguments, prompts), f"--{prompts}") for prompts in PROMPTS}
        write_questions(arguments.tasks, files, arguments.output)

    return exit_code("benchmarks.questions", act)


if __name__ == "__main__":
    sys.exit(main())
