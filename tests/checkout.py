"""A copy of the repository in which a test runs the workflow: it meets no other results, locks and checkpoints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REDUCED = ["config/config.yaml", "config/smoke.yaml", "config/smoke_reduced.yaml"]


def copy_checkout(target: Path) -> Path:
    """Copy what git knows and does not ignore; links stay links, and times of files stay."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


def environment_of(checkout: Path) -> dict[str, str]:
    """Variables with which commands in the copy use its code with this Python's packages, one thread each."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("C2C_", "PYTEST_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return {**kept, "PATH": path, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"}


def compare(checkout: Path, left: Path, right: Path) -> subprocess.CompletedProcess[str]:
    """Two results folders held against each other, byte for byte but for what paper/volatile.yaml lists."""
    command = [sys.executable, "-m", "paper.compare", str(left), str(right)]
    return subprocess.run(
        command, cwd=checkout, env=environment_of(checkout), capture_output=True, text=True, check=False
    )
