"""The benchmarks of some folders: each is a folder with a YAML file that names the source of its questions.

``<folder>/<benchmark>/<benchmark>.yaml`` holds the keys of `KEYS` under ``metadata``. Where a benchmark has one
scoring, this file is also its task of lm-eval; where it has several, the folder holds a task file for each scoring.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from benchmarks.user_files import GUIDE, QUESTION_FILE, default_scorings
from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import SHARED, TEXTS
from c2c.storage.formats import read_yaml

FOLDER = Path("benchmarks/tasks")
"""Where the benchmarks of this repository are, relative to its root."""

KEYS = (
    *("benchmark", "folder", "source", "hub_id", "subset", "split", "revision", "reader", "scorings"),
    *("train_split", "shot_split", "title", "description"),
)
"""Columns of a row of `read_benchmarks`; all but the first two are keys of ``metadata``."""
REMEDY = "Correct it; benchmarks/tasks/README.md explains the keys"


def benchmark_files(folder: Path) -> dict[str, Path]:
    """The file of each benchmark in a folder of benchmarks, by id, or of the one that the folder itself is.

    Raises:
        RefusedError: If a folder holds questions or YAML files, but no ``<name>.yaml`` with the name of the folder.
    """
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != SHARED)
    files = {}
    for path in (folder, *subfolders):
        file = path / f"{path.name}.yaml"
        if file.is_file():
            files[path.name] = file
        elif (path / QUESTION_FILE).is_file() or (path != folder and list(path.glob("*.y*ml"))):
            rule = f"The folder of a benchmark must have a YAML file of the folder's name, {file}"
            names = sorted(entry.name for entry in path.iterdir())
            raise RefusedError(rule, names, f"Write it, or rename the file or the folder; {GUIDE} shows the files")
    return files


def read_benchmarks(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """A row for each benchmark in some folders, by id; a key that its file does not name is None.

    Raises:
        RefusedError: A folder does not exist, a file is no YAML with metadata, lacks a key or has an unknown one, or
            two folders have a benchmark of the same id.
    """
    rows: dict[str, dict[str, Any]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RefusedError("A folder of benchmarks must exist", str(folder), "Correct the path")
        files = benchmark_files(folder)
        if not files:
            rule = f"A folder of benchmarks must hold <benchmark>/<benchmark>.yaml, or {folder.name}.yaml and be one"
            raise RefusedError(rule, f"none of them in {folder}", f"Correct the path; {GUIDE} shows the files")
        for name, path in files.items():
            if name in rows:
                places = [rows[name]["folder"], str(path.parent)]
                raise RefusedError(f"The benchmark {name!r} must be in one folder", places, "Rename one of them")
            rows[name] = _read_row(name, path)
    return rows


def _read_row(name: str, path: Path) -> dict[str, Any]:
    content = read_yaml(path, REMEDY, str(path))
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        raise RefusedError(f"{path} must have the key metadata, which holds keys", metadata, REMEDY)
    # Further keys may be a prompt's, so those of a user's benchmark are refused only where they look misspelt.
    meaningful_keys = (*KEYS, *(key for key in TEXTS if key != "scoring"), "answer_tokens", "message_tokens")
    for key in metadata if metadata.get("source") == "file" else ():
        if key not in meaningful_keys and (matches := get_close_matches(str(key), meaningful_keys, n=1, cutoff=0.8)):
            raise RefusedError(
                f"metadata of {path} must have only keys with a meaning",
                key,
                f"Did you mean {matches[0]!r}? Correct it",
            )
    row = {**dict.fromkeys(KEYS), **{key: metadata[key] for key in KEYS if key in metadata}}
    row |= {"benchmark": name, "folder": str(path.parent)}
    if row["source"] == "file" and row["scorings"] is None:
        row["scorings"] = default_scorings(path.parent / QUESTION_FILE)
    if gaps := [key for key in ("source", "scorings") if row[key] is None]:
        raise RefusedError(f"metadata of {path} must have source and scorings", f"no {gaps[0]}", REMEDY)
    return row
