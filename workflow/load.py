"""Reads the config's tables and the benchmarks, and checks config and tables before any job starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from c2c.storage.formats import read_yaml
from workflow.checks import check_artefacts, check_settings, check_world
from workflow.data import load_benchmarks, with_protocol
from workflow.hub_inputs import check_mirrored, check_unpinned
from workflow.kinds.testbed import with_bed_artefacts
from workflow.paths import ROOT, own_or_shipped
from workflow.scales import BASE
from workflow.settings import Settings
from workflow.validation import check_config, read_table

TABLES = ("models", "pairs", "recipes", "training_sets", "groups", "released")
"""The tables below ``config/`` that a run reads, as the fields of `Settings` are called."""


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run; outside of the repository, with the paper's for all keys that it does not have."""
    if Path.cwd() == ROOT:
        return dict(config)
    defaults: dict[str, Any] = read_yaml(ROOT / f"config/{BASE}", "Restore the file")
    update_config(defaults, config)
    return defaults


def load_settings(config: Mapping[str, Any], root: Path | None = None) -> Settings:
    """Read the tables below `root`, or each from the working directory or else the repository, and check everything.

    Config and tables are checked first alone, then against each other.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    check_config(config)
    config = with_bed_artefacts(config)
    check_world(config)
    check_artefacts(config)
    check_unpinned(config)
    files = {name: f"config/{name}.tsv" for name in TABLES}
    tables = {name: read_table(root / file if root else own_or_shipped(file)) for name, file in files.items()}
    folders = [(root or Path()) / folder for folder in config.get("benchmark_folders", [])]
    benchmarks = load_benchmarks(root or ROOT, folders)
    settings = Settings(with_protocol(config, benchmarks), benchmarks=benchmarks, **tables)
    check_settings(settings, root or ROOT)
    check_mirrored(settings)
    return settings
