"""`c2c generate` that is killed with SIGKILL and run again ends as if it had not been: no record repeated or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from c2c.evaluation.schema import read_records

METHODS = ("receiver", "routing", "t2t", "c2c", "c2c_deranged", "c2c_same_answer")
MOMENTS = (1, 25, 50)
"""Batches that are kept when the process is killed; there are over a hundred."""

# The command, with a pause before each batch is kept, so that a kill finds it at work.
SLOWLY = """
import sys, time
from c2c.evaluation.answers.store import AnswerStore
put = AnswerStore.put
AnswerStore.put = lambda *given: (time.sleep(0.02), put(*given))[1]
import c2c.evaluation.methods.text_to_text
c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS = 6
from c2c.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(pair, fuser, benchmark_files, tmp_path) -> list[str]:
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    flags = {"scale": "smoke", "pair": "tiny", "receiver": tmp_path / "receiver", "sharer": tmp_path / "sharer",
             "fuser": fuser, "alignment": "span", "tasks": tasks, "token-budget": 1}  # fmt: skip
    given = [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
    benchmarks = [f"{name}={path}" for name, path in files.items()]
    return [sys.executable, "-c", SLOWLY, "generate", *given, "--benchmarks", *benchmarks, "--methods", *METHODS]


def start(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--output", str(output)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kept(folder: Path) -> list[tuple[str, ...]]:
    """Which answers are kept so far."""
    lines = [line for shard in sorted(folder.rglob("*.jsonl")) for line in shard.read_text().splitlines()]
    return [tuple(json.loads(line)["key"]) for line in lines]


def kill_at(process: subprocess.Popen[bytes], folder: Path, batches: int) -> None:
    deadline = time.monotonic() + 300
    while len(list(folder.rglob("*.jsonl"))) < batches:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_that_is_killed_at_several_moments_ends_with_the_same_records(command, tmp_path) -> None:
    whole, cut = tmp_path / "whole" / "records.parquet", tmp_path / "cut" / "records.parquet"
    assert start(command, whole).wait() == 0
    before: list[tuple[str, ...]] = []
    for moment in MOMENTS:
        kill_at(start(command, cut), cut.parent, moment)
        now = kept(cut.parent)
        assert len(now) == len(set(now)), "an answer was given twice"
        assert now[: len(before)] == before and len(now) >= moment, "an answer was lost or given anew"
        assert not cut.exists()
        before = now
    assert start(command, cut).wait() == 0
    frames = [read_records([path]).drop(columns="time_s") for path in (whole, cut)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert not frames[0].duplicated(["method", "benchmark", "question_id"]).any()
    assert len(frames[0]) == len(METHODS) * 2 * 8
    assert not list(cut.parent.rglob("*.jsonl")), "the shards of a finished run are removed"
