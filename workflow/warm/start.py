"""Start-up is paid once: jobs of a workflow on this machine run in children of one process that has imported torch."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from snakemake import benchmark

from workflow.warm.client import PYTHON, SOCKET
from workflow.warm.server import NAME

BIN = Path(__file__).with_name("bin")
"""Programs that pass commands on (`workflow.warm.client`)."""
GPUS = ("/dev/nvidiactl", "/dev/kfd")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")} | {
    "VECLIB_MAXIMUM_THREADS": "1"
}
"""What Snakemake adds to the environment of a job of one thread."""
HAS_LISTS = Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether the kernel lists the children of a process."""
NO_ARROW_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow brings an allocator, which it does not use by default, that starts a thread when it is loaded."""


def can_start(workflow: Any) -> bool:
    """Whether jobs of a workflow run on this machine, a Linux, in this environment and on its CPU.

    The driver of a GPU must be opened by the process that uses it.
    """
    is_local = not workflow.executor_plugin.common_settings.non_local_exec
    has_own_environments = bool(workflow.deployment_settings.deployment_method)
    has_gpu = any(Path(path).exists() for path in GPUS)
    return is_local and not has_own_environments and not has_gpu and has_pidfds()


def has_pidfds() -> bool:
    """Whether the system has pidfds: Linux 5.3 and later, not macOS, which has no abstract sockets either."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def start() -> subprocess.Popen[bytes]:
    """Start the process, and let the commands of jobs that this process starts from now on reach it."""
    name = f"c2c-warm-{os.getpid()}-{secrets.token_hex(8)}"
    # An abstract socket: there is no file that a killed workflow could leave. It listens before the imports.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(128)
        server = subprocess.Popen(
            [sys.executable, "-m", "workflow.warm.server", str(os.getpid()), str(listener.fileno())],
            env={**os.environ, **ONE_THREAD, **NO_ARROW_THREAD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    atexit.register(_stop, server, os.getpid())
    os.environb.update({SOCKET: name.encode(), PYTHON: os.fsencode(sys.executable)})
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    measure_children(server.pid)
    return server


def _stop(server: subprocess.Popen[bytes], workflow: int) -> None:
    # A fork of the workflow ends too, and the server is not its child.
    if os.getpid() == workflow:
        server.kill()
        server.wait()


def children_of(process: int) -> list[int]:
    """The numbers of the children of a process; psutil would look at every process of the machine."""
    if not HAS_LISTS:
        return [child.pid for child in psutil.Process(process).children()] if psutil.pid_exists(process) else []
    numbers: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            numbers += map(int, file.read_text(encoding="ascii").split())
    return numbers


def descendants(process: int) -> list[int]:
    """The numbers of all processes below a process."""
    return [number for child in children_of(process) for number in (child, *descendants(child))]


def name_of(process: int) -> str:
    """The name of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        return ""


def measure_children(server: int) -> None:
    """Let Snakemake's ``benchmark:`` count the process that runs a command with the program that waits for it."""

    class JobProcess(psutil.Process):
        """A job's shell, whose commands run in children of the server."""

        def children(self, recursive: bool = True) -> list[psutil.Process]:
            """All processes below it, and those that run its commands with all below them."""
            numbers = descendants(self.pid)
            names = {f"{NAME}{number}" for number in numbers}
            for worker in children_of(server):
                if name_of(worker) in names:
                    numbers += [worker, *descendants(worker)]
            processes = []
            for number in numbers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    processes.append(psutil.Process(number))
            return processes

    class Timer(benchmark.BenchmarkTimer):  # type: ignore[misc]
        """Snakemake's, of a `JobProcess`."""

        def __init__(self, pid: int, *arguments: Any, **more: Any) -> None:
            super().__init__(pid, *arguments, **more)
            self.main = JobProcess(pid)

    benchmark.BenchmarkTimer = Timer
