"""Start-up is paid once: jobs of a workflow on this machine run in children of one process that has imported torch."""

from __future__ import annotations

import atexit
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
NO_ARROW_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow brings an allocator, which it does not use by default, that starts a thread when it is loaded."""


def can_start(workflow: Any) -> bool:
    """Whether jobs of a workflow run on this machine, in this environment and on its CPU.

    The driver of a GPU must be opened by the process that uses it.
    """
    is_local = not workflow.executor_plugin.common_settings.non_local_exec
    has_own_environments = bool(workflow.deployment_settings.deployment_method)
    return is_local and not has_own_environments and not any(Path(path).exists() for path in GPUS)


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


def measure_children(server: int) -> None:
    """Let Snakemake's ``benchmark:`` count the process that runs a command with the program that waits for it."""

    class JobProcess(psutil.Process):
        """A job's shell, whose commands run in children of the server."""

        def children(self, recursive: bool = False) -> list[psutil.Process]:
            """Its own children and those of the server that run their commands."""
            processes: list[psutil.Process] = super().children(recursive)
            names = {f"{NAME}{process.pid}" for process in (self, *processes)}
            try:
                workers = [child for child in psutil.Process(server).children() if child.name() in names]
                return [*processes, *workers, *(child for worker in workers for child in worker.children(True))]
            except psutil.NoSuchProcess:
                return processes

    class Timer(benchmark.BenchmarkTimer):  # type: ignore[misc]
        """Snakemake's, of a `JobProcess`."""

        def __init__(self, pid: int, *arguments: Any, **more: Any) -> None:
            super().__init__(pid, *arguments, **more)
            self.main = JobProcess(pid)

    benchmark.BenchmarkTimer = Timer
