from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from c2c.errors import RefusedError
from c2c.storage.files import host
from workflow import holders
from workflow.holders import HOLDERS, hold
from workflow.unlock import LOCKS, unlock

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import time; time.sleep(60)\n"
SNAKEFILE = "rule all:\n    shell: 'true'\n"
GONE = 4_194_305
"""A number that no process has: Linux gives none above 4,194,304."""


def leave(folder: Path, machine: str, pid: int = GONE) -> Path:
    """The file that a holder leaves."""
    path = folder / HOLDERS / f"{machine}-{pid}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": machine, "pid": pid, "since": "2026-01-01 00:00:00 +0000"}))
    return path


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "0.output.lock").write_text("results/out\n")
    leave(tmp_path, host())
    return tmp_path


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    """Starts `python <arguments>` in a folder, for as long as the test takes."""
    started: list[subprocess.Popen[bytes]] = []

    def run(folder: Path, *arguments: str) -> None:
        started.append(subprocess.Popen([sys.executable, *arguments], cwd=folder))
        time.sleep(0.3)

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_locks_of_a_workflow_that_is_gone_are_removed(locked: Path) -> None:
    assert unlock(locked)
    assert not any((locked / LOCKS).glob("*")) and not any((locked / HOLDERS).iterdir())
    assert not unlock(locked)


def test_a_lock_of_another_machine_is_refused_with_its_name_and_stays(locked: Path) -> None:
    leave(locked, "node17", 4711)
    with pytest.raises(RefusedError, match=r"by the machine.*process 4711 of node17, since 2026.*node17-4711"):
        unlock(locked)
    assert any((locked / LOCKS).iterdir()) and len(list((locked / HOLDERS).iterdir())) == 2


def test_a_lock_whose_holder_is_unknown_is_refused_with_what_to_do_and_stays(locked: Path) -> None:
    shutil.rmtree(locked / HOLDERS)
    with pytest.raises(RefusedError, match=r"known to be of this machine.*any machine; then: snakemake --unlock"):
        unlock(locked)
    assert any((locked / LOCKS).iterdir())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"host": "a", "pid": "7", "since": ""}', "\x00"])
def test_a_holder_that_does_not_say_whose_it_is_is_refused(locked: Path, content: str) -> None:
    leave(locked, "x").write_text(content)
    with pytest.raises(RefusedError, match=r"must .*Make sure that no workflow runs"):
        unlock(locked)


def test_a_process_of_another_user_counts_as_one_of_this_folder(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = SimpleNamespace(pid=GONE, info={"cwd": None, "cmdline": ["python", "/usr/bin/c2c", "train"]})
    monkeypatch.setattr(psutil, "process_iter", lambda _: [theirs])
    with pytest.raises(RefusedError, match=f"no job of the last one runs; received 'process {GONE}"):
        unlock(locked)
    theirs.info["cmdline"] = ["python", "-m", "snakemake"]
    assert not unlock(locked) and any((locked / LOCKS).iterdir())


def test_without_locks_what_dead_holders_of_this_machine_left_is_removed_alone(tmp_path: Path) -> None:
    own, other = leave(tmp_path, host()), leave(tmp_path, "node17")
    mine = hold(tmp_path)
    assert not unlock(tmp_path)
    assert (own.exists(), other.exists(), mine.exists()) == (False, True, True)
    holders._leave(mine, GONE)
    assert mine.exists(), "a forked child holds nothing"
    holders._leave(mine, os.getpid())
    assert not mine.exists()


def test_a_run_leaves_its_holder_while_it_runs_and_takes_it_along(tmp_path: Path) -> None:
    code = "from pathlib import Path; from workflow.holders import hold; print(hold(Path()).read_text())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["host"] == host()
    assert not any((tmp_path / HOLDERS).iterdir())


def test_locks_of_a_workflow_that_runs_stay(locked: Path, start: Callable[..., None]) -> None:
    (locked / "snakemake").write_text(SLEEP)
    start(locked, "snakemake", "--profile", "smoke")
    assert not unlock(locked)
    assert any((locked / LOCKS).iterdir())


def test_a_workflow_in_another_folder_keeps_no_lock_here(
    locked: Path, tmp_path_factory: pytest.TempPathFactory, start: Callable[..., None]
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "snakemake").write_text(SLEEP)
    start(elsewhere, "snakemake")
    assert unlock(locked)


@pytest.mark.parametrize("arguments", [["c2c", "train"], ["-m", "paper.slow"], ["-m", "snakemake", "--nolock"]])
def test_a_job_that_outlived_its_workflow_is_refused_by_its_number(
    arguments: list[str], locked: Path, start: Callable[..., None]
) -> None:
    (locked / "c2c").write_text(SLEEP)
    (locked / "paper").mkdir()
    (locked / "paper" / "__init__.py").touch()
    (locked / "paper" / "slow.py").write_text(SLEEP)
    (locked / "snakemake.py").write_text(SLEEP)
    start(locked, *arguments)
    with pytest.raises(RefusedError, match=r"no job of the last one runs; received 'process \d+"):
        unlock(locked)
    assert any((locked / LOCKS).iterdir())
