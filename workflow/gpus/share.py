"""Runs a command of a job on GPUs of this machine that no other job uses: ``CUDA_VISIBLE_DEVICES`` names these alone.

``bin`` has a ``c2c`` and a ``python`` that are found first and come here. A command that needs no GPU sees none. A GPU
is taken by a lock on a file, which the system releases when the command ends, however it ends. This file is run as a
script in isolated mode (``python -I``) and imports the standard library alone.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BIN = Path(__file__).resolve().with_name("bin")
PER_JOB, DEVICES, PYTHON = "C2C_GPUS_PER_JOB", "C2C_GPU_DEVICES", "C2C_GPU_PYTHON"
"""Environment variables of `start`: GPUs of a job, names of all GPUs, and the interpreter that runs this file."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_GPUS = (
    *(
        "c2c analyse effective-rank",
        "c2c analyse enrichment",
        "c2c analyse partial",
        "c2c analyse tsne",
        "c2c generate",
    ),
    *("c2c latency", "c2c testbed", "c2c train", "c2c train-latent", "c2c train-router", "c2c train-single"),
    *("c2c train-together", "python -m benchmarks.teacher"),
)
"""Commands of rules whose resource `gpu` is the config's `gpus_per_job`."""
ON_ONE = ("c2c store-states",)
"""Commands of rules that use one GPU, however many a job has."""
WAIT = 0.5
"""Seconds between two looks for free GPUs."""


def devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of this machine's NVIDIA GPUs, as the environment limits them; none without a driver."""
    if VISIBLE in environment:
        return [name.strip() for name in environment[VISIBLE].split(",") if name.strip()]
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return process.stdout.split() if process.returncode == 0 else []


def start(per_job: int, names: Sequence[str]) -> None:
    """Let the commands of jobs that this process starts from now on take their GPUs."""
    os.environ.update({PER_JOB: str(per_job), DEVICES: ",".join(names), PYTHON: sys.executable})
    if str(BIN) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"


def number(command: Sequence[str], per_job: int) -> int:
    """How many GPUs a command needs: `per_job`, one, or none."""
    line = " ".join(command)

    def is_one_of(names: Sequence[str]) -> bool:
        return any(line == name or line.startswith(f"{name} ") for name in names)

    return per_job if is_one_of(ON_GPUS) else min(per_job, 1) if is_one_of(ON_ONE) else 0


def take(count: int, names: Sequence[str], folder: Path) -> list[tuple[str, int]]:
    """Lock so many GPUs, and wait until they are free.

    Args:
        count: How many.
        names: All GPUs.
        folder: Of the lock files.

    Returns:
        Name and file descriptor of each; it is free again when all processes that have the descriptor have ended.

    Raises:
        SystemExit: The machine has fewer.
    """
    if count > len(names):
        sys.exit(f"A job must not need more GPUs than there are; received {count} of {len(names)}. Lower gpus_per_job.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        locks: list[tuple[str, int]] = []
        for name in names:
            descriptor = os.open(folder / f"{name.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            locks.append((name, descriptor))
            if len(locks) == count:
                return locks
        # A job that waits holds none, or two could wait for each other.
        for _, descriptor in locks:
            os.close(descriptor)
        time.sleep(WAIT)


def main() -> None:
    """Run ``c2c …`` or ``python …``, whose words are the arguments, in place of this process."""
    command = sys.argv[1:]
    folders = os.environ["PATH"].split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(folder for folder in folders if folder != str(BIN))
    count = number(command, int(os.environ[PER_JOB]))
    locks = Path(tempfile.gettempdir()) / f"c2c-gpus-{os.getuid()}"
    taken = take(count, os.environ[DEVICES].split(","), locks) if count else []
    for _, descriptor in taken:
        os.set_inheritable(descriptor, True)
    os.environ[VISIBLE] = ",".join(name for name, _ in taken)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
