"""What a person or a program writes to the standard input, line by line. Imports no torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import Any

from c2c.errors import RefusedError


def lines_of(stream: Any, ready: Callable[[], object] = lambda: None) -> Iterator[str]:
    """The lines that a person or a program writes; Ctrl-C ends them as the end of the input does.

    Python drops an interrupt that comes while a destructor runs: the next line is then not waited for.

    Args:
        stream: Of text or bytes.
        ready: Called before each line is waited for.

    Raises:
        RefusedError: If a line is not UTF-8.
    """
    # A stream of text decodes more than a line at a time, and says nothing of the place.
    source = getattr(stream, "buffer", stream)
    with _noted_interrupts() as interrupts:
        for number in count(1):
            try:
                ready()
                line = b"" if interrupts else source.readline()
            except KeyboardInterrupt:
                return
            if not line:
                return
            try:
                text = line if isinstance(line, str) else line.decode("utf-8")
            except UnicodeDecodeError as error:
                remedy = "Set the terminal, or convert the file"
                raise RefusedError("What is said must be UTF-8", f"line {number}: {line[:80]!r}", remedy) from error
            yield text


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """The signals of Ctrl-C that came in the block, which raise a KeyboardInterrupt as before."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    # Only the main thread may set a handler, and a program's own one stays.
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
