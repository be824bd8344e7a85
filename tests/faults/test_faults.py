from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.checkout import REDUCED
from tests.faults.broken import broken_files
from tests.faults.kill_runs import kill_all, killed_run, moments, processor_seconds

SLEEP = "import time; time.sleep(60)"
TREE = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"
STARTS = "import subprocess, sys\nwhile True: subprocess.Popen(['sleep', sys.argv[1]])"
"""Starts processes as fast as it can."""
WORK = "import time\nwhile time.process_time() < 0.6: pass"
"""More than the half second that is asked for: the system counts whole ticks, of the process and of the kernel."""


@pytest.mark.faults
@pytest.mark.slow
def test_a_run_that_is_killed_three_times_with_its_jobs_ends_with_the_bytes_of_one_that_is_not(tmp_path: Path) -> None:
    outcome = killed_run(tmp_path, 3, seed=0, configfiles=REDUCED)
    assert outcome.is_same, (outcome.compared.stdout, outcome.broken)
    assert outcome.same > 40, outcome.compared.stdout
    assert len(outcome.killed) == 3 and all(processes > 1 for _, processes in outcome.killed)


def test_a_kill_reaches_what_the_process_started() -> None:
    run = subprocess.Popen([sys.executable, "-c", TREE])
    root = psutil.Process(run.pid)
    while not (below := root.children(recursive=True)):
        time.sleep(0.05)
    assert kill_all(run) == 2
    assert not any(process.is_running() for process in below)


def test_a_kill_leaves_nothing_of_a_process_that_goes_on_starting_others(tmp_path: Path) -> None:
    mark = "59.4321"  # seconds that nothing else sleeps
    run = subprocess.Popen([sys.executable, "-c", STARTS, mark])
    while len(psutil.Process(run.pid).children()) < 5:
        time.sleep(0.01)
    assert kill_all(run) > 5
    assert not [each.pid for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or [])]


def test_the_processor_time_of_a_run_holds_that_of_a_process_that_has_ended() -> None:
    then_sleep = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORK!r}]); print(flush=True); {SLEEP}"
    run = subprocess.Popen([sys.executable, "-c", then_sleep], stdout=subprocess.PIPE)
    assert run.stdout
    run.stdout.readline()
    assert 0.5 <= processor_seconds(run.pid) < 5
    kill_all(run)


def test_the_moments_are_those_of_the_seed_and_lie_within_the_run() -> None:
    drawn = moments(10, 3, 60)
    assert drawn == moments(10, 3, 60) != moments(10, 4, 60)
    assert drawn == sorted(drawn) and drawn[0] > 0 and drawn[-1] < 48


def test_files_that_are_cut_off_and_leftovers_are_named_and_whole_ones_are_not(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "figure.png")
    pq.write_table(pa.table({"number": range(1000)}), tmp_path / "some.parquet")
    save_file({"weight": np.ones(1000)}, tmp_path / "some.safetensors")
    (tmp_path / "some.json").write_text(json.dumps(list(range(100))))
    (tmp_path / "some.jsonl").write_text('{"id": 1}\n{"id": 22}\n')
    (tmp_path / "some.pdf").write_bytes(b"%PDF-1.7 ... %%EOF\n")
    (tmp_path / "some.csv").write_text("a,b\n1,2\n")
    (tmp_path / "some.log").write_text("any")
    assert broken_files(tmp_path) == []
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    (tmp_path / ".some.csv.unfinished").touch()
    names = ["figure.png", "some.csv", "some.json", "some.jsonl", "some.parquet", "some.pdf", "some.safetensors"]
    assert broken_files(tmp_path) == [".some.csv.unfinished", *names]
