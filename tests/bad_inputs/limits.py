"""Acts that may ask for too much, in a process that cannot take the machine with it."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError

MEMORY = 2**30
"""Bytes beyond what the process has already."""
SECONDS = 1.0
"""Of its processor, so that a busy machine changes nothing."""
PATIENCE = 60


def within_limits(action: Callable[[], Any]) -> None:
    """Run `action` in a process that has MEMORY and SECONDS; refuse here what it refuses there.

    Raises:
        RefusedError: As `action`.
        AssertionError: If it ended in another way, or took too long.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.write(writing, json.dumps(_outcome(action)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    assert text, f"the process ended with status {status}: out of memory, or still at work after {PATIENCE} s"
    outcome = json.loads(text)
    assert outcome["seconds"] < SECONDS, outcome
    if "rule" in outcome:
        error = RefusedError(outcome["rule"], None, outcome["remedy"])
        error.args = (outcome["message"],)
        raise error
    assert outcome["error"] is None, outcome["error"]


def _outcome(action: Callable[[], Any]) -> dict[str, Any]:
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(PATIENCE)
    start = time.process_time()
    try:
        action()
        outcome: dict[str, Any] = {"error": None}
    except RefusedError as error:
        outcome = {"rule": error.rule, "remedy": error.remedy, "message": str(error)}
    except BaseException as error:
        outcome = {"error": repr(error)[:2000]}
    return {**outcome, "seconds": time.process_time() - start}
