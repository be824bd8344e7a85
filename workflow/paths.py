"""Where the files of this repository lie, wherever the workflow is started."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def source(path: str) -> str:
    """A file or folder of the repository: as it stands where the workflow runs from the root, absolute elsewhere."""
    return path if Path.cwd() == ROOT else str(ROOT / path)


def own_or_shipped(path: str) -> Path:
    """A table that a user may replace: the one below the working directory, or else the repository's."""
    return Path(path) if Path(path).is_file() else ROOT / path


def share_packages() -> None:
    """Let the commands of jobs import this repository's packages, before others of the same names."""
    folders = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, folders)))
