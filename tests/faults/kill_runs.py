"""Kill a smoke run with all its jobs at random moments, give the same command again, and compare what comes out.

    python tests/faults/kill_runs.py                              ten moments of the whole smoke scale: about 40 minutes
    python tests/faults/kill_runs.py --moments 3 --reduced        three moments of a few cells (smoke_reduced.yaml)
    python tests/faults/kill_runs.py --whole <results/smoke of a finished run without a fault>   the killed run alone

works in copies of the repository. The moments are drawn from the first four fifths of one run without a fault: the
first kill comes after the first of them, the second after what lies between the first and the second, and so on. What
was lost makes the run longer, so that each kill meets a workflow at work. A moment is a number of seconds of processor
time, of Snakemake and all jobs together, since those do not hang on what else the machine does.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.checkout import REDUCED, ROOT, compare, copy_checkout, environment_of
from tests.faults.broken import broken_files
from tests.faults.finished import check_made_by, seconds_of_jobs

LOOK_EVERY = 0.1
"""Seconds between two looks at how much processor time a run has used."""


@dataclass
class Smoke:
    """`make smoke` in a copy of the repository.

    Args:
        checkout: The copy.
        configfiles: Config files instead of the profile's own; none for the whole smoke scale.
    """

    checkout: Path
    configfiles: list[str]

    @property
    def results(self) -> Path:
        """Where its results lie."""
        return self.checkout / "results" / ("smoke_reduced" if self.configfiles else "smoke")

    @property
    def log(self) -> Path:
        """What all its starts have printed."""
        return self.checkout / "smoke.log"

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Give the command; whatever of it still runs at the end of the block is killed."""
        # The packages are there already: `-o` keeps make from installing them anew for a copy.
        stamp = Path(sys.prefix) / ".installed"
        command = ["make", "smoke", f"VENV={sys.prefix}", "-o", str(stamp)]
        if self.configfiles:
            command.append(f"FLAGS=--configfile {' '.join(self.configfiles)}")
        with self.log.open("ab") as log:
            run = subprocess.Popen(
                command, cwd=self.checkout, env=environment_of(self.checkout), stdout=log, stderr=log
            )
        try:
            yield run
        finally:
            kill_all(run)

    def finish(self) -> float:
        """Run to the end; the seconds of processor time that it took.

        Raises:
            RuntimeError: It failed.
        """
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with self.started() as run:
            code = run.wait()
        if code:
            raise RuntimeError(f"make smoke ended with {code}\n{self.log.read_text()[-8000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def kill_after(self, seconds: float) -> int:
        """Give the command and kill it with all its jobs after so much processor time; how many processes there were.

        Raises:
            RuntimeError: It had ended before.
        """
        with self.started() as run:
            while (code := run.poll()) is None:
                if processor_seconds(run.pid) >= seconds:
                    return kill_all(run)
                time.sleep(LOOK_EVERY)
        log = self.log.read_text()[-8000:]
        raise RuntimeError(f"nothing was left to kill after {seconds:.0f} s: make smoke ended with {code}\n{log}")


@dataclass
class Outcome:
    """How a killed run compares with one that was not.

    Args:
        compared: What `paper.compare` said.
        broken: Files of the killed run that are not whole.
        killed: At how many seconds of processor time the run was killed, and how many processes there were.
    """

    compared: subprocess.CompletedProcess[str]
    broken: list[str]
    killed: list[tuple[float, int]] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether the bytes are the same and each file is whole."""
        return self.compared.returncode == 0 and not self.broken

    @property
    def same(self) -> int:
        """How many files have the same bytes."""
        return int(self.compared.stdout.split(" same")[0].split()[-1])


def processor_seconds(number: int) -> float:
    """Processor time of a process and of all that it started, with those that have ended."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(number)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # its own, and that of its children that have ended
    return total


def kill_all(run: subprocess.Popen[bytes]) -> int:
    """kill -9 of a process and of all that it started, however deep; how many there were."""
    try:
        processes = list(_stopped(psutil.Process(run.pid)))
    except psutil.NoSuchProcess:
        processes = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes[1:])
    run.wait()
    return len(processes)


def _stopped(process: psutil.Process) -> Iterator[psutil.Process]:
    """A process and all below it, each stopped before its children are listed: it can start no other then."""
    with suppress(psutil.NoSuchProcess):
        process.suspend()
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DISK_SLEEP):
            time.sleep(0.001)
        yield process
        for child in process.children():
            yield from _stopped(child)


def moments(number: int, seed: int, seconds: float) -> list[float]:
    """Random moments of the first four fifths of a run, in order."""
    draw = random.Random(seed)
    return sorted(draw.uniform(0, 0.8 * seconds) for _ in range(number))


def killed_run(folder: Path, number: int, seed: int, configfiles: list[str], reference: Path | None = None) -> Outcome:
    """One run without a fault and one that is killed at so many moments: how they compare.

    Args:
        folder: Where the copies go.
        number: How often the one is killed.
        seed: Of the moments.
        configfiles: As `Smoke` takes them.
        reference: Results of a finished run of the same code and config without a fault; None to make them.

    Raises:
        RefusedError: The reference was made by other code or config.
    """
    killed, begun = Smoke(copy_checkout(folder / "killed"), configfiles), time.monotonic()
    if reference:
        check_made_by(ROOT, reference)
        results, seconds = reference, seconds_of_jobs(reference)
    else:
        whole = Smoke(copy_checkout(folder / "whole"), configfiles)
        results, seconds = whole.results, whole.finish()
    _tell(f"a run without a fault takes {seconds:.0f} s of processor time", begun)
    planned = moments(number, seed, seconds)
    told = []
    for before, moment in zip([0.0, *planned], planned, strict=False):
        processes = killed.kill_after(moment - before)
        told.append((moment, processes))
        _tell(
            f"kill -9 of {processes} processes at {moment:.0f} s, {moment - before:.0f} s after the last start", begun
        )
    rest = killed.finish()
    _tell(f"to the end: {rest:.0f} s", begun)
    return Outcome(compare(ROOT, results, killed.results), broken_files(killed.results), told)


def _tell(what: str, begun: float) -> None:
    print(f"{time.monotonic() - begun:6.0f} s by the clock: {what}", flush=True)


def main() -> int:
    """Command line; the exit code says whether the bytes are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: %(default)s)")
    parser.add_argument("--reduced", action="store_true", help="run config/smoke_reduced.yaml alone")
    parser.add_argument("--whole", type=Path, help="results of a finished run of the same code without a fault")
    parser.add_argument("--folder", type=Path, help="work in this new folder, and leave both copies to be looked at")
    options = parser.parse_args()
    kept = nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory()
    with kept as folder:
        configfiles = REDUCED if options.reduced else []
        outcome = killed_run(Path(folder), options.moments, options.seed, configfiles, options.whole)
    print(outcome.compared.stdout)
    for name in outcome.broken:
        print(f"not whole: {name}")
    return 0 if outcome.is_same else 1


if __name__ == "__main__":
    sys.exit(main())
