"""A results folder of synthetic records, made once, and copies of it that a test may harm."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from c2c.evaluation.schema import LATENCY_SCHEMA
from paper.reading.answers import Answers
from paper.recompute import recompute
from tests.paper.builder import SMOKE, make_latency, make_records, write, write_fuser


@pytest.fixture(scope="session")
def records() -> pd.DataFrame:
    return make_records()


@pytest.fixture(scope="session")
def latency() -> pd.DataFrame:
    return make_latency()


@pytest.fixture(scope="session")
def answers(records: pd.DataFrame) -> Answers:
    return Answers(records)


@pytest.fixture(scope="session")
def made_results(records: pd.DataFrame, latency: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "results" / "smoke"
    recompute(records, latency, folder)
    for run in SMOKE:
        write(make_records([run]), folder / "records" / f"{run.path}.parquet")
        if run.recipe:
            write_fuser(run, folder / "fusers")
    for pair, rows in latency.groupby("pair"):
        write(rows, folder / "latency" / f"{pair}.parquet", LATENCY_SCHEMA)
    return folder


@pytest.fixture
def results(made_results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_results, tmp_path / "results" / "smoke"))
