"""A file takes its name when it is whole, whoever else writes it; a folder has one user at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from c2c.storage import files
from c2c.storage.files import unfinished_path, write_atomically, written_whole
from c2c.storage.locks import locked


def test_two_writers_at_once_leave_the_whole_file_of_one(tmp_path) -> None:
    path = tmp_path / "file"
    with written_whole(path) as first, written_whole(path) as second:
        assert first != second
        first.write_text("A" * 10)
        second.write_text("B" * 20)
    # The inner block ends first; the outer one replaces its file.
    assert path.read_text() == "A" * 10
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), written_whole(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_stays(tmp_path) -> None:
    path = tmp_path / "file[1]"
    dead = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom pathlib import Path\nfrom c2c.storage.files import unfinished_path\n"
         "path = unfinished_path(Path(sys.argv[1]))\npath.touch()\nprint(path)", str(path)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    living, elsewhere = unfinished_path(path), tmp_path / ".file[1].otherhost-1-00000000.unfinished"
    living.touch()
    elsewhere.touch()
    write_atomically(path, "text")
    assert not Path(dead).exists()
    assert living.is_file() and elsewhere.is_file() and path.read_text() == "text"


def test_bytes_are_on_the_disk_before_the_name_and_the_name_after_it(tmp_path, monkeypatch) -> None:
    order: list[tuple[str, bool]] = []
    path = tmp_path / "file"
    monkeypatch.setattr(files, "sync", lambda synced: order.append((synced.name, path.is_file())))
    write_atomically(path, "text")
    (unfinished, before), (folder, after) = order
    assert unfinished.endswith(".unfinished") and not before
    assert folder == tmp_path.name and after


def test_a_second_run_in_a_folder_is_refused_and_told_who_is_there(tmp_path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom c2c.storage.locks import locked\n"
        "with locked(Path(sys.argv[1]), 'train'): pass"
    )
    other = [sys.executable, "-c", program, str(tmp_path / "state")]
    with locked(tmp_path / "state", "train"):
        done = subprocess.run(other, capture_output=True, text=True, timeout=60, check=False)
        assert "Only one run at a time must train in state" in done.stderr and str(os.getpid()) in done.stderr
    subprocess.run(other, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_run_is_free(tmp_path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom c2c.storage.locks import locked\n"
        "with locked(Path(sys.argv[1]), 'train'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "state")], check=False, timeout=60)
    assert (tmp_path / "state.lock").is_file()
    with locked(tmp_path / "state", "train"):
        pass


def test_one_of_many_takes_a_lock(tmp_path) -> None:
    inside, outcomes, start = [], [], threading.Barrier(8)

    def run() -> None:
        start.wait()
        try:
            with locked(tmp_path / "state", "train"):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()
            outcomes.append("ran")
        except RefusedError:
            outcomes.append("refused")

    threads = [threading.Thread(target=run) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(outcomes) == 8 and "ran" in outcomes
