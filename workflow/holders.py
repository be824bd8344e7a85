"""Processes that run a workflow in a folder, which Snakemake's own locks do not name. Imports no torch."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from c2c.errors import RefusedError
from c2c.storage.files import host, is_running, write_atomically
from c2c.storage.formats import read_json

HOLDERS = Path(".snakemake/holders")
KEYS = {"host": str, "pid": int, "since": str}


@dataclass(frozen=True)
class Holder:
    """A process that runs, or ran, a workflow in a folder.

    Args:
        host: Name of its machine.
        pid: Its number there.
        since: When it started.
    """

    host: str
    pid: int
    since: str

    @property
    def here(self) -> bool:
        """Whether the process is of this machine."""
        return self.host == host()

    @property
    def running(self) -> bool:
        """Whether a process with its number runs on this machine."""
        return self.here and is_running(self.pid)


def hold(folder: Path) -> Path:
    """Write a file that names this process, which runs a workflow in `folder`; it is removed when the process ends."""
    holder = Holder(host(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S %z"))
    path = folder / HOLDERS / f"{holder.host}-{holder.pid}.json"
    write_atomically(path, json.dumps(asdict(holder)) + "\n")
    atexit.register(_leave, path.absolute(), holder.pid)
    return path


def _leave(path: Path, pid: int) -> None:
    # A child that was forked ends too, and it holds nothing.
    if os.getpid() == pid:
        path.unlink(missing_ok=True)


def read_holders(folder: Path) -> dict[Path, Holder]:
    """The files that holders have left in a folder.

    Raises:
        RefusedError: If one of them does not say whose it is.
    """
    holders = {}
    for path in sorted((folder / HOLDERS).glob("*.json")):
        remedy = f"Make sure that no workflow runs in {folder} on any machine, and remove {path}"
        content = read_json(path, remedy)
        if not isinstance(content, Mapping) or any(type(content.get(key)) is not kind for key, kind in KEYS.items()):
            raise RefusedError(f"{path.name} must say whose it is: host, pid and since", content, remedy)
        holders[path] = Holder(**{key: content[key] for key in KEYS})
    return holders
