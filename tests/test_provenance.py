"""Provenance: written beside the artefact when it was made, and only then."""

from __future__ import annotations

import json

import pytest

from c2c.errors import RefusedError, check_choice
from c2c.provenance import file_hash, stamp, write_atomically


def test_a_stamp_names_command_settings_and_the_hashes_of_its_inputs(tmp_path) -> None:
    source, artefact = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("in")
    with stamp(artefact, inputs=[source], settings={"seed": 1}) as notes:
        notes["rows"] = 3
        artefact.write_text("out")
    record = json.loads((tmp_path / "out.txt.provenance.json").read_text())
    assert record["inputs"] == {str(source): file_hash(source)}
    assert record["settings"] == {"seed": 1}
    assert record["rows"] == 3
    assert {"code", "packages", "hardware", "wall_time_s", "peak_memory_mb", "command"} <= record.keys()


def test_a_failed_command_leaves_no_stamp(tmp_path) -> None:
    with pytest.raises(RuntimeError), stamp(tmp_path / "out.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folders_hash_changes_with_a_name_or_a_byte(tmp_path) -> None:
    (tmp_path / "a").write_text("1")
    first = file_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = file_hash(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, file_hash(tmp_path)}) == 3


def test_writing_leaves_nothing_but_the_file(tmp_path) -> None:
    write_atomically(tmp_path / "new" / "file", "text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_refusal_says_rule_value_and_remedy() -> None:
    with pytest.raises(RefusedError, match=r"^A method must be a known name; received 'c3c'. Did you mean 'c2c'\?"):
        check_choice("A method", "c3c", ["c2c", "t2t"])
