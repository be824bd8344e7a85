"""One run at a time in a folder, also among hosts that share a file system."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c2c.errors import RefusedError
from c2c.storage.files import host

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder in the block: the file ``<folder>.lock`` beside it.

    The system releases the lock when its holder ends, however that happens, and so does a network file system when the
    holder's host is gone. On a file system without locks the block runs, after a warning.

    Args:
        folder: What only one run may use.
        what: What the run does, as the message of a refusal names it.

    Raises:
        RefusedError: If another run holds the lock, with its host, process and start.
    """
    path = folder.with_name(f"{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, what)
    try:
        yield
    finally:
        # Removed while it is held: who waits for the name gets a file of its own.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, what: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                print(f"{path}: this file system has no locks. Start no second run here.", file=sys.stderr)
                return descriptor
            os.close(descriptor)
            if error.errno in HELD:
                raise _refusal(path, what) from None
            raise
        if _is_open(descriptor, path):
            break
        os.close(descriptor)  # the holder before removed the file that was opened here
    holder = {"host": host(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())
    return descriptor


def _is_open(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refusal(path: Path, what: str) -> RefusedError:
    try:
        holder = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        holder = ""
    return RefusedError(
        f"Only one run at a time must {what} in {path.with_suffix('').name}",
        f"a second one, while this one runs: {holder or 'unknown'}",
        "Wait for it to end, or end it; its lock goes with it",
    )
