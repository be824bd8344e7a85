from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from workflow.unlock import LOCKS, unlock

SLEEP = "import time; time.sleep(60)\n"
SNAKEFILE = "rule all:\n    shell: 'true'\n"


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "0.output.lock").write_text("results/out\n")
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
    assert not any((locked / LOCKS).glob("*"))
    assert not unlock(locked)


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
