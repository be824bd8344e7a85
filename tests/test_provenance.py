"""Provenance: written beside the artefact when it was made, and only then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from c2c.provenance import CONFIG_HASH, file_hash, settings_hash, stamp
from c2c.storage.files import write_atomically
from tests.bad_inputs.refusals import refused

ROOT = Path(__file__).resolve().parents[1]


def test_a_stamp_names_command_settings_and_the_hashes_of_its_inputs(tmp_path) -> None:
    source, artefact = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("in")
    with stamp(artefact, inputs=[source], settings={"seed": 1}) as notes:
        notes["rows"] = 3
        artefact.write_text("out")
    record = json.loads((tmp_path / "out.txt.provenance.json").read_text())
    assert record["artefact"] == "out.txt"
    assert record["inputs"] == {str(source): file_hash(source)}
    assert record["settings"] == {"seed": 1}
    assert record["settings_sha256"] == settings_hash({"seed": 1})
    assert record["rows"] == 3
    assert record["hardware"]["memory_gb"] > 0 and record["hardware"]["cpus"] > 0 and "cpu" in record["hardware"]
    assert {"code", "packages", "hardware", "wall_time_s", "peak_memory_mb", "command"} <= record.keys()


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (str(ROOT / "paper/tables/main.py"), "paper/tables/main.py"),
        (str(ROOT / ".venv/bin/c2c"), "c2c"),
        ("/elsewhere/main.py", "main.py"),
    ],
)
def test_the_command_names_a_script_of_the_repository_by_its_path_and_another_program_by_its_name(
    program: str, name: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--seed", "1"])
    with stamp(tmp_path / "out.txt"):
        pass
    assert json.loads((tmp_path / "out.txt.provenance.json").read_text())["command"] == [name, "--seed", "1"]


def test_a_stamp_without_settings_names_the_config_of_its_run(tmp_path, monkeypatch) -> None:
    found = []
    for value in (None, "abc"):
        monkeypatch.setenv(CONFIG_HASH, value) if value else monkeypatch.delenv(CONFIG_HASH, raising=False)
        with stamp(tmp_path / "out.txt"):
            pass
        found.append(json.loads((tmp_path / "out.txt.provenance.json").read_text()))
    assert [record["config_sha256"] for record in found] == [None, "abc"]
    assert found[0]["settings_sha256"] is None


def test_the_hashes_are_those_of_the_inputs_as_they_were_before_the_work(tmp_path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("before")
    before = file_hash(source)
    with stamp(tmp_path / "out.txt", inputs=iter([source])):
        source.write_text("after")
    assert json.loads((tmp_path / "out.txt.provenance.json").read_text())["inputs"] == {str(source): before}


def test_a_missing_input_fails_before_the_work(tmp_path) -> None:
    with pytest.raises(RefusedError, match="must be a file"), stamp(tmp_path / "out.txt", inputs=[tmp_path / "none"]):
        pytest.fail("the block ran")


def test_a_failed_command_leaves_no_stamp(tmp_path) -> None:
    with pytest.raises(RuntimeError), stamp(tmp_path / "out.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_command_does_not_leave_the_stamp_of_an_earlier_run(tmp_path) -> None:
    artefact = tmp_path / "out.txt"
    with stamp(artefact):
        artefact.write_text("whole")
    with pytest.raises(RuntimeError), stamp(artefact):
        artefact.write_text("ha")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [artefact]


def test_a_command_that_fails_before_it_changes_its_artefact_leaves_the_stamp_of_the_earlier_run(tmp_path) -> None:
    for artefact in (tmp_path / "out.csv", tmp_path / "fuser"):
        with stamp(artefact):
            written = artefact if artefact.suffix else artefact / "weights"
            written.parent.mkdir(exist_ok=True)
            written.write_text("whole")
        earlier = Path(f"{artefact}.provenance.json").read_bytes()
        with pytest.raises(RuntimeError), stamp(artefact):
            raise RuntimeError
        assert Path(f"{artefact}.provenance.json").read_bytes() == earlier


@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("model", "not be an input"),
        ("model/config.json", "not be an input"),
        ("lines.jsonl", "not be an input"),
        ("link", "not be an input"),
        ("tasks/free.yaml", "not be an input"),
        ("folder.csv", "must be a file"),
        ("file", "must be a folder"),
        ("file/out.csv", "must lie in folders"),
    ],
)
def test_an_output_that_would_destroy_what_it_is_made_from_is_refused(tmp_path, output, word) -> None:
    for folder in ("model", "tasks", "folder.csv"):
        (tmp_path / folder).mkdir()
    for file in ("model/config.json", "lines.jsonl", "tasks/free.yaml", "file"):
        (tmp_path / file).write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "lines.jsonl")
    inputs, sources = [tmp_path / "model", tmp_path / "lines.jsonl"], [tmp_path / "tasks"]
    with refused(word), stamp(tmp_path / output, inputs=inputs, sources=sources):
        pytest.fail("the block ran")
    assert (tmp_path / "lines.jsonl").read_text() == (tmp_path / "model/config.json").read_text() == "mine"


def test_settings_have_one_hash_whatever_their_order() -> None:
    assert settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1}) != settings_hash({"a": 2, "b": 2})


def test_a_folders_hash_changes_with_a_name_or_a_byte(tmp_path) -> None:
    (tmp_path / "a").write_text("1")
    first = file_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = file_hash(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, file_hash(tmp_path)}) == 3


def test_writing_leaves_nothing_but_the_file(tmp_path) -> None:
    for text in ("text", "other"):
        write_atomically(tmp_path / "new" / "file", text)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new" / "file").read_text() == "other"


def test_a_stamp_needs_no_torch(tmp_path) -> None:
    program = (
        "import sys\nfrom c2c.provenance import stamp\nwith stamp(sys.argv[1]): pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "x")], check=True, timeout=60)
    assert (tmp_path / "x.provenance.json").is_file()
