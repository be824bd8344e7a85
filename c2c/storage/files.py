"""Files that are whole or not there, through kills, full disks, power cuts and two writers. Imports no torch."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<pid>\d+)-[0-9a-f]{8}\.unfinished")
"""Name of a file or folder that is being written: ``.<name>.<host>-<pid>-<random>.unfinished``."""


def unfinished_path(path: Path) -> Path:
    """A path beside `path` that no other writer uses, on this host or on another one that shares the folder.

    What writers of `path` that no longer run have left on this host is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    return path.with_name(f".{path.name}.{host()}-{os.getpid()}-{secrets.token_hex(4)}.unfinished")


def remove_leftovers(path: Path) -> None:
    """Remove the unfinished files and folders of `path` whose writers ran on this host and are gone."""
    for leftover in path.parent.glob(f".{_escaped(path.name)}.*.unfinished"):
        match = UNFINISHED.fullmatch(leftover.name)
        if match and match["host"] == host() and not is_running(int(match["pid"])):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def host() -> str:
    """Name of this machine, fit for a file's name."""
    return re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())


def is_running(pid: int) -> bool:
    """Whether a process of this number runs on this machine, whoever owns it."""
    try:
        # Signal 0 is not sent, only checked.
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write in the block; at its end it becomes `path`, which until then is what it was.

    The name is taken only when the bytes are on the disk, so that a power cut leaves the old file or the new one. A
    process that is killed in the block leaves an unfinished file, which the next writer on this host removes.
    """
    unfinished = unfinished_path(path)
    try:
        yield unfinished
        replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that `path` either holds all of it or what it held before."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def replace(unfinished: Path, path: Path) -> None:
    """Give a finished file, or a finished folder, the name `path`, once its bytes are on the disk.

    A folder can take only a name that is free.
    """
    if unfinished.is_dir():
        for entry in sorted(unfinished.rglob("*")):
            sync(entry)
    sync(unfinished)
    # The name last: otherwise a power cut could leave a name without bytes. Then the entry of the folder.
    unfinished.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
