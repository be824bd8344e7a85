"""SHA-256 of the files of a folder, stored between runs, and the comparison of files with a manifest. Imports no torch.

A hash is stored with the file's size, inode, time of change and time of status change (nanoseconds), and the file is
hashed again where one of them differs. What this misses: a disk or memory that changes bits without a write; a change
that keeps the size and that a clock set back, or a file system that keeps no times of status change, gives the same
times. To have every file hashed anew, remove the folder that `CACHE` names.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.provenance import file_hash
from c2c.storage.files import write_atomically

CACHE = "C2C_CACHE"
"""Environment variable: the folder in which hashes are kept; ``~/.cache/c2c`` by default."""
YOUNG_NS = 2_000_000_000
"""A file that changed so lately can change again within one tick of a coarse clock: its hash is not kept."""


def folder_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below `folder`, by its name with ``/``; what is hidden, such as notes of a download, is not.

    Links are followed to the files that they name, as in the hub's cache.
    """
    stored, hashes, entries = _read_stored(folder), {}, {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # Hidden files are notes of a download or files that are being written.
        if any(part.startswith(".") for part in Path(name).parts) or not path.is_file():
            continue
        state = _state(path)
        entry = stored.get(name)
        is_current = isinstance(entry, list) and len(entry) == 2 and entry[0] == state and isinstance(entry[1], str)
        hashes[name] = entry[1] if is_current and entry else file_hash(path)
        # A file that changed while it was hashed has no hash to store.
        if _state(path) == state and max(state[2:]) < time.time_ns() - YOUNG_NS:
            entries[name] = [state, hashes[name]]
    # Entries of files that are gone are dropped with this.
    if entries != stored:
        with suppress(OSError):  # without a place to keep them, they are computed each time
            write_atomically(_store_path(folder), json.dumps(entries))
    return hashes


def content_hash(hashes: Mapping[str, str]) -> str:
    """One SHA-256 of the names and hashes of a folder's files."""
    return hashlib.sha256("\n".join(f"{name} {hashes[name]}" for name in sorted(hashes)).encode()).hexdigest()


def check_files(folder: Path, expected: Mapping[str, str], manifest: str, remedy: str) -> None:
    """Refuse a folder whose files are not those that a manifest names.

    Args:
        folder: The folder.
        expected: SHA-256 of each file, as `folder_hashes` gives them.
        manifest: Name of the manifest.
        remedy: Of the refusal.

    Raises:
        RefusedError: With the name of each file that is missing, new or another one.
    """
    rule = f"The files of {folder.name or folder} must be those that {manifest} names"
    # Another folder altogether is not hashed to its end.
    if missing := [f"{name} is missing" for name in sorted(expected) if not (folder / name).is_file()]:
        raise RefusedError(rule, missing, remedy)
    hashes = folder_hashes(folder)
    # Files that differ, then files that the manifest does not name
    changed = [f"{name} has changed" for name in sorted(expected) if hashes.get(name) != expected[name]]
    new = [f"{name} is new" for name in sorted(hashes.keys() - expected.keys())]
    if changed or new:
        raise RefusedError(rule, changed + new, remedy)


def _state(path: Path) -> list[int]:
    """What differs after a change: size, inode, time of change, time of status change."""
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _store_path(folder: Path) -> Path:
    place = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "c2c")
    return place / "hashes" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()}.json"


def _read_stored(folder: Path) -> dict[str, Any]:
    """Stored states and hashes; empty if they cannot be read, since they only save time."""
    try:
        stored = json.loads(_store_path(folder).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}
