"""Reads the config's tables and the benchmarks, and checks config and tables before any job starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow.checks import check_artefacts, check_settings, check_world
from workflow.data import load_benchmarks
from workflow.hub_inputs import check_mirrored, check_unpinned
from workflow.settings import Settings
from workflow.validation import check_config, read_table

TABLES = ("models", "pairs", "recipes", "training_sets", "groups", "released")
"""The tables below ``config/`` that a run reads, as the fields of `Settings` are called."""


def load_settings(config: Mapping[str, Any], root: Path = Path()) -> Settings:
    """Read the tables and benchmarks below `root` and check them and `config`, first alone, then against each other.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    check_config(config)
    check_world(config)
    check_artefacts(config)
    check_unpinned(config)
    tables = {name: read_table(root / "config" / f"{name}.tsv") for name in TABLES}
    settings = Settings(config, benchmarks=load_benchmarks(root, config.get("benchmark_folders", [])), **tables)
    check_settings(settings, root)
    check_mirrored(settings)
    return settings
