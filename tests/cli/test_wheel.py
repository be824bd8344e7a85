"""What is packed into the wheel."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_of_the_library_that_is_no_module_is_packed() -> None:
    listed = subprocess.run(["git", "ls-files", "c2c"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["c2c"]
    files = [PurePath(line).relative_to("c2c") for line in listed.splitlines() if not line.endswith(".py")]

    assert [str(file) for file in files if not any(file.match(pattern) for pattern in patterns)] == []
