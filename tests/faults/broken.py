"""Which files of a results folder are not whole: none may be, however often the run was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from safetensors import safe_open


def broken_files(results: Path) -> list[str]:
    """Names of files that cannot be read to their end, and of what a killed process has left unfinished."""
    files = sorted(path for path in results.rglob("*") if path.is_file())
    return [str(path.relative_to(results)) for path in files if _is_leftover(path, results) or not _is_whole(path)]


def _is_leftover(path: Path, results: Path) -> bool:
    hidden = [part for part in path.relative_to(results).parts if part.startswith(".")]
    return bool(hidden) and path.name != ".snakemake_timestamp"


def _is_whole(path: Path) -> bool:
    try:
        return READ.get(path.suffix, _not_looked_at)(path)
    except Exception:  # each library has errors of its own for a file that is cut off
        return False


def _json(path: Path) -> bool:
    json.loads(path.read_text(encoding="utf-8"))
    return True


def _lines(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return text.endswith("\n") and all(json.loads(line) is not None for line in text.splitlines())


def _parquet(path: Path) -> bool:
    return pq.read_table(path).num_columns > 0


def _tensors(path: Path) -> bool:
    with safe_open(path, framework="pt") as file:
        return all(file.get_tensor(name).numel() >= 0 for name in file.keys())  # noqa: SIM118


def _ends_with(end: bytes) -> Callable[[Path], bool]:
    return lambda path: path.read_bytes().rstrip(b" \r\n").endswith(end)


def _text(path: Path) -> bool:
    return path.read_bytes().endswith(b"\n")


def _not_looked_at(path: Path) -> bool:
    return True


READ: dict[str, Callable[[Path], bool]] = {
    ".json": _json,
    ".jsonl": _lines,
    ".parquet": _parquet,
    ".safetensors": _tensors,
    ".png": _ends_with(b"IEND\xaeB`\x82"),
    ".pdf": _ends_with(b"%%EOF"),
    ".html": _ends_with(b"</html>"),
    ".csv": _text,
    ".md": _text,
    ".tex": _text,
}
"""How a file of each kind is read to its end; of the others (logs, times of jobs) any length is whole."""
