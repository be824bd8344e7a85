"""Benchmarks and training sets of the workflow: task ids, task files, and the arguments of their commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.catalogue import FOLDER, read_benchmarks
from benchmarks.prompts import RELEASED_PROMPT_FILES, prompt_file
from benchmarks.user_files import QUESTION_FILE, UserFile
from benchmarks.user_tasks import task_config
from c2c.errors import RefusedError
from c2c.evaluation.protocol import ORACLE_TASK, RELEASED, RELEASED_TASK
from c2c.evaluation.questions.task_files import SHARED, included_files, read_task_file, task_path
from workflow.paths import source
from workflow.revisions import asked_revision
from workflow.validation import Row, Table, check, check_known, check_row, row_schema

TASKS = Path(source(str(FOLDER)))


@dataclass(frozen=True)
class Data:
    """The benchmarks, the rows of config/training_sets.tsv, and the config that uses them.

    A *task* is a benchmark under one scoring: ``<benchmark>_<scoring>``, or ``<benchmark>`` where there is one only.
    With the prompts of the released code it is another task, ``<task>_released``; in those of its enrichment oracle
    ``<task>_oracle_released``.
    """

    config: Mapping[str, Any]
    benchmarks: Table
    training_sets: Table

    @cached_property
    def benchmark_of(self) -> dict[str, str]:
        """The benchmark of every task that there is."""
        return {task: name for name in self.benchmarks for task in self.tasks_of(name)}

    def tasks_of(self, benchmark: str) -> list[str]:
        """The tasks of a benchmark, one a scoring, and those that have a file with released prompts."""
        row = self.benchmarks[benchmark]
        scorings = row["scorings"]
        tasks = [benchmark] if len(scorings) == 1 else [f"{benchmark}_{scoring}" for scoring in scorings]
        released = [f"{task}{ending}" for ending in (RELEASED_TASK, ORACLE_TASK) for task in tasks]
        return [*tasks, *(task for task in released if Path(row["folder"], f"{task}.yaml").is_file())]

    def task_files(self, task: str) -> list[str]:
        """The file of a task and those that it includes, relative to the root."""
        if self.is_own(task):
            return [f"<results>/data/benchmarks/{task}.yaml"]
        # Hundreds of jobs ask for the files of a few tasks.
        if task not in self._task_files:
            files = included_files(TASKS / self.benchmark_of[task] / f"{task}.yaml", TASKS)
            self._task_files[task] = list(map(str, files))
        return self._task_files[task]

    @cached_property
    def _task_files(self) -> dict[str, list[str]]:
        return {}

    def is_own(self, task: str) -> bool:
        """Whether the questions of a task are a file of the user's own, and its task file is written with them."""
        return bool(self.benchmarks[self.benchmark_of[task]]["source"] == "file")

    @property
    def own_tasks(self) -> list[str]:
        """The tasks of benchmarks with source file."""
        return [task for task in self.benchmark_of if self.is_own(task)]

    def own_folder(self, benchmark: str) -> str:
        """The folder of a benchmark with source file."""
        return str(self.benchmarks[benchmark]["folder"])

    @property
    def titled_files(self) -> list[str]:
        """The YAML files of the config's benchmarks whose metadata has a title."""
        names = dict.fromkeys(self.benchmark_of[task] for task in self.config["benchmarks"])
        titled = [name for name in names if self.benchmarks[name]["title"] is not None]
        return [str(Path(self.benchmarks[name]["folder"], f"{name}.yaml")) for name in titled]

    def scoring_of(self, task: str) -> str:
        """The scoring of a task."""
        benchmark = self.benchmark_of[task]
        scorings: list[str] = self.benchmarks[benchmark]["scorings"]
        own = task.removesuffix(ORACLE_TASK).removesuffix(RELEASED_TASK)
        return scorings[0] if len(scorings) == 1 else own.removeprefix(f"{benchmark}_")

    def task_config(self, task: str, tasks: Path = TASKS) -> dict[str, Any]:
        """The content of a task file, with what it includes.

        Raises:
            RefusedError: It is missing, or no task.
        """
        if self.is_own(task):
            return task_config(Path(self.own_folder(self.benchmark_of[task])), self.scoring_of(task), task, tasks)
        return read_task_file(tasks, task)

    def preparation(self, benchmark: str) -> dict[str, Any]:
        """Settings with which the questions of a benchmark are prepared."""
        limits = {key: self.config[key] for key in ("sample", "context_limit") if self.config[key] is not None}
        return {**self._dataset(self.benchmarks[benchmark]), "protocol": self.config["protocol"], **limits}

    def training_questions(self, benchmark: str) -> dict[str, Any]:
        """Settings with which the questions of its training split are prepared, as many as a router learns from.

        Raises:
            KeyError: Its data set has no training split.
        """
        row = self.benchmarks[benchmark]
        return {
            **self._dataset({**row, "split": row["train_split"]}),
            "sample": self.config["router"]["questions"],
        }

    def shots(self, benchmark: str) -> dict[str, Any]:
        """Settings with which the questions are prepared that serve as few-shot examples.

        Raises:
            KeyError: Its data set has no split for that.
        """
        row = self.benchmarks[benchmark]
        return self._dataset({**row, "split": row["shot_split"]})

    @property
    def with_shots(self) -> list[str]:
        """Benchmarks whose data set has a split for examples."""
        return [name for name, row in self.benchmarks.items() if row["shot_split"]]

    @property
    def with_training_questions(self) -> list[str]:
        """Benchmarks whose data set has a training split."""
        return [name for name, row in self.benchmarks.items() if row["train_split"]]

    def parts(self, training_set: str) -> list[str]:
        """The training sets of a mix, or that whose questions a teacher answers; any other set is its only part."""
        return (self.training_sets[training_set]["parts"] or training_set).split()

    def sources(self, training_set: str) -> list[str]:
        """The sources of a training set in the form of the command line, one word for each part."""
        limit = self.training_sets[training_set]["limit"]
        rows = [self._source(self.training_sets[part]) for part in self.parts(training_set)]
        rows = [{**row, **({"limit": limit} if limit is not None else {})} for row in rows]
        return [",".join(f"{key}={value}" for key, value in row.items()) for row in rows]

    def asking(self, training_set: str) -> dict[str, Any]:
        """How its questions are asked, and how many examples are held out."""
        row = self.training_sets[training_set]
        prompts = {} if row["asked_as"] is None else {"asked_as": row["asked_as"]}
        protocol = {"protocol": RELEASED} if prompts and self.config["protocol"] == RELEASED else {}
        return {**prompts, **protocol, "validation": row["validation"]}

    def prompt_files(self, training_set: str) -> list[str]:
        """The prompt files of its questions; none for conversations."""
        asked_as = self.training_sets[training_set]["asked_as"]
        if asked_as is None:
            return []
        if self.config["protocol"] == RELEASED and asked_as not in RELEASED_PROMPT_FILES:
            rule = f"With protocol: {RELEASED} asked_as of a training set must be {', '.join(RELEASED_PROMPT_FILES)}"
            remedy = (
                "Take the runs of its pairs out of the config, give these pairs another training_set in "
                "config/pairs.tsv, or leave protocol out"
            )
            raise RefusedError(rule, f"{asked_as} of {training_set} in config/training_sets.tsv", remedy)
        return [str(path) for path in included_files(prompt_file(TASKS, asked_as, self.config["protocol"]), TASKS)]

    def gap(self, name: str) -> dict[str, Any]:
        """Settings with which a private benchmark, or a training set for it, is made; ``_unseen`` ends a set's id."""
        task = name.removeprefix("gap_").removesuffix("_unseen")
        values = {"validation_values": "unseen"} if name.endswith("_unseen") else {}
        return {"task": task, "seed": self.config["gap"]["seed"], **self.config["gap"][task], **values}

    @staticmethod
    def shared_prompts() -> list[str]:
        """The files with the prompts of the protocol."""
        return sorted(map(str, (TASKS / SHARED).glob("*.yaml")))

    @staticmethod
    def gap_prompts() -> list[str]:
        """The prompt files of the private benchmarks."""
        return [str(path) for path in included_files(prompt_file(TASKS, "text"), TASKS)]

    def files(self, training_set: str) -> list[str]:
        """The file of a training set with source file; empty for any other."""
        path = self.training_sets[training_set]["path"]
        return [] if path is None else [path]

    def _source(self, row: Row) -> dict[str, Any]:
        return {"file": row["path"]} if row["source"] == "file" else self._dataset(row)

    def _dataset(self, row: Row) -> dict[str, Any]:
        columns = {"reader": "reader", "hub_id": "dataset"} | {c: c for c in ("subset", "split", "revision")}
        cells = {**row, "revision": asked_revision(row, self.config)}
        return {flag: cells[column] for column, flag in columns.items() if cells[column] is not None}


def load_benchmarks(root: Path, folders: Iterable[Path] = ()) -> Table:
    """The benchmarks below `root` and in further folders, each checked against its schema.

    Raises:
        RefusedError: A file is no benchmark's, or a value in it is impossible.
    """
    table = read_benchmarks([root / FOLDER, *folders])
    for row in table.values():
        check(row, row_schema("benchmarks"), f"{row['folder']}/{row['benchmark']}.yaml: metadata")
    return table


TASK_KEYS = ("benchmark", "benchmarks", "same_answer")
"""Keys of the config, at any depth, that hold ids of tasks."""


def with_protocol(config: Mapping[str, Any], benchmarks: Table) -> dict[str, Any]:
    """The config; with ``protocol: released`` each task in it is the one with the released prompts, where there is one.

    Tasks of the generated world and of the user's own benchmarks have none, and stay as they are. The enrichment oracle
    asks the task of the released script for it. No run is asked with the released prompts a second time.
    """
    if config["protocol"] != RELEASED:
        return dict(config)
    data = Data(config, benchmarks, {})
    tasks = {f"{task}{RELEASED_TASK}" for task in data.benchmark_of} & set(data.benchmark_of)

    def replace_tasks(node: Any, key: str = "") -> Any:
        """A part of the config, whose ids of tasks below `TASK_KEYS` are the released ones."""
        if isinstance(node, Mapping):
            return {name: replace_tasks(part, name) for name, part in node.items() if name != "released_prompts"}
        if isinstance(node, list):
            return [replace_tasks(part, key) for part in node]
        return f"{node}{RELEASED_TASK}" if key in TASK_KEYS and f"{node}{RELEASED_TASK}" in tasks else node

    changed = dict(replace_tasks(config))
    oracle = (changed["analysis"] or {}).get("enrichment")
    if oracle and oracle["benchmark"] in data.benchmark_of:
        tasks_of_oracle = data.tasks_of(data.benchmark_of[oracle["benchmark"]])
        oracle["benchmark"] = next(
            (task for task in tasks_of_oracle if task.endswith(ORACLE_TASK)), oracle["benchmark"]
        )
    return changed


def check_benchmarks(data: Data, root: Path) -> list[str]:
    """Check the tasks of the config, their files and, of a user's own, their questions; returns their ids.

    Raises:
        RefusedError: A task is unknown, or its file is missing, elsewhere, or of another scoring.
    """
    for task in data.config["benchmarks"]:
        benchmark_of = data.benchmark_of
        remedy = "Name a benchmark with its scoring, or add its folder to benchmark_folders"
        check_known(
            "A task of benchmarks", task, benchmark_of, "a benchmark of benchmarks/tasks or of your own", remedy
        )
        if data.is_own(task):
            UserFile(Path(data.own_folder(benchmark_of[task])) / QUESTION_FILE).questions(task)
            data.task_config(task, root / TASKS)
            continue
        # A task of this repository has a file of its scoring, with a prompt and an answer.
        path = root / TASKS / benchmark_of[task] / f"{task}.yaml"
        if not path.is_file():
            rule = f"Benchmark {task!r} must have its prompts in a file"
            raise RefusedError(rule, str(path), "Write it, or correct metadata.scorings of the benchmark")
        task_path(root / TASKS, task)
        content = read_task_file(root / TASKS, task)
        if missing := {"doc_to_text", "doc_to_target"} - set(content):
            rule = f"{path} must name doc_to_text and doc_to_target"
            raise RefusedError(rule, f"without {sorted(missing)}", "Add them")
        scoring = content["metadata"]["scoring"]
        if scoring != data.scoring_of(task):
            rule = f"metadata.scoring of {path} must be that of the task"
            raise RefusedError(rule, scoring, "Correct it, or metadata.scorings of the benchmark")
    return list(data.config["benchmarks"])


def _check_answered(data: Data, name: str, root: Path) -> list[str]:
    """Check that a teacher answers the questions of one other training set, and check that set."""
    parts = data.parts(name)
    if len(parts) != 1 or data.training_sets.get(parts[0], {}).get("asked_as") is None:
        rule = f"The teacher of {name!r} must answer one training set of questions"
        raise RefusedError(rule, ", ".join(parts), "Name one that has asked_as in config/training_sets.tsv")
    return check_training_set(data, parts[0], root)


def check_training_set(data: Data, name: str, root: Path) -> list[str]:
    """Check the row of a training set and the files with its prompts; returns its parts.

    Raises:
        RefusedError: A part is unknown or a mix itself, a cell is empty, or a validation part leaves nothing.
    """
    # Which cells are filled follows from the source.
    row = data.training_sets[name]
    if (row["source"] in ("mix", "teacher")) != (row["parts"] is not None):
        rule = "A training set with source mix or teacher, and no other, must name its parts"
        raise RefusedError(rule, f"{name}: source {row['source']}, parts {row['parts']}", "Correct its row")
    if row["source"] != "teacher" and row["teacher"] is not None:
        rule = "Only a training set with source teacher must name a model that writes its answers"
        raise RefusedError(rule, f"{name}: source {row['source']}, teacher {row['teacher']}", "Correct its row")
    if row["source"] == "teacher":
        return _check_answered(data, name, root)
    if (row["source"] == "file") != (row["path"] is not None):
        rule = "A training set with source file, and no other, must name a path"
        raise RefusedError(rule, f"{name}: source {row['source']}, path {row['path']}", "Correct its row")
    for path in data.files(name):
        if not (root / path).is_file() and not Path(path).is_file():
            raise RefusedError(f"The path of training set {name!r} must be a file", path, "Correct the path")
    # Parts of a mix are sets of their own.
    for part in data.parts(name):
        check_row(f"A part of {name!r}", part, data.training_sets, "training_sets")
        if part != name and data.training_sets[part]["source"] != "hub":
            raise RefusedError(f"A part of {name!r} must come from the hub", part, "Name its own parts instead")
    if row["source"] not in ("world", "gap"):
        if row["validation"] is None:
            rule = f"A row of config/training_sets.tsv with source {row['source']} must fill 'validation'"
            raise RefusedError(rule, f"{name}: empty", "Fill the cell")
        if row["limit"] is not None and row["limit"] <= row["validation"]:
            rule = f"Training set {name!r} must have more examples than its {row['validation']} for validation"
            raise RefusedError(rule, row["limit"], "Raise limit or lower validation in config/training_sets.tsv")
        for path in data.prompt_files(name):
            if not (root / path).is_file():
                raise RefusedError(f"Training set {name!r} must have its prompts in a file", path, "Restore it")
    return data.parts(name)
