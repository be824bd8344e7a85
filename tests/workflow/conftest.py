from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parents[2]

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_snakemake() -> Runner:
    """Runs snakemake at the repository's root as a person does; stdout and stderr come back as one text."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("C2C_")}
        environment |= variables
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )

    return run


@pytest.fixture
def config_of() -> Callable[[str], dict[str, Any]]:
    """The config of a scale, merged as snakemake merges it."""

    def merge(scale: str) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
        if scale != "paper":
            update_config(config, yaml.safe_load((ROOT / "config" / f"{scale}.yaml").read_text()))
        return config

    return merge


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what the checks read, to be broken."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "benchmarks" / "tasks", tmp_path / "benchmarks" / "tasks")
    return tmp_path
