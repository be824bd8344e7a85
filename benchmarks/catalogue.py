"""The benchmarks that there are: one folder each, with one YAML file that says where its questions come from.

``<folder>/<benchmark>/<benchmark>.yaml`` holds under ``metadata`` what `KEYS` lists. A benchmark that is scored in one
way is a task of lm-eval itself, in this file; of one that is scored in several, each scoring has a task file beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from benchmarks.own import QUESTION_FILE, default_scorings
from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import SHARED
from c2c.storage.formats import read_yaml

FOLDER = Path("benchmarks/tasks")
"""Where the benchmarks of this repository are, relative to its root."""

KEYS = (
    *("benchmark", "folder", "source", "hub_id", "subset", "split", "revision", "reader", "scorings"),
    *("train_split", "shot_split", "description"),
)
"""Columns of a row of `read_benchmarks`; all but the first two are keys of ``metadata``."""
REMEDY = "Correct it; benchmarks/tasks/README.md explains the keys"


def benchmark_files(folder: Path) -> dict[str, Path]:
    """The file of each benchmark in a folder of benchmarks, by id, or of the one that the folder itself is."""
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and path.name != SHARED)]
    paths = (path / f"{path.name}.yaml" for path in folders)
    return {path.stem: path for path in paths if path.is_file()}


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
        for name, path in benchmark_files(folder).items():
            if name in rows:
                others = [rows[name]["folder"], str(path.parent)]
                raise RefusedError(f"The benchmark {name!r} must be in one folder", others, "Rename one of them")
            rows[name] = _read_row(name, path)
    return rows


def _read_row(name: str, path: Path) -> dict[str, Any]:
    content = read_yaml(path, REMEDY)
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        raise RefusedError(f"{path} must have the key metadata with keys of its own", metadata, REMEDY)
    # Other keys may be lm-eval's or a prompt's own, but none of a benchmark of one's own may be misspelt.
    for key in metadata if metadata.get("source") == "file" else ():
        if key not in KEYS and (near := get_close_matches(str(key), KEYS, n=1, cutoff=0.8)):
            raise RefusedError(
                f"metadata of {path} must have only keys with a meaning", key, f"Did you mean {near[0]!r}? Correct it"
            )
    row = {**dict.fromkeys(KEYS), **{key: metadata[key] for key in KEYS if key in metadata}}
    row |= {"benchmark": name, "folder": str(path.parent)}
    if row["source"] == "file" and row["scorings"] is None:
        row["scorings"] = default_scorings(path.parent / QUESTION_FILE)
    if missing := [key for key in ("source", "scorings") if row[key] is None]:
        raise RefusedError(f"metadata of {path} must have source and scorings", f"no {missing[0]}", REMEDY)
    return row
