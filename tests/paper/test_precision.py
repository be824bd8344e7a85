"""The precision of the models is said of each file of records, as its provenance has it."""

import json
from pathlib import Path

import pytest

from paper import build, collect
from paper.reading.committed import RECORDS
from paper.reading.precision import UNKNOWN, by_dtype, dtype_of
from tests.paper.builder import SMOKE, Run, make_records, write
from tests.paper.test_paper import add_figures


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    runs = {"gap_a/baselines": Run("gap_a"), "gap_a/c2c/span/seed0": Run("gap_a", "c2c", "span", 0)}
    runs |= {"gap_a/c2c/span/seed1": Run("gap_a", "c2c", "span", 1)}
    return [write(make_records([run]), tmp_path / f"results/records/{name}.parquet") for name, run in runs.items()]


def told(path: Path, dtype: str) -> None:
    about = {"settings": {"dtype": dtype}, "code": {}, "hardware": {}, "config_sha256": "0"}
    path.with_name(f"{path.name}.provenance.json").write_text(json.dumps(about))


def test_files_stand_under_the_precision_that_their_provenance_names_most_files_first(files, tmp_path) -> None:
    for path, dtype in zip(files, ["bfloat16", "float32", "float32"], strict=True):
        told(path, dtype)
    found = by_dtype(files, tmp_path / "results/records")
    assert found == {"float32": ["gap_a/c2c/span/seed0", "gap_a/c2c/span/seed1"], "bfloat16": ["gap_a/baselines"]}
    assert next(iter(found)) == "float32"


def test_without_a_provenance_nothing_is_said(files) -> None:
    assert dtype_of(files[0]) == UNKNOWN


def test_collected_records_keep_the_precision_of_each_file(files, tmp_path) -> None:
    for path, dtype in zip(files, ["bfloat16", "float32", "float32"], strict=True):
        told(path, dtype)
    collect.collect(tmp_path / "results", tmp_path / "kept", partial=True)
    about = json.loads((tmp_path / f"kept/{RECORDS}.provenance.json").read_text())
    assert sorted(about["dtype"].values()) == ["bfloat16", "float32", "float32"]
    assert all(name.endswith(".parquet") for name in about["dtype"])


def test_the_text_of_the_paper_is_told_the_precisions(results) -> None:
    add_figures(results, list(SMOKE))
    records = sorted((results / "records").rglob("*.parquet"))
    for path in records:
        told(path, "float32")
    assert list(build.describe(results)["precisions"]) == ["float32"]
    build.build(results, results / "one.pdf")
    told(records[0], "bfloat16")
    assert list(build.describe(results)["precisions"]) == ["float32", "bfloat16"]
    build.build(results, results / "two.pdf")
    assert (results / "one.pdf").read_bytes() != (results / "two.pdf").read_bytes()
