"""A device that fails, a full disk, two runs at once: no answer is lost or wrong, and the records are the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from c2c.errors import ModelFaultError, RefusedError
from c2c.evaluation import generate as generate_module
from c2c.evaluation.answers.store import AnswerStore
from c2c.evaluation.generate import GenerationRun, generate
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.schema import read_records
from c2c.models.pair import LoadedModel, Pair, load_models

METHODS = ("receiver", "sharer", "t2t", "routing", "c2c", "c2c_deranged", "c2c_same_answer")
ERRORS: dict[str, BaseException] = {
    "S7 a CUDA error": RuntimeError("CUDA error: an illegal memory access was encountered"),
    "S7 the device is out of memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    "S8 no memory": MemoryError("no memory"),
    "S8 Ctrl-C": KeyboardInterrupt(),
    "S8 a disk error": OSError(5, "Input/output error"),
    "a fault of the code": TypeError("forward() got an unexpected keyword argument"),
    "an index": IndexError("index out of range in self"),
    "a value": ValueError("empty separator"),
}


@pytest.fixture(autouse=True)
def short_messages(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)


@pytest.fixture
def run(pair, fuser, benchmark_files, tmp_path) -> GenerationRun:
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    return GenerationRun(
        scale="smoke", pair="tiny", receiver=str(tmp_path / "receiver"), sharers=[str(tmp_path / "sharer")],
        methods=METHODS, tasks=tasks, benchmarks=files, output=tmp_path / "out" / "records.parquet", fusers=[fuser],
        recipe="c2c", alignment="span", seed=0, token_budget=100,
    )  # fmt: skip


def failing_after(calls: int, error: BaseException, models: list[LoadedModel]) -> list[LoadedModel]:
    """The same models; after so many readings of either of them each further one raises."""
    left = calls

    def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
        def read(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return forward(*arguments, **options)

        return read

    for loaded in models:
        body = loaded.model.base_model
        body.forward = wrapped(body.forward)
    return models


def records_of(path: Path) -> pd.DataFrame:
    return read_records([path]).drop(columns="time_s")


@pytest.mark.parametrize("case", [case for case in ERRORS if "S7 a" in case or "S8 no" in case or "Ctrl" in case])
def test_a_run_whose_device_fails_ends_with_the_error_and_goes_on_to_the_same_records(run, case, monkeypatch) -> None:
    whole = replace(run, output=run.output.with_name("whole.parquet"))
    generate(whole)
    asked: list[str] = []
    respond = Method._respond

    def noted(reading: Any, batch: Any) -> Any:
        answers = respond(reading, batch)
        asked.extend(
            f"{reading.model.config.model_type} {each.benchmark} {each.number} {each.prompt}" for each in batch
        )
        return answers

    monkeypatch.setattr(Method, "_respond", staticmethod(noted))
    failing = partial(failing_after, 40, ERRORS[case])
    monkeypatch.setattr(generate_module, "load_models", lambda *given: failing(load_models(*given)))
    with pytest.raises(type(ERRORS[case])) as caught:
        generate(run)
    assert caught.value is ERRORS[case]
    if isinstance(caught.value, Exception):
        (note,) = caught.value.__notes__[-1:]
        assert "stopped at" in note and "the same command resumes" in note
    assert not run.output.exists()
    kept = len(asked)
    assert kept > 8, "something was answered before"

    monkeypatch.setattr(generate_module, "load_models", load_models)
    generate(run)
    pd.testing.assert_frame_equal(records_of(run.output), records_of(whole.output), check_exact=True)
    assert records_of(run.output)["error"].isna().all()
    assert [path.name for path in sorted(run.output.parent.iterdir())] == ["records.parquet", "whole.parquet"]


@pytest.mark.parametrize("calls", [0, 3])
@pytest.mark.parametrize("case", ERRORS)
def test_an_error_that_is_no_refusal_is_no_answer(pair, questions, tmp_path, case, calls) -> None:
    """S7, S8: all questions had "failed", no error was raised, and they were kept as answers."""
    failing_after(calls, ERRORS[case], [pair.receiver, pair.sharer])
    method = SingleModel(pair.receiver, store=AnswerStore(tmp_path / "kept"), token_budget=1)
    with pytest.raises(type(ERRORS[case])):
        method.answer(questions["choice"])
    assert all(answer.error is None for answer in method.answers.values()) and len(method.answers) <= calls
    assert len(list((tmp_path / "kept").iterdir())) == len(method.answers)


def spoilt(pair: Pair, value: float) -> None:
    with torch.no_grad():
        pair.receiver.model.get_output_embeddings().weight[0] = value


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_whose_logits_are_no_numbers_ends_the_run_and_answers_nothing(
    pair, questions, tmp_path, kind, value
) -> None:
    """E7: NaN weights had answered [0, 0, 0]."""
    spoilt(pair, value)
    method = SingleModel(pair.receiver, store=AnswerStore(tmp_path / "kept"), token_budget=10_000)
    with pytest.raises(ModelFaultError, match="must be a finite number"):
        method.answer(questions[kind])
    assert method.answers == {} and list((tmp_path / "kept").iterdir()) == []


def test_a_refusal_is_kept_and_the_other_questions_are_answered(pair, questions, tmp_path) -> None:
    """S3: a prompt beyond the positions among good ones."""
    asked = [replace(each, max_new_tokens=10**6 if number == 2 else 6) for number, each in enumerate(questions["free"])]
    pair.receiver.model.config.max_position_embeddings = 1000
    for _ in range(2):
        method = SingleModel(pair.receiver, store=AnswerStore(tmp_path / "kept"), token_budget=10_000)
        answers = method.answer(asked)
        assert [answer.error is not None for answer in answers] == [number == 2 for number in range(8)]
        assert str(answers[2].error).startswith(f"{RefusedError.__name__}: Prompt and answer must fit")


# The command; after `PUTS` batches no file may grow beyond 50 bytes, as if the disk were full.
FULL_DISK = """
import os, resource, sys, time
from c2c.evaluation.answers.store import AnswerStore
put, kept = AnswerStore.put, []
def limited(*given):
    kept.append(given)
    if len(kept) > int(os.environ.get("PUTS", 10**9)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
    put(*given)
    time.sleep(float(os.environ.get("PAUSE", 0)))
AnswerStore.put = limited
import c2c.evaluation.methods.text_to_text
c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS = 6
from c2c.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def start(run: GenerationRun, **environment: str) -> subprocess.Popen[str]:
    names = ("scale", "pair", "receiver", "sharer", "fuser", "recipe", "alignment", "seed", "tasks", "output")
    given = [part for name in names for part in (f"--{name}", str(getattr(run, name)))]
    given += ["--token-budget", "1", "--methods", *run.methods]
    given += ["--benchmarks", *(f"{name}={path}" for name, path in run.benchmarks.items())]
    return subprocess.Popen(
        [sys.executable, "-c", FULL_DISK, "generate", *given], text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=300)
    return process.returncode, told


@pytest.mark.slow
def test_a_full_disk_ends_a_run_with_one_line_and_loses_nothing(run) -> None:
    """F10."""
    one = replace(run, methods=("receiver", "c2c"), token_budget=1)
    whole = replace(one, output=run.output.with_name("whole.parquet"))
    code, told = finished(start(one, PUTS="5"))
    assert code == 1 and "File too large" in told and "Traceback" not in told
    assert not one.output.exists()
    shards = sorted(one.output.parent.rglob("*.jsonl"))
    assert len(shards) == 5 and not list(one.output.parent.rglob("*.unfinished"))
    before = [shard.read_bytes() for shard in shards]
    code, told = finished(start(one, PUTS="1"))
    assert code == 1 and [shard.read_bytes() for shard in shards] == before, "what was kept is kept"
    code, told = finished(start(one))
    assert code == 0, told
    generate(whole)
    pd.testing.assert_frame_equal(records_of(one.output), records_of(whole.output), check_exact=True)
    assert [path.name for path in sorted(run.output.parent.iterdir())] == [
        "records.parquet", "records.parquet.provenance.json", "whole.parquet",
    ]  # fmt: skip


@pytest.mark.slow
def test_of_two_runs_of_one_output_the_second_is_refused_and_the_first_ends_as_if_alone(run) -> None:
    """F6 and F24, with real processes."""
    one = replace(run, methods=("receiver", "c2c"), token_budget=1)
    whole = replace(one, output=run.output.with_name("whole.parquet"))
    first = start(one, PAUSE="3")
    deadline = time.monotonic() + 200
    while not list(one.output.parent.rglob("*.jsonl")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    code, told = finished(start(one))
    assert first.poll() is None, "the first run must still be at work"
    assert code == 2 and "Only one run at a time must answer questions" in told and str(first.pid) in told
    first.terminate()
    assert finished(first)[0] != 0
    assert not one.output.exists() and list(one.output.parent.rglob("*.jsonl")), "what it answered is kept"
    code, told = finished(start(one))
    assert code == 0, told
    generate(whole)
    pd.testing.assert_frame_equal(records_of(one.output), records_of(whole.output), check_exact=True)
    assert not [path for path in run.output.parent.iterdir() if path.name.startswith(".")]
