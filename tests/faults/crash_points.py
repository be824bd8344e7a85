"""Kill a process at each of its changes to files, one after the other: what is left must never pass for finished."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")
WRITING = os.O_WRONLY | os.O_RDWR
HALF = b'{"half'
"""What a file that was being written holds at the kill."""


def killed_at_each_change(folder: Path, action: Callable[[], Any]) -> Iterator[int]:
    """Run `action` in processes that are killed at its first change below `folder`, at its second, and so on.

    A change is a file that is opened to be written, which then holds half of something, or an entry that is made,
    renamed or removed, which then is as it was. Each process finds what the last one left.

    Yields:
        The number of the change, after the kill; 0 at last, when `action` has run to its end.
    """
    point = 1
    while _killed_at(point, folder, action):
        yield point
        point += 1
    yield 0


def _killed_at(point: int, folder: Path, action: Callable[[], Any]) -> bool:
    child = os.fork()
    if not child:
        code = 1
        try:
            sys.addaudithook(_killer(point, folder))
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the action failed"
    return False


def announced(write: Callable[..., Any], argument: int) -> Callable[..., Any]:
    """A function that writes a file by other code than Python's, made to open it in Python first: a kill sees that."""

    def announcing(*arguments: Any, **options: Any) -> Any:
        Path(arguments[argument]).open("ab").close()
        return write(*arguments, **options)

    return announcing


def _killer(point: int, folder: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that kills this process at its change of that number."""
    left = point

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opened = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
        if not left or not (opened or event in CHANGES) or not _path_of(event, arguments).is_relative_to(folder):
            return
        left -= 1
        if left:
            return
        if opened:
            Path(arguments[0]).write_bytes(HALF)
        os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _path_of(event: str, arguments: tuple[Any, ...]) -> Path:
    """The file that is changed; `shutil.rmtree` names it relative to an open folder."""
    if not isinstance(arguments[0], (str, os.PathLike)):
        return Path()
    number = arguments[2] if event == "os.rename" else arguments[-1] if event != "open" else -1
    return (Path(f"/proc/self/fd/{number}").resolve() if number >= 0 else Path()) / arguments[0]
