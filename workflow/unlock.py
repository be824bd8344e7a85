"""Remove the locks that a killed workflow left behind, so that the same command can be given again.

    python -m workflow.unlock

Locks are left alone while a Snakemake runs in this folder. A job that outlived its workflow is refused: it still writes
files that the next run would write too. Looks at this machine alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from c2c.errors import RefusedError

LOCKS = Path(".snakemake/locks")
JOBS = ("benchmarks.", "paper.", "workflow.")
"""Packages whose modules the rules run with `python -m`; beside them, they run the command `c2c`."""


def unlock(folder: Path) -> bool:
    """Remove the locks of a folder whose workflow is gone; whether there were any.

    Raises:
        RefusedError: Its jobs are not gone.
    """
    locks = folder / LOCKS
    if not (locks.is_dir() and any(locks.iterdir())):
        return False
    live = list(_running_in(folder))
    if any(_is_snakemake(command) for _, command in live):
        return False
    if live:
        told = "; ".join(f"process {number}: {' '.join(command[:6])} …" for number, command in live)
        raise RefusedError("A workflow starts again when no job of the last one runs", told, "Wait for it, or end it")
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock", "--cores", "1"], cwd=folder, check=True)
    return True


def main() -> int:
    """Command line; a refusal ends with exit code 2."""
    try:
        unlock(Path.cwd())
    except RefusedError as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


def _running_in(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and command line of each other Snakemake, and of each job, that runs in a folder."""
    for process in psutil.process_iter(["cwd", "cmdline"]):
        command = process.info["cmdline"] or []
        here = process.pid != os.getpid() and process.info["cwd"] == str(folder.resolve())
        if here and (_is_snakemake(command) or _is_job(command)):
            yield process.pid, command


def _is_snakemake(command: list[str]) -> bool:
    """Whether it is one that holds the locks; the one that writes the report is a job, and takes none."""
    named = any(Path(word).name == "snakemake" for word in command[:2]) or command[1:3] == ["-m", "snakemake"]
    return named and "--nolock" not in command


def _is_job(command: list[str]) -> bool:
    module = command[2] if command[1:2] == ["-m"] and len(command) > 2 else ""
    return module.startswith((*JOBS, "snakemake")) or any(Path(word).name == "c2c" for word in command[:2])


if __name__ == "__main__":
    sys.exit(main())
