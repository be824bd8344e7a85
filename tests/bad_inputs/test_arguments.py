"""Arguments of commands that would destroy a user's files, or that no run can have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from c2c.cli.main import main
from c2c.errors import REFUSED
from tests.bad_inputs.workshop import ASKED, BENCHMARK, FUSED, PAIR, TRAINING, build

TRAIN = f"train {PAIR} --data {{folder}}/train.jsonl --validation {{folder}}/train.jsonl {TRAINING}"
TIME = f"latency {ASKED} {BENCHMARK} --output {{folder}}/o.parquet"
GENERATE = f"generate {ASKED} {BENCHMARK} --methods receiver"
CASES = {
    "Fusers over the Receiver": f"{TRAIN} --checkpoints {{folder}}/ck --output {{folder}}/receiver",
    "states in the Receiver": f"{TRAIN} --checkpoints {{folder}}/receiver --output {{folder}}/o",
    "states in the output": f"{TRAIN} --checkpoints {{folder}}/o --output {{folder}}/o",
    "a tokenised set over its lines": f"tokenise {PAIR} --data {{folder}}/train.jsonl --output {{folder}}/train.jsonl",
    "records over the questions": f"{GENERATE} --output {{folder}}/free.jsonl",
    "records over a task file": f"{GENERATE} --output {{folder}}/tasks/free.yaml",
    "records into a folder": f"{GENERATE} --output {{folder}}/receiver",
    "scores over the records": "score --records {folder}/records.parquet --output {folder}/records.parquet",
    "a manifest over a config": "fetch --model {folder}/sharer --output {folder}/receiver/config.json",
    "a negative limit": f"{GENERATE} --limit -1 --output {{folder}}/o.parquet",
    "a limit beyond any file": f"{GENERATE} --limit 99999999999999999999999 --output {{folder}}/o.parquet",
    "negative threads": f"{TIME} --methods receiver --threads -1",
    "a hundred thousand threads": f"{TIME} --methods c2c {FUSED} --threads 100000",
    "a pair of two words": f"{GENERATE} --output {{folder}}/o.parquet".replace("--pair tiny", "--pair ../tiny"),
    "a scale with a slash": f"{GENERATE} --output {{folder}}/o.parquet".replace("--scale smoke", "--scale a/b"),
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, word_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("workshop")
    build(folder, word_tokenizer)
    shutil.rmtree(folder / "out")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_an_argument_that_cannot_be_meant_is_refused_and_no_file_changes(case, workshop, capsys) -> None:
    before = {path: path.read_bytes() for path in sorted(workshop.rglob("*")) if path.is_file()}
    assert main([part.replace("{folder}", str(workshop)) for part in CASES[case].split()]) == REFUSED
    assert " must " in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: path.read_bytes() for path in sorted(workshop.rglob("*")) if path.is_file()} == before


def test_a_refused_run_leaves_the_provenance_of_the_records_that_are_there(workshop) -> None:
    stamp = workshop / "records.parquet.provenance.json"
    before = stamp.read_bytes()
    arguments = f"{GENERATE} --limit -1 --output {{folder}}/records.parquet"
    assert main([part.replace("{folder}", str(workshop)) for part in arguments.split()]) == REFUSED
    assert stamp.read_bytes() == before
