"""Two trainings in one place at once, and a disk that is full while one writes: nothing is lost or mixed."""

# ruff: noqa: F401, F811 (pytest finds fixtures by the names of arguments)
from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from c2c.cli.main import main
from tests.training.command import ENVIRONMENT, command, same_files, save_inputs, wait_for_step
from tests.training.conftest import pair, rows

FILLED = "filled"


@pytest.fixture
def lines(pair, rows, tmp_path) -> Path:
    return save_inputs(tmp_path, pair, rows)


def sets(lines: Path) -> dict[str, Path]:
    return {"data": lines, "validation": lines}


def begun(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.slow
def test_f16_a_second_training_in_the_same_place_is_refused_and_the_first_ends_as_if_it_were_alone(
    lines, tmp_path
) -> None:
    checkpoints = tmp_path / "checkpoints-shared"
    first = begun(command(tmp_path, "shared", sets(lines)))
    wait_for_step(first, checkpoints)
    first.send_signal(signal.SIGSTOP)  # a node that does not answer, whose job was given to another one
    second = run(command(tmp_path, "shared", sets(lines), processes=2))
    assert second.returncode == 2, second.stderr
    assert second.stderr.count("must train in") == 1 and f'"pid": {first.pid}' in second.stderr
    assert "Traceback" not in second.stderr
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    assert not list(checkpoints.iterdir()), "neither states nor a lock are left"
    assert main(command(tmp_path, "whole", sets(lines))[3:]) == 0
    assert same_files(tmp_path / "whole", tmp_path / "shared")


def limit_files(process: subprocess.Popen[str], checkpoints: Path) -> None:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, 2000))


def fill(process: subprocess.Popen[str], checkpoints: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (checkpoints / FILLED).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of a few megabytes, where mounting one is allowed."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a limit of the size of files", "a disk without space"])
def test_a_checkpoint_that_finds_the_disk_full_leaves_the_step_before_and_the_next_run_ends_with_the_same_bytes(
    how, lines, tmp_path, request, capsys
) -> None:
    small = tmp_path if how.startswith("a limit") else request.getfixturevalue("small_disk")
    checkpoints = small / "checkpoints"
    arguments = command(tmp_path, "cut", sets(lines), checkpoints=checkpoints)
    training = begun(arguments)
    wait_for_step(training, checkpoints)
    (limit_files if small == tmp_path else fill)(training, checkpoints)
    _, said = training.communicate()
    assert training.returncode == 1, said
    assert said.strip().splitlines()[-1].startswith("c2c train: ") and "Traceback" not in said
    (folder,) = (path for path in checkpoints.iterdir() if path.is_dir())
    assert all((step / "progress.json").is_file() for step in folder.iterdir()), "nothing unfinished is left"
    assert not (tmp_path / "cut" / "manifest.json").exists()
    (checkpoints / FILLED).unlink(missing_ok=True)
    capsys.readouterr()
    assert main(arguments[3:]) == 0
    assert "is not used" not in capsys.readouterr().err
    assert main(command(tmp_path, "whole", sets(lines))[3:]) == 0
    assert same_files(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_fusers_that_find_the_disk_full_are_no_fusers_and_the_next_run_goes_on_from_the_last_step(
    lines, tmp_path
) -> None:
    arguments = command(tmp_path, "cut", sets(lines), steps=12)

    # Saved states fit; what is trained is written into a folder of its own, with a limit from then on.
    limited = (
        "import resource, sys\n"
        "import c2c.training.fusers as fusers\n"
        "write = fusers.TrainingRun.write\n"
        "def limit(*given):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "    write(*given)\n"
        "fusers.TrainingRun.write = limit\n"
        "from c2c.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    full = run([arguments[0], "-c", limited, *arguments[3:]])
    assert full.returncode == 1, full.stderr
    assert full.stderr.strip().splitlines()[-1].startswith("c2c train: File too large")
    assert "Traceback" not in full.stderr
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert len(list((tmp_path / "checkpoints-cut").glob("*/step-*"))) == 2
    assert main(arguments[3:]) == 0
    assert main(command(tmp_path, "whole", sets(lines), steps=12)[3:]) == 0
    assert same_files(tmp_path / "whole", tmp_path / "cut")
    assert list((tmp_path / "checkpoints-cut").iterdir()) == []
