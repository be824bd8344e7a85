"""The test bed's part of committed records: collected with the others, recomputed, and a changed record is noticed."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from c2c.testbed.card.records import read, write
from paper import collect, verify
from paper.artefacts import of_kind
from paper.reading.committed import RECORDS, TESTBED_CURVES, TESTBED_RECORDS
from paper.recompute import RECORD_SOURCES, recomputed_tables
from tests.communication.simulator import TestBed
from tests.paper.conftest import latency, made_results, records  # noqa: F401

BED = TestBed(pairs=("gap_a",), tasks=("redacted_word",), items=40, channels=("identity", "random_states", "ridge"))


@pytest.fixture(scope="module")
def committed(made_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    results = Path(shutil.copytree(made_results, tmp_path_factory.mktemp("bed") / "results"))
    BED.write(results)
    collect.collect(results, results.parent / "records" / "smoke")
    return results.parent / "records" / "smoke"


def test_tables_of_the_test_bed_follow_from_committed_records(committed: Path) -> None:
    tables = {name for name, table in of_kind("table").items() if "testbed" in table.reads.values()}
    assert "scorecard" in tables <= set(recomputed_tables(RECORD_SOURCES))
    assert all((committed / f"tables/{name}.csv").is_file() for name in tables)
    assert (committed / TESTBED_CURVES).is_file()
    assert verify.verify(committed)


def test_one_changed_record_of_a_channel_fails_the_verification(committed: Path, tmp_path: Path, capsys) -> None:
    folder = Path(shutil.copytree(committed, tmp_path / "smoke"))
    frame = read([folder / TESTBED_RECORDS])
    hit = frame.query("channel == 'ridge' and message == 'matched' and correct").index[0]
    frame.loc[hit, ["correct", "prediction"]] = False, (frame.loc[hit, "gold"] + 1) % 4
    write(frame, folder / TESTBED_RECORDS)
    assert not verify.verify(folder)
    output = capsys.readouterr().out
    assert "CHANGED  tables/scorecard.csv" in output and "CHANGED  tables/testbed_gains.csv" in output
    assert "same     tables/main.csv" in output


def test_a_test_bed_alone_is_added_to_what_was_committed_before(committed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(committed, tmp_path / "smoke"))
    further = TestBed(pairs=("gap_b",), tasks=("redacted_word",), items=40, channels=BED.channels)
    further.write(tmp_path / "results")
    answers = pd.read_parquet(folder / RECORDS)
    others = ("records.parquet", "latency.parquet", "questions.parquet")
    paths = [path for name in others for path in folder.glob(f"{name}*")]
    before = {path: path.read_bytes() for path in paths}
    collect.collect(tmp_path / "results", folder, partial=True)
    # Files that it adds nothing to keep their provenance, too.
    assert len(before) >= 4 and all(path.read_bytes() == content for path, content in before.items())
    assert set(read([folder / TESTBED_RECORDS])["pair"]) == {"gap_a", "gap_b"}
    assert len(pd.read_parquet(folder / RECORDS)) == len(answers)
    assert verify.verify(folder)


def test_a_group_without_baselines_of_its_own_stays_when_a_test_bed_is_added(committed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(committed, tmp_path / "smoke"))
    answers = pd.read_parquet(folder / RECORDS)
    group = answers[answers["recipe"] != ""].assign(pair="gap_halves")
    whole = pd.concat([answers, group], ignore_index=True)
    collect._write(whole, collect.RECORD_SCHEMA, collect.ANSWER_KEY, folder / RECORDS)
    merged, _ = collect._with_earlier(collect.read_records([folder / RECORDS]), None, folder)
    assert "gap_halves" in set(merged["pair"])
