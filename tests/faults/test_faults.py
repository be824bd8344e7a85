from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.checkout import REDUCED
from tests.faults.kill_runs import kill_all, killed_run, moments

SLEEP = "import time; time.sleep(60)"
TREE = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"


@pytest.mark.faults
@pytest.mark.slow
def test_a_run_that_is_killed_three_times_with_its_jobs_ends_with_the_bytes_of_one_that_is_not(tmp_path: Path) -> None:
    outcome = killed_run(tmp_path, 3, seed=0, configfiles=REDUCED)
    assert outcome.is_same, (outcome.compared.stdout, outcome.broken)
    assert outcome.same > 20, outcome.compared.stdout


def test_a_kill_reaches_what_the_process_started() -> None:
    run = subprocess.Popen([sys.executable, "-c", TREE])
    root = psutil.Process(run.pid)
    while not (below := root.children(recursive=True)):
        time.sleep(0.05)
    assert kill_all(run) == 2
    assert not any(process.is_running() for process in below)


def test_the_moments_are_those_of_the_seed_and_lie_within_the_run() -> None:
    drawn = moments(10, 3, 60)
    assert drawn == moments(10, 3, 60) != moments(10, 4, 60)
    assert drawn == sorted(drawn) and drawn[0] > 0 and drawn[-1] < 48
