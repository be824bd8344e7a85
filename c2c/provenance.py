"""A JSON file beside each artefact that says where it comes from (design §6). Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.files import write_atomically

PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "lm_eval",
    "accelerate",
    "snakemake",
    "pandas",
    "numpy",
    "scipy",
    "pyarrow",
)
SUFFIX = ".provenance.json"
CONFIG_HASH = "C2C_CONFIG_SHA256"
"""Environment variable in which the workflow tells its jobs the hash of the whole config that they belong to."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder: of the names and hashes of its files in sorted order.

    Raises:
        RefusedError: If there is neither.
    """
    if not path.exists():
        raise RefusedError("An input must be a file or a folder", str(path), "Correct the path, or make it first")
    if path.is_dir():
        lines = (f"{file.relative_to(path)} {file_hash(file)}" for file in sorted(path.rglob("*")) if file.is_file())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of `settings` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def stamp(
    artefact: Path | str, *, inputs: Iterable[Path | str] = (), settings: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Run the block that makes `artefact`, then write ``<artefact>.provenance.json`` beside it.

    The block may add entries of its own (model and data revisions) to the dictionary that it is given. When it fails,
    nothing is written, and what an earlier run wrote is gone.

    Raises:
        RefusedError: Before the block runs, if an input is not there.
    """
    target = Path(f"{artefact}{SUFFIX}")
    hashes = {_shown(Path(path)): file_hash(Path(path)) for path in inputs}
    target.unlink(missing_ok=True)
    notes: dict[str, Any] = {}
    started = time.perf_counter()
    yield notes
    record = {
        "artefact": Path(artefact).name,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "settings": dict(settings or {}),
        "settings_sha256": settings_hash(settings) if settings else None,
        "config_sha256": os.environ.get(CONFIG_HASH),
        "inputs": hashes,
        "code": _code(),
        "packages": _packages(),
        "hardware": _hardware(),
        "wall_time_s": round(time.perf_counter() - started, 3),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **notes,
    }
    write_atomically(target, json.dumps(record, indent=1, default=str) + "\n")


def _shown(path: Path) -> str:
    """`path` as a stranger can use it: relative to the current folder where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)


def _code() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    described: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        described["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return described


def _cpu() -> str | None:
    """Name of the processor's model, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or None)
