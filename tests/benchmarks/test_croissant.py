"""Croissant files of the benchmarks that are made here: valid, complete, and read by others as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant as mlc
import pytest

from benchmarks.croissant import METADATA, check, descriptions, main
from benchmarks.private import make as private
from benchmarks.world import make as world
from c2c.errors import RefusedError
from c2c.storage.formats import read_json_lines, write_json_lines
from c2c.testbed.tasks import make as redacted
from c2c.testbed.tasks.tasks import TASKS

SIZES = ["--seed", "0", "--test", "8", "--train", "8", "--validation", "8"]


def write_benchmark(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Files of a small benchmark by split."""
    if name.startswith("gap_"):
        file = folder / f"{name}.jsonl"
        monkeypatch.setattr("sys.argv", ["make", "--task", name[4:], *SIZES, "--benchmark", str(file)])
        assert private.main() == 0
        return {"test": file}
    if name.startswith("knowledge_gap"):
        arguments = ["--entities", "16", "--output", str(folder / "world.json"), "--benchmarks", str(folder)]
        assert world.main([*arguments, "--training-set", str(folder / "training")]) == 0
        return {"test": folder / f"{name}.jsonl", "train": folder / "training/train.jsonl"}
    monkeypatch.setattr("sys.argv", ["make", "--task", name, *SIZES, "--output", str(folder)])
    assert redacted.main() == 0
    return {split: folder / f"{split}.jsonl" for split in ("train", "validation", "test")}


@pytest.mark.parametrize(
    "name", ["gap_private_line", "gap_words", "gap_skill", "knowledge_gap_choice", "redacted_word", "redacted_code"]
)
def test_mlcroissant_accepts_each_kind_of_benchmark_and_reads_the_records_that_were_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, output = write_benchmark(name, tmp_path / "made", monkeypatch), tmp_path / "croissant"
    assert main(["--name", name, "--files", *(f"{s}={f}" for s, f in files.items()), "--output", str(output)]) == 0
    data_set = mlc.Dataset(output / METADATA)
    assert not data_set.metadata.ctx.issues.errors
    for split, file in files.items():
        rows = [row for _, row in read_json_lines(file, "")]
        records = list(data_set.records(split))
        assert len(records) == len(rows) > 0
        for row, record in zip(rows, records, strict=True):
            for key, value in row.items():
                assert read_value(record[f"{split}/{key}"], value) == value


def read_value(entry: object, original: object) -> object:
    """An entry of a record of mlcroissant as JSON has it: texts are bytes, nested values are JSON."""
    if isinstance(entry, list):
        return [read_value(part, "") for part in entry]
    text = entry.decode() if isinstance(entry, bytes) else entry
    is_nested = isinstance(original, dict) or (isinstance(original, list) and isinstance(text, str))
    return json.loads(text) if is_nested and isinstance(text, str) else text


def test_a_code_with_a_leading_zero_keeps_it(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "rows.jsonl", [{"id": "a", "value": "0412"}, {"id": "b", "value": "7"}])
    arguments = ["--files", f"test={tmp_path / 'rows.jsonl'}", "--output", str(tmp_path / "croissant")]
    assert main(["--name", "redacted_code", *arguments]) == 0
    records = list(mlc.Dataset(tmp_path / "croissant" / METADATA).records("test"))
    assert [read_value(record["test/value"], "") for record in records] == ["0412", "7"]


def test_every_benchmark_that_is_made_here_has_a_description() -> None:
    assert set(TASKS) | {"world_word", "gap_private_line", "gap_words", "gap_skill"} <= set(descriptions())
    assert {"knowledge_gap_choice", "knowledge_gap_free"} <= set(descriptions())


def test_licence_version_and_settings_are_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_benchmark("gap_words", tmp_path / "made", monkeypatch)
    output = tmp_path / "croissant"
    assert main(["--name", "gap_words", "--files", f"test={files['test']}", "--output", str(output)]) == 0
    content = json.loads((output / METADATA).read_text())
    assert "Apache-2.0" in content["license"] and "seed 0" in content["description"]
    assert content["version"] and content["rai:personalSensitiveInformation"]


def test_a_changed_file_is_refused_when_the_data_set_is_checked(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "rows.jsonl", [{"id": "a", "value": "red"}])
    folder = tmp_path / "croissant"
    assert main(["--name", "redacted_word", "--files", f"test={tmp_path / 'rows.jsonl'}", "--output", str(folder)]) == 0
    (folder / "test.parquet").write_bytes(b"")
    with pytest.raises(RefusedError, match="must keep the rules of Croissant"):
        check(folder)


@pytest.mark.parametrize(
    ("name", "row", "rule"),
    [
        ("mmlu", {"id": "a"}, "The data set must be a known name"),
        ("redacted_word", {"id": "a", "colour": "red"}, "A field must be described"),
        ("redacted_word", None, "A split must have rows"),
    ],
)
def test_other_benchmarks_undescribed_fields_and_empty_files_are_refused(
    name: str, row: dict[str, str] | None, rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json_lines(tmp_path / "rows.jsonl", [row] if row else [])
    arguments = ["--files", f"test={tmp_path / 'rows.jsonl'}", "--output", str(tmp_path / "croissant")]
    assert main(["--name", name, *arguments]) == 2
    assert rule in capsys.readouterr().err
    assert not (tmp_path / "croissant" / METADATA).exists()
