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
"""The task whose items come from the knowledge-gap world (`benchmarks.redacted.tasks`)."""
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
        BedJob(entry["pair"], task, seed, tuple(entry["channels"]))
        for entry in bed(settings).get("entries", [])
        for task in entry["tasks"]
        for seed in settings.seeds(entry)
    ]


def item_settings(settings: Settings, task: str) -> Mapping[str, Any]:
    """Sizes of a task, as flags of ``benchmarks.redacted.make``."""
    return bed(settings)["tasks"][task]


def channel_settings(settings: Settings, job: BedJob) -> str:
    """Settings of the channels of a job that differ from their own, as JSON."""
    changes = bed(settings).get("settings") or {}
    return json.dumps({name: changes[name] for name in job.channels if name in changes}, sort_keys=True)


def check_bed(settings: Settings) -> None:
    """Check the test bed against the tables.

    Raises:
        RefusedError: An entry names a pair without a row or a task without sizes, settings are of a channel that no
            entry has, or a job is named twice.
    """
    block, remedy = bed(settings), "Correct it, or set testbed to null"
    for entry in block.get("entries", []):
        check_row("The pair of a test bed", entry["pair"], settings.pairs, "pairs")
        for task in entry["tasks"]:
            check_known("A task of a test bed", task, block["tasks"], "a key of testbed.tasks", remedy)
    names = {name for entry in block.get("entries", []) for name in entry["channels"]}
    for name in block.get("settings") or {}:
        check_known("A channel in testbed.settings", name, sorted(names), "a channel of an entry", remedy)
    paths = [job.path for job in bed_jobs(settings)]
    for path in paths:
        if paths.count(path) > 1:
            raise RefusedError("Each pair, task and seed of a test bed must be named once", path, remedy)


def bed_mb(settings: Settings, job: BedJob) -> int:
    """Memory that a job asks for, in MB: that of answering, and what it keeps of texts."""
    return settings.answering_mb(job.pair) + KEPT_MB
