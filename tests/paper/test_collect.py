"""Committed records state the code of the runs that made them, not of the commit that collected them."""

from __future__ import annotations

import json

from paper.collect import collect


def test_the_stamp_of_collected_records_names_the_code_and_config_of_their_runs(results, tmp_path):
    codes = [{"commit": "a" * 40, "dirty": False}, {"commit": "b" * 40, "dirty": False}]
    for number, path in enumerate(sorted((results / "records").rglob("*.parquet"))):
        told = {"code": codes[number % 2], "config_sha256": "c", "hardware": {"cpu": "of the run"}}
        path.with_name(f"{path.name}.provenance.json").write_text(json.dumps(told))
    collect(results, tmp_path / "committed")
    record = json.loads((tmp_path / "committed/records.parquet.provenance.json").read_text())
    assert record["code"] == codes
    assert record["config_sha256"] == ["c"] and record["hardware"] == {"cpu": "of the run"}
    assert record["artefact"] == "records.parquet"
