"""Start a command of this package in several processes of one machine, and end them with it. Imports no torch early."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from c2c.errors import RefusedError
from c2c.storage.locks import locked
from c2c.training.config import TrainingConfig

RANK, COUNT, LAUNCHER = "RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"
"""Environment variables in which torchrun and ``accelerate launch`` tell a process who it is."""
DIE_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of Linux's prctl."""


def is_started() -> bool:
    """Whether a launcher has started this process as one of several."""
    return int(os.environ.get(COUNT, "1")) > 1


def is_first() -> bool:
    """Whether this process is alone, or the first of several."""
    return os.environ.get(RANK, "0") == "0"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no other training use a folder in the block; of several processes the first holds its lock.

    Raises:
        RefusedError: If another training uses it.
    """
    if is_first():
        with locked(folder, "train"):
            yield
    else:
        yield


def start(processes: int, arguments: Sequence[str]) -> int:
    """Run ``c2c`` with `arguments` in so many processes by torchrun; returns the exit code of the first that failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # Each process of torch takes all cores otherwise, and waits for the others.
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    launcher = ["--standalone", "--nproc-per-node", str(processes), "--module", "c2c.cli"]
    try:
        run(parse_args([*launcher, *arguments]))
    except ChildFailedError as error:
        return int(error.get_first_failure()[1].exitcode) or 1
    return 0


def launch_or_join(processes: int, config: TrainingConfig, arguments: Sequence[str]) -> bool:
    """Start the processes of a training and wait for them, or, in one of them, join the training.

    Args:
        processes: How many processes train together.
        config: Settings of the training, whose batches they share.
        arguments: The command line, which each of several processes is started with.

    Returns:
        Whether this process trains; False after it has waited for others that did.

    Raises:
        RefusedError: If there is no process, or a batch has no example for one of them.
    """
    if processes < 1:
        raise RefusedError("--processes must be at least 1", processes, "Pass 1, or a process for each GPU")
    config.check_processes(processes)
    if processes > 1 and not is_started():
        if code := start(processes, arguments):
            sys.exit(code)
        return False
    end_with_launcher()
    return True


def end_with_launcher() -> None:
    """Let this process be killed when its launcher is, so that none trains on beside a run that is started again."""
    if LAUNCHER in os.environ and sys.platform == "linux":
        # The signal comes if the parent ends from now on; one that has ended already has left init as the parent.
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
