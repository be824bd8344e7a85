"""Provenance: a JSON file next to each artefact with its inputs, settings, code and machine. Imports no torch."""

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
from c2c.storage.files import write_atomically

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
FILES = (".csv", ".html", ".json", ".jsonl", ".parquet", ".pdf", ".zip")
"""Suffixes of artefacts that are files."""
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
        # Names count too: files that change places change what a folder is.
        lines = (f"{file.relative_to(path)} {file_hash(file)}" for file in sorted(path.rglob("*")) if file.is_file())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of `settings` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def check_output(output: Path, inputs: Iterable[Path | str]) -> None:
    """Refuse an output that would destroy what it is made from, or that cannot take its name.

    Args:
        output: A file with one of the suffixes FILES, or a folder.
        inputs: Files and folders that are read.

    Raises:
        RefusedError: If `output` is an input or lies inside one, is of the other kind, or lies below a file.
    """
    place = output.resolve()
    for path in map(Path, inputs):
        if place == path.resolve() or (path.is_dir() and place.is_relative_to(path.resolve())):
            raise RefusedError(
                "An output must not be an input, nor lie inside one", f"{output} and {path}", "Name another output"
            )
    if output.is_dir() and output.suffix in FILES:
        raise RefusedError("The output must be a file, where there is no folder", str(output), "Name another output")
    if output.is_file() and not output.suffix:
        raise RefusedError("The output must be a folder, where there is no file", str(output), "Name another output")
    if above := [parent for parent in output.parents if parent.exists() and not parent.is_dir()]:
        raise RefusedError("An output must lie in folders", f"{output}, where {above[0]} is a file", "Name another one")


@contextmanager
def stamp(
    artefact: Path | str,
    *,
    inputs: Iterable[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
    sources: Iterable[Path | str] = (),
) -> Iterator[dict[str, Any]]:
    """Run the block that makes `artefact`, then write ``<artefact>.provenance.json`` beside it.

    The block may add entries of its own (model and data revisions) to the dictionary that it is given. When it fails,
    nothing is written; what an earlier run wrote stays if the artefact is as that run left it, and is gone otherwise.

    Args:
        artefact: What the block makes.
        inputs: What it is made from; the provenance holds their hashes.
        settings: What else it depends on.
        sources: What is read beside the inputs, such as a folder of task files; not hashed.

    Raises:
        RefusedError: Before the block runs, if an input is not there, or `check_output` refuses.
    """
    target = Path(f"{artefact}{SUFFIX}")
    paths = [Path(path) for path in inputs]
    check_output(Path(artefact), [*paths, *sources])
    hashes = {_portable(path): file_hash(path) for path in paths}
    # A kill between the new artefact and its provenance must leave no provenance of the old one.
    previous, state = target.read_bytes() if target.is_file() else None, _state(Path(artefact))
    target.unlink(missing_ok=True)
    notes: dict[str, Any] = {}
    started = time.perf_counter()
    try:
        yield notes
    except BaseException:
        if previous is not None and _state(Path(artefact)) == state:
            write_atomically(target, previous.decode("utf-8"))
        raise
    record = {
        "artefact": Path(artefact).name,
        "command": [_program(), *sys.argv[1:]],
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


def _program() -> str:
    """A script of this repository by its path from the root, so that it is one of its kind; any other by its name."""
    path, root = Path(sys.argv[0]), Path(__file__).resolve().parent.parent
    inside = path.suffix == ".py" and path.is_relative_to(root)
    return path.relative_to(root).as_posix() if inside else path.name


def _state(path: Path) -> list[tuple[str, int, int, int]]:
    """Name, inode, size and time of change of a file, or of each file of a folder; nothing if there is neither."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    return [(str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns) for file in files if (stat := file.lstat())]


def _portable(path: Path) -> str:
    """The path relative to the current folder if it lies below it, so that it holds on other machines."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)


def _code() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            process = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return process.stdout.strip() if process.returncode == 0 else None

    # Untracked files are results and notes, not code.
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hardware: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
    }
    # Not imported here: a command without torch has no GPU to report.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        hardware["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return hardware


def _cpu() -> str | None:
    """Name of the processor's model, if the system has it."""
    cpu_file = Path("/proc/cpuinfo")
    lines = cpu_file.read_text(encoding="utf-8").splitlines() if cpu_file.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or None)
