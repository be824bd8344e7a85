"""Latency records: phases add up to no more than the whole, and each method has the phases it should."""

from __future__ import annotations

import time

import pytest

from c2c.evaluation.latency import CpuTimes, LatencyRun, cpu_times, measure_pair, other_load, time_c2c
from c2c.evaluation.schema import LATENCY_SCHEMA, read_records
from c2c.fusion.response import ResponseFusion
from tests.evaluation.conftest import ask, fused_method


@pytest.fixture
def records(pair, fuser, benchmark_files, tmp_path, monkeypatch):
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    run = LatencyRun(
        scale="smoke", pair="tiny", receiver=str(tmp_path / "receiver"), sharers=[str(tmp_path / "sharer")],
        methods=("receiver", "sharer", "routing", "t2t", "c2c"), tasks=tasks, benchmarks={"free": files["free"]},
        output=tmp_path / "latency.parquet", fusers=[fuser], recipe="c2c", alignment="span", seed=0,
        questions=3, repeats=2,
    )  # fmt: skip
    notes = {}
    measure_pair(run, notes)
    assert 0 <= notes["other_load"] <= 1
    return read_records([run.output], LATENCY_SCHEMA)


def test_each_question_is_timed_by_each_method_in_each_repeat(records) -> None:
    assert len(records) == 5 * 3 * 2
    assert not records.duplicated(["method", "question_id", "repeat"]).any()


def test_phases_add_up_to_no_more_than_the_whole(records) -> None:
    phases = [name for name in records.columns if name.endswith("_s") and name != "total_s"]
    assert (records[phases].sum(axis=1) <= records["total_s"] + 1e-9).all()
    assert (records["total_s"] > 0).all()


@pytest.mark.parametrize(
    ("method", "phases"),
    [
        ("receiver", {"receiver_prefill_s", "receiver_decode_s"}),
        ("sharer", {"sharer_prefill_s", "sharer_decode_s"}),
        ("t2t", {"sharer_prefill_s", "sharer_decode_s", "receiver_prefill_s", "receiver_decode_s"}),
        ("c2c", {"sharer_prefill_s", "fusion_s", "receiver_prefill_s", "receiver_decode_s"}),
    ],
)
def test_a_method_has_exactly_its_phases(records, method, phases) -> None:
    rows = records[records.method == method]
    for name in ("sharer_prefill_s", "sharer_decode_s", "fusion_s", "receiver_prefill_s", "receiver_decode_s"):
        assert (rows[name] > 0).all() == (name in phases), name


def test_routing_takes_the_receivers_answer_always_and_the_sharers_for_the_half_that_goes_there(records) -> None:
    rows = records[records.method == "routing"]
    assert (rows["receiver_prefill_s"] > 0).all()
    by_question = rows.groupby("question_id")["sharer_prefill_s"]
    # Of three questions one goes to the Sharer, in each repeat the same.
    assert sorted((by_question.min() > 0).tolist()) == [False, False, True]
    assert ((by_question.min() > 0) == (by_question.max() > 0)).all()


def test_c2c_writes_no_message_and_t2t_reads_one(records) -> None:
    fused, told = records[records.method == "c2c"], records[records.method == "t2t"]
    assert (fused["sharer_tokens_out"] == 0).all()
    assert (told["sharer_tokens_out"] > 0).all()
    assert (told["receiver_tokens_in"].to_numpy() > fused["receiver_tokens_in"].to_numpy()).all()


@pytest.mark.parametrize("response", ["plain", "fused"])
def test_the_answer_that_is_timed_is_the_methods_own(pair, fuser, questions, response, monkeypatch) -> None:
    method = fused_method("c2c", pair, fuser)
    method.reader.model.include_response = response == "fused"
    question = questions["free"][0]
    (answer,) = ask(method, [question], 1)
    steps = []
    real = ResponseFusion.prepare_tokens
    monkeypatch.setattr(ResponseFusion, "prepare_tokens", lambda self, *given: (steps.append(1), real(self, *given)))
    phases = time_c2c(method.reader, question)
    assert phases.receiver_tokens_out == answer.tokens_out
    assert len(steps) == (phases.receiver_tokens_out if response == "fused" else 0)


def test_work_of_this_process_is_no_load_of_others() -> None:
    before = CpuTimes(machine=100.0, own=10.0, wall=0.0, cores=2)
    assert other_load(before, CpuTimes(machine=120.0, own=30.0, wall=10.0, cores=2)) == 0
    assert other_load(before, CpuTimes(machine=120.0, own=20.0, wall=10.0, cores=2)) == 0.5
    assert other_load(before, None) is None


def test_cpu_time_of_this_process_is_part_of_the_machines() -> None:
    before = cpu_times()
    while time.perf_counter() < before.wall + 0.3:
        pass
    after = cpu_times()
    assert after.own - before.own > 0.05
    assert after.machine - before.machine > after.own - before.own - 0.05
