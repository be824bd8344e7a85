"""Titles of ids, and reasons for cells that were never run, from ``names.yaml``; titles of a user's benchmarks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from c2c.evaluation.protocol import ORACLE_TASK, RELEASED_TASK
from c2c.storage.formats import read_yaml

PATH = Path(__file__).parents[1] / "names.yaml"
PAPER_SCORING = "letter"
BENCHMARK_FILES = "C2C_BENCHMARK_FILES"
"""Environment variable with the YAML files of benchmarks whose metadata has a title, set by the workflow."""


def files() -> list[Path]:
    """The files that titles come from: ``names.yaml``, and those of benchmarks that have a title of their own."""
    return [PATH, *map(Path, filter(None, os.environ.get(BENCHMARK_FILES, "").split(os.pathsep)))]


@cache
def read_names() -> dict[str, Any]:
    """The content of ``names.yaml``, with the titles of a user's benchmarks."""
    names_file, *benchmark_files = files()
    content: dict[str, Any] = read_yaml(names_file, f"Correct {names_file.name}")
    for path in benchmark_files:
        metadata = read_yaml(path, "Correct its metadata.title", str(path))["metadata"]
        content["benchmarks"].setdefault(path.stem, {"title": metadata["title"]})
    return content


def title(kind: str, name: str) -> str:
    """How the id `name` of `kind` (arms, benchmarks, pairs, ...) is written; the id itself where nothing is listed.

    A task of a benchmark with several scorings (`arc_easy_text`) is written with both.
    """
    if kind == "benchmarks" and has_released_prompts(name):
        return f"{title(kind, own_prompts(name))}, released prompts"
    text = read_names()[kind].get(name, {}).get("title")
    base, scoring = _task(kind, name)
    if text is None and scoring:
        return f"{title(kind, base)} ({read_names()['scorings'][scoring]['title']})"
    return str(text or name)


def cell_title(pair: str, benchmark: str) -> str:
    """The titles of a pair and a benchmark as one, as in "Pair A, free answer".

    A benchmark that the pair is named after is not named twice: "…, private line" and "Private line, four-way choice"
    are "…, private line, four-way choice".
    """
    of_pair, of_benchmark = title("pairs", pair), title("benchmarks", benchmark)
    start, _, scoring = of_benchmark.partition(", ")
    repeats = scoring and of_pair.lower().endswith(f", {start.lower()}")
    return f"{of_pair}, {scoring if repeats else of_benchmark}"


def has_released_prompts(task: str) -> bool:
    """Whether a task is asked with the prompts of the released code."""
    return task.endswith(RELEASED_TASK)


def own_prompts(task: str) -> str:
    """The same task with our own prompts."""
    return task.removesuffix(ORACLE_TASK).removesuffix(RELEASED_TASK)


def _task(kind: str, name: str) -> tuple[str, str]:
    """The benchmark and the scoring that a task id is made of; the id and nothing where it is not."""
    name = own_prompts(name) if kind == "benchmarks" else name
    base, _, scoring = name.rpartition("_")
    split = kind == "benchmarks" and name not in read_names()[kind] and scoring in read_names()["scorings"]
    return (base, scoring) if split and base in read_names()[kind] else (name, "")


def paper_name(kind: str, name: str) -> str | None:
    """What the paper calls `name`, or None.

    Of a benchmark's tasks it has the one in which letters are written, and that of the released enrichment oracle.
    """
    base, scoring = _task(kind, name)
    is_printed = scoring in ("", PAPER_SCORING) or (kind == "benchmarks" and name.endswith(ORACLE_TASK))
    text = read_names()[kind].get(base, {}).get("paper") if is_printed else None
    return None if text is None else str(text)


def benchmark_of(task: str) -> str:
    """The benchmark of a task id such as ``arc_easy_text``; the id itself where it is no task of several."""
    return _task("benchmarks", task)[0]


def places(pair: str) -> tuple[str, ...]:
    """Tables and figures of the paper that are of these models after this training, as in ``Table 4``; main one first.

    The paper has the same models after other trainings elsewhere; those are pairs of their own.
    """
    return tuple(read_names()["pairs"].get(pair, {}).get("paper", ()))


def id_of(kind: str, text: str) -> str:
    """Our id for what the paper calls `text`; the paper's name itself where there is none."""
    return next((name for name, entry in read_names()[kind].items() if entry.get("paper") == text), text)


def has_own_tables(pair: str) -> bool:
    """Whether a pair is shown only in tables of its own, such as that of several Sharers."""
    return bool(read_names()["pairs"].get(pair, {}).get("own_tables", False))


def main_alignment(pair: str) -> str:
    """The token alignment that a pair's tables and claims show, where the list names one; else nothing."""
    return str(read_names()["pairs"].get(pair, {}).get("main_alignment", ""))


def in_order(kind: str, names: Iterable[str]) -> list[str]:
    """`names` in the order of the list, unlisted ones behind in alphabetical order."""
    ids = list(read_names()[kind])

    def rank(name: str) -> tuple[int, str]:
        base, _ = _task(kind, name)
        return (ids.index(base) if base in ids else len(ids), name)

    return sorted(set(names), key=rank)


def reason_not_compared(missing_arm: str | None, **cell: str) -> str:
    """Why a difference holds no number: the reason for the missing arm, or that both were trained with other seeds."""
    return "no training seed in common" if missing_arm is None else reason_not_run(arm=missing_arm, **cell)


def reason_not_run(**cell: str) -> str:
    """Why the cell with these ids (pair, arm, alignment, benchmark) holds no number."""
    for entry in read_names()["not_run"]:
        if all(fnmatch(cell.get(key, ""), pattern) for key, pattern in entry.items() if key != "reason"):
            return str(entry["reason"])
    return ""
