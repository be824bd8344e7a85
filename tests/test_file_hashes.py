"""Hashes of a folder's files: kept while nothing changed, and never wrong after a change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from c2c.provenance import file_hash
from c2c.storage import file_hashes
from c2c.storage.file_hashes import CACHE, YOUNG_NS, check_files, content_hash, folder_hashes


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with two files, and an empty place for hashes."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "inner" / "a.txt").write_text("a")
    (tmp_path / "model" / "b.txt").write_text("b")
    return tmp_path / "model"


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    monkeypatch.setattr(file_hashes, "file_hash", lambda path: names.append(path.name) or file_hash(path))
    return names


@pytest.fixture
def old(monkeypatch) -> None:
    """Files of this moment count as old ones."""
    monkeypatch.setattr(file_hashes, "YOUNG_NS", -YOUNG_NS)


def test_each_file_has_its_hash_and_hidden_files_have_none(folder) -> None:
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note").write_text("x")
    (folder / ".snakemake_timestamp").write_text("")
    assert folder_hashes(folder) == {
        "b.txt": file_hash(folder / "b.txt"),
        "inner/a.txt": file_hash(folder / "inner" / "a.txt"),
    }


def test_a_file_that_did_not_change_is_read_once(folder, hashed, old) -> None:
    first = folder_hashes(folder)
    assert sorted(hashed) == ["a.txt", "b.txt"]
    assert folder_hashes(folder) == first and len(hashed) == 2


def test_a_file_that_changed_moments_ago_is_read_each_time(folder, hashed) -> None:
    folder_hashes(folder)
    folder_hashes(folder)
    assert len(hashed) == 4


@pytest.mark.parametrize(
    "change", ["size", "same size", "same size and time", "another file of the same size and time"]
)
def test_a_file_that_changed_is_read_again(change, folder, old) -> None:
    before = folder_hashes(folder)
    path, status = folder / "b.txt", (folder / "b.txt").stat()
    time.sleep(0.02)  # one tick of the file system's clock
    if change.startswith("another"):
        (folder.parent / "other").write_text("c")
        (folder.parent / "other").replace(path)
    else:
        path.write_text("cc" if change == "size" else "c")
    if change.endswith("time"):
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = folder_hashes(folder)
    assert after["b.txt"] == file_hash(path) != before["b.txt"]
    assert after["inner/a.txt"] == before["inner/a.txt"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"b.txt": 7}', '{"b.txt": [[1], 2]}', "\0"])
def test_kept_hashes_that_are_spoilt_are_not_used(content, folder, old) -> None:
    before = folder_hashes(folder)
    (kept,) = (folder.parent / "cache" / "hashes").iterdir()
    kept.write_text(content)
    assert folder_hashes(folder) == before


def test_without_a_place_to_keep_them_hashes_are_computed(folder, monkeypatch, old) -> None:
    monkeypatch.setenv(CACHE, "/proc/none")
    assert folder_hashes(folder)["b.txt"] == file_hash(folder / "b.txt")


def test_one_hash_stands_for_names_and_contents(folder) -> None:
    hashes = folder_hashes(folder)
    first = content_hash(hashes)
    assert first == content_hash(dict(reversed(hashes.items())))
    (folder / "b.txt").rename(folder / "c.txt")
    second = content_hash(folder_hashes(folder))
    (folder / "c.txt").write_text("c")
    assert len({first, second, content_hash(folder_hashes(folder))}) == 3


def test_files_that_differ_are_refused_by_name(folder) -> None:
    expected = folder_hashes(folder)
    check_files(folder, expected, "m.json", "Fetch it again")
    (folder / "b.txt").write_text("c")
    (folder / "new.txt").write_text("")
    with pytest.raises(RefusedError, match=r"m\.json names; received \['b\.txt has changed', 'new\.txt is new'\]"):
        check_files(folder, expected, "m.json", "Fetch it again")
    (folder / "b.txt").unlink()
    with pytest.raises(RefusedError, match=r"\['b\.txt is missing'\]"):
        check_files(folder, expected, "m.json", "Fetch it again")


def test_another_folder_altogether_is_not_read(folder, hashed) -> None:
    with pytest.raises(RefusedError, match="weights is missing"):
        check_files(folder, {"weights": "0" * 64}, "m.json", "Fetch it again")
    assert hashed == []
