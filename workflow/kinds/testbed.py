"""The test bed: for each pair, task and seed the items, and the records of all channels. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from c2c.errors import RefusedError
from workflow.settings import Settings
from workflow.validation import check_known, check_row

WORLD_TASK = "world_word"
"""The task whose items come from the knowledge-gap world (`benchmarks.world.items`)."""
KEPT_MB = 5000
"""States and prefixes that a job keeps at most (`c2c.testbed.models.KEPT_BYTES` for each model, and a batch)."""
REDACTED = ("redacted_word", "redacted_code")
"""Tasks of the target ``redacted``."""


@dataclass(frozen=True)
class BedJob:
    """One job of ``c2c testbed``; its path lies below ``testbed/items`` and, with ``.parquet``, ``testbed/records``."""

    pair: str
    task: str
    seed: int
    channels: tuple[str, ...]
    settings: str
    """JSON: settings of its channels that differ from their own."""

    @property
    def path(self) -> str:
        """``<pair>/<task>/seed<seed>``."""
        return f"{self.pair}/{self.task}/seed{self.seed}"


def bed(settings: Settings) -> Mapping[str, Any]:
    """The block ``testbed`` of the config; empty where there is none."""
    return settings.config.get("testbed") or {}


def with_bed_artefacts(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config whose ``artefacts`` name the tables and figures of its test bed too."""
    block, artefacts = config.get("testbed") or {}, config["artefacts"]
    kinds = ("tables", "figures")
    joint = {kind: list(dict.fromkeys([*artefacts[kind], *block.get(kind, [])])) for kind in kinds}
    return {**config, "artefacts": {**artefacts, **joint}}


def bed_jobs(settings: Settings) -> list[BedJob]:
    """All jobs of the test bed, in the config's order."""
    return [
        BedJob(entry["pair"], task, seed, tuple(entry["channels"]), channel_settings(settings, entry))
        for entry in bed(settings).get("entries", [])
        for task in entry["tasks"]
        for seed in settings.seeds(entry)
    ]


def item_settings(settings: Settings, task: str) -> Mapping[str, Any]:
    """Sizes of a task, as flags of ``c2c.testbed.tasks.make`` or ``benchmarks.choice_items``."""
    return {name: size for name, size in bed(settings)["tasks"][task].items() if size is not None}


def channel_settings(settings: Settings, entry: Mapping[str, Any]) -> str:
    """Settings of the channels of an entry, as JSON: those of the block, replaced by those of the entry."""
    changes, own = bed(settings).get("settings") or {}, entry.get("settings") or {}
    merged = {name: {**changes.get(name, {}), **own.get(name, {})} for name in entry["channels"]}
    return json.dumps({name: values for name, values in merged.items() if values}, sort_keys=True)


def is_benchmark(settings: Settings, task: str) -> bool:
    """Whether a task of the test bed is a benchmark, of which both models read the questions."""
    return task in settings.data.benchmark_of


def check_bed(settings: Settings) -> None:
    """Check the test bed against the tables.

    Raises:
        RefusedError: An entry names a pair without a row or a task without sizes, settings are of a channel that no
            entry has, a job is named twice, or a pair has no training questions for a benchmark.
    """
    block, remedy = bed(settings), "Correct it, or set testbed to null"
    for entry in block.get("entries", []):
        check_row("The pair of a test bed", entry["pair"], settings.pairs, "pairs")
        for task in entry["tasks"]:
            check_known("A task of a test bed", task, block["tasks"], "a key of testbed.tasks", remedy)
            if is_benchmark(settings, task):
                _check_benchmark(settings, entry["pair"], task)
        for name in entry.get("settings") or {}:
            check_known("A channel in settings of an entry", name, entry["channels"], "a channel of it", remedy)
    names = {name for entry in block.get("entries", []) for name in entry["channels"]}
    for name in block.get("settings") or {}:
        check_known("A channel in testbed.settings", name, sorted(names), "a channel of an entry", remedy)
    paths = [job.path for job in bed_jobs(settings)]
    for path in paths:
        if paths.count(path) > 1:
            raise RefusedError("Each pair, task and seed of a test bed must be named once", path, remedy)


def _check_benchmark(settings: Settings, pair: str, task: str) -> None:
    """Check that a pair has training questions for the items of a benchmark.

    Raises:
        RefusedError: It is answered in chats, its training set is none of questions, or a size is of another task.
    """
    training_set = settings.pairs[pair]["training_set"]
    row = settings.data.training_sets[training_set]
    if row["source"] not in ("hub", "mix", "file") or row["asked_as"] is None or settings.prompts(pair) != "plain":
        rule = f"The pair of the benchmark {task} must have plain prompts and a training set of questions"
        received = f"{pair}, {settings.prompts(pair)} prompts, {training_set}"
        raise RefusedError(rule, received, "Choose another pair, or leave this task out")
    if item_settings(settings, task).get("texts_of_a_head") is not None:
        rule = "texts_of_a_head must be left out of a benchmark: its training questions share no text"
        raise RefusedError(rule, task, "Delete it under testbed.tasks")


def bed_mb(settings: Settings, job: BedJob) -> int:
    """Memory that a job asks for, in MB: that of answering, and what it keeps of texts."""
    return settings.answering_mb(job.pair) + KEPT_MB
