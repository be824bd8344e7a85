"""Models and data sets that a scale takes from the hub, and whether each is pinned to a commit. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from c2c.errors import RefusedError
from c2c.models import hub
from paper.reading.commits import CITED, COMMIT, TABLES
from workflow.revisions import has_no_history
from workflow.scales import basis_of
from workflow.settings import Settings

PIN = "python -m workflow.pin"
MOST_NAMED = 6
"""Rows that a message names one by one."""


@dataclass(frozen=True)
class Input:
    """A row of a table with hub ids that a scale uses."""

    table: str
    name: str
    hub_id: str
    revision: str

    @property
    def pinned(self) -> bool:
        """Whether its revision is a commit."""
        return COMMIT.fullmatch(self.revision) is not None


def hub_inputs(settings: Settings) -> list[Input]:
    """The rows with hub ids that a scale uses, in the order of the tables, each once."""
    data, config = settings.data, settings.config
    enrichment = (config["analysis"] or {}).get("enrichment")
    examples = [enrichment["examples"]] if enrichment else []
    parts = [part for name in settings.used_training_sets for part in data.parts(name)]
    used = {
        "models": settings.used_models,
        "released": list(config.get("released", [])),
        "benchmarks": [*(data.benchmark_of[task] for task in config["benchmarks"]), *examples],
        "training_sets": [*settings.used_training_sets, *parts],
    }
    rows = [(table, name, getattr(settings, table)[name]) for table in TABLES for name in dict.fromkeys(used[table])]
    return [Input(table, name, row["hub_id"], row["revision"]) for table, name, row in rows if row["hub_id"]]


def check_mirrored(settings: Settings) -> None:
    """Check that each mirrored folder with a pinned row is of that commit, unless the config has `unpinned: true`.

    Raises:
        RefusedError: With the folder and the commit.
    """
    if settings.config.get("unpinned"):
        return
    for row in hub_inputs(settings):
        folder = hub.mirror_folder(row.hub_id)
        if folder and row.pinned and hub.revision_of(folder) != row.revision:
            place = "the benchmark" if row.table == "benchmarks" else f"config/{row.table}.tsv"
            rule = f"A mirrored folder must say that it is of the commit that {place} names"
            remedy = (
                f"Download it so (hf download {row.hub_id} --revision {row.revision} --local-dir …), or set "
                "unpinned: true in the config to take what is there"
            )
            raise RefusedError(rule, f"{folder}: {hub.revision_of(folder) or 'a folder without a commit'}", remedy)


def check_start(settings: Settings) -> None:
    """Check that a run with the basis of a cited scale starts from commits, unless the config has `unpinned: true`.

    Raises:
        RefusedError: With the rows that name a branch or a tag.
    """
    unpinned_rows = [row for row in hub_inputs(settings) if not row.pinned]
    if unpinned_rows and basis_of(settings.config) in CITED and not settings.config.get("unpinned"):
        rule = f"A run of the scale {settings.config['scale']}, which is cited, must start from commits"
        remedy = f"Where the hub is reached: {PIN}. For a run that nobody will cite, set unpinned: true in a config"
        raise RefusedError(rule, _listing(unpinned_rows), remedy)


def check_unpinned(config: Mapping[str, Any]) -> None:
    """Check that no paper is made of a cited scale with `unpinned: true`: citing it would be refused at the run's end.

    Raises:
        RefusedError: `artefacts.paper` is true.
    """
    if config.get("unpinned") and basis_of(config) in CITED and config["artefacts"]["paper"]:
        rule = f"A run of the scale {config['scale']} with unpinned: true must leave the paper out"
        raise RefusedError(rule, "artefacts.paper: true", "Set artefacts.paper to false, or drop unpinned")


def warning(settings: Settings) -> str:
    """The warning before a run whose inputs are not all pinned; empty if they are."""
    inputs = hub_inputs(settings)
    unpinned_rows = [row for row in inputs if not row.pinned]
    if settings.config.get("unpinned"):
        unpinned_rows += [row for row in inputs if row.pinned and has_no_history(row.hub_id)]
    if not unpinned_rows:
        return ""
    return (
        f"{len(unpinned_rows)} of {len(inputs)} inputs are not pinned to a commit: {_listing(unpinned_rows)}. "
        f"Manifests and provenance files record their commits where they are known. To pin them: {PIN}"
    )


def _listing(inputs: list[Input]) -> str:
    texts = [f"{row.table} {row.name} ({row.revision[:12]})" for row in inputs]
    rest = [f"{len(texts) - MOST_NAMED} more"] if len(texts) > MOST_NAMED else []
    return ", ".join([*texts[:MOST_NAMED], *rest])
