"""Remove the locks that a killed workflow left behind, so that the same command can be given again.

    python -m workflow.unlock

Locks are left alone while a Snakemake runs in this folder, and where their owner is unknown: another machine that
shares the folder removes its own. A job that outlived its workflow is refused: it still writes files
that the next run would write too. A process of another user, whose folder cannot be read, counts as one of this folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from c2c.errors import RefusedError, exit_code
from workflow.holders import Holder, read_holders

LOCKS = Path(".snakemake/locks")
JOBS = ("benchmarks.", "paper.", "workflow.")
"""Packages whose modules the rules run with `python -m`, in addition to the command `c2c`."""
BY_HAND = "snakemake --unlock --cores 1"


def unlock(folder: Path) -> bool:
    """Remove the locks of a folder whose workflow has ended; returns whether there were any.

    Raises:
        RefusedError: It is of another machine, nobody knows whose they are, or its jobs are not gone.
    """
    locks, holders = folder / LOCKS, read_holders(folder)
    if not (locks.is_dir() and any(locks.iterdir())):
        _forget(holders)
        return False
    _check_elsewhere(folder, list(holders.values()))
    live = list(_running_in(folder))
    if any(_is_snakemake(command) for _, command in live):
        return False
    if live:
        processes = "; ".join(f"process {number}: {' '.join(command[:6])} …" for number, command in live)
        rule = "A workflow must start again only when no job of the last one runs"
        raise RefusedError(rule, processes, "Wait for it, or end it")
    if not holders:
        remedy = f"Make sure that no workflow runs in this folder on any machine; then: {BY_HAND}"
        raise RefusedError("A lock that is removed must be known to be of this machine", str(locks), remedy)
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock", "--cores", "1"], cwd=folder, check=True)
    _forget(holders)
    return True


def main() -> int:
    """Command line; a refusal ends with exit code 2."""
    return exit_code("workflow.unlock", lambda: unlock(Path.cwd()))


def _forget(holders: Mapping[Path, Holder]) -> None:
    """Remove the files of processes of this machine that have ended."""
    for path, holder in holders.items():
        if holder.here and not holder.running:
            path.unlink(missing_ok=True)


def _check_elsewhere(folder: Path, holders: list[Holder]) -> None:
    if elsewhere := [holder for holder in holders if not holder.here]:
        processes = "; ".join(f"process {holder.pid} of {holder.host}, since {holder.since}" for holder in elsewhere)
        rule = f"Locks in {folder.name} must be removed by the machine that holds them"
        files = ", ".join(f".snakemake/holders/{holder.host}-{holder.pid}.json" for holder in elsewhere)
        remedy = f"Give the command there, or wait. If that machine is gone, remove {files}, then: {BY_HAND}"
        raise RefusedError(rule, processes, remedy)


def _running_in(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and command line of each other Snakemake, and of each job, that runs in a folder, or in one unknown."""
    for process in psutil.process_iter(["cwd", "cmdline"]):
        command = process.info["cmdline"] or []
        here = process.pid != os.getpid() and process.info["cwd"] in (None, str(folder.resolve()))
        if here and (_is_snakemake(command) or _is_job(command)):
            yield process.pid, command


def _is_snakemake(command: list[str]) -> bool:
    """Whether a process is a Snakemake that holds locks; the one that writes the report is a job, and has none."""
    is_program = any(Path(word).name == "snakemake" for word in command[:2]) or command[1:3] == ["-m", "snakemake"]
    return is_program and "--nolock" not in command


def _is_job(command: list[str]) -> bool:
    module = command[2] if command[1:2] == ["-m"] and len(command) > 2 else ""
    return module.startswith((*JOBS, "snakemake")) or any(Path(word).name == "c2c" for word in command[:2])


if __name__ == "__main__":
    sys.exit(main())
