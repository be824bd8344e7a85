"""Kill a smoke run with all its jobs at random moments, give the same command again, and compare what comes out.

    python tests/faults/kill_runs.py                              ten moments of the whole smoke scale: about 40 minutes
    python tests/faults/kill_runs.py --moments 3 --reduced        three moments of a few cells (smoke_reduced.yaml)

works in copies of the repository. The moments are drawn from the first four fifths of one run without a fault: the
first kill comes after the first of them, the second after what lies between the first and the second, and so on. What
was lost makes the run longer, so that each kill meets a workflow at work, also where the machine has become quicker.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.checkout import REDUCED, ROOT, compare, copy_checkout, environment_of


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

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Give the command; whatever of it still runs at the end of the block is killed."""
        # The packages are there already: `-o` keeps make from installing them anew for a copy.
        stamp = Path(sys.prefix) / ".installed"
        command = ["make", "smoke", f"VENV={sys.prefix}", "-o", str(stamp)]
        if self.configfiles:
            command.append(f"FLAGS=--configfile {' '.join(self.configfiles)}")
        with (self.checkout / "smoke.log").open("ab") as log:
            run = subprocess.Popen(
                command, cwd=self.checkout, env=environment_of(self.checkout), stdout=log, stderr=log
            )
        try:
            yield run
        finally:
            kill_all(run)

    def finish(self) -> float:
        """Run to the end; the seconds that it took.

        Raises:
            RuntimeError: It failed.
        """
        begin = time.monotonic()
        with self.started() as run:
            code = run.wait()
        if code:
            raise RuntimeError(f"make smoke ended with {code}\n{(self.checkout / 'smoke.log').read_text()[-8000:]}")
        return time.monotonic() - begin

    def kill_after(self, seconds: float) -> None:
        """Give the command and kill it with all its jobs after some seconds.

        Raises:
            RuntimeError: It had ended before.
        """
        with self.started() as run:
            try:
                code = run.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return
        log = (self.checkout / "smoke.log").read_text()[-8000:]
        raise RuntimeError(f"nothing was left to kill after {seconds:.0f} s: make smoke ended with {code}\n{log}")


def kill_all(run: subprocess.Popen[bytes]) -> int:
    """kill -9 of a process and of all that it started, however deep; how many there were."""
    try:
        root = psutil.Process(run.pid)
        root.suspend()  # so that it cannot see its jobs die, nor start another
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        processes = []
    for process in processes:
        if process.is_running():
            process.kill()
    psutil.wait_procs(processes[1:])
    run.wait()
    return len(processes)


def moments(number: int, seed: int, seconds: float) -> list[float]:
    """Random moments of the first four fifths of a run, in order."""
    draw = random.Random(seed)
    return sorted(draw.uniform(0, 0.8 * seconds) for _ in range(number))


def killed_run(folder: Path, number: int, seed: int, configfiles: list[str]) -> subprocess.CompletedProcess[str]:
    """One run without a fault and one that is killed at so many moments: how they compare."""
    whole = Smoke(copy_checkout(folder / "whole"), configfiles)
    seconds = whole.finish()
    killed = Smoke(copy_checkout(folder / "killed"), configfiles)
    planned = moments(number, seed, seconds)
    for before, moment in zip([0.0, *planned], planned, strict=False):
        print(f"kill -9 {moment:.0f} s into a run of {seconds:.0f} s", flush=True)
        killed.kill_after(moment - before)
    killed.finish()
    return compare(ROOT, whole.results, killed.results)


def main() -> int:
    """Command line; the exit code says whether the bytes are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: %(default)s)")
    parser.add_argument("--reduced", action="store_true", help="run config/smoke_reduced.yaml alone")
    parser.add_argument("--folder", type=Path, help="work here and leave both copies, to be looked at")
    options = parser.parse_args()
    kept = nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory()
    with kept as folder:
        done = killed_run(Path(folder), options.moments, options.seed, REDUCED if options.reduced else [])
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
