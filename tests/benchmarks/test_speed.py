"""The measurement of speed: ratios within one run, the reference's order of work with equal results, and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from benchmarks.speed import __main__ as speed
from benchmarks.speed import parts, reference_order, report
from benchmarks.speed.clock import Comparison, ratios, run
from benchmarks.speed.parts import PARTS, Bench
from c2c.training.config import TrainingConfig
from c2c.training.fusers import FuserLearner
from c2c.training.operations import example_operations
from c2c.training.together import SharedPasses

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench() -> Bench:
    settings = yaml.safe_load(speed.SETTINGS.read_text())["quick"]
    small = {
        "hidden_dim": 16,
        "fusion": {"tokens": [4]},
        "prefill": {"tokens": [8]},
        "training": {"batch": 2, "prompt": 6, "response": 2, "fusers": 3},
        "evaluation": {"prompts": [5, 7], "new_tokens": 3},
        "messages": {"prompt": 6, "tokens": [2], "new_tokens": 2},
        "growth": {"prompt": [4, 8, 16], "batch": [1, 2, 4], "sharers": [1, 2], "layers": [1, 2]},
    }
    return Bench({**settings, **small}, CPU, torch.float32)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "start-up"])
def test_every_way_of_every_part_runs_and_is_compared_with_its_baseline(bench: Bench, part: str) -> None:
    rows = [row for comparison in PARTS[part](bench) for row in run(comparison, 1, CPU)]
    table = ratios(pd.DataFrame(rows), "wall_s")
    assert (table["ratio"] > 0).all()
    for _, of_setting in table.groupby("setting"):
        assert (of_setting["ratio"] == 1).any()


def test_operations_of_a_training_step_are_those_that_the_plan_counts(bench: Bench) -> None:
    comparison, several = PARTS["training"](bench)
    sizes, pair = bench.settings["training"], bench.pair()
    receiver, sharer, fusers = (
        sum(weight.numel() for weight in module.parameters())
        for module in (pair.receiver.model, pair.sharer.model, bench.stack(pair))
    )
    example = example_operations(sizes["prompt"], sizes["response"], receiver, sharer, fusers)
    count = sizes["batch"]
    assert {*comparison.operations} == {*comparison.ways}
    assert comparison.operations["live"] == comparison.operations["reference order"] == count * example.total
    assert comparison.operations["stored states"] == count * example.learning
    assert several.operations == {
        "together": count * (example.reading + 3 * example.learning),
        "each alone": 3 * count * example.total,
    }


def test_fusers_that_step_together_have_one_pass_of_the_frozen_models_and_the_losses_of_each_alone(
    bench: Bench, monkeypatch
) -> None:
    losses, passes = [], []
    step, read = FuserLearner._step, SharedPasses._read_prefix

    def noted(learner, *arguments):
        row = step(learner, *arguments)
        losses.append(float(row[0]["loss"]))
        return row

    monkeypatch.setattr(FuserLearner, "_step", noted)
    monkeypatch.setattr(SharedPasses, "_read_prefix", lambda *arguments: passes.append(1) or read(*arguments))
    # The first step of each has the learning rate 0 of the warm-up, so that it does not change the weights.
    *_, comparison = PARTS["training"](bench)
    for way in ("together", "each alone"):
        torch.manual_seed(0)
        comparison.ways[way]()
    assert len(passes) == 1 and len(losses) == 6
    assert losses[3:] == pytest.approx(losses[:3], rel=0.05) and len(set(losses[:3])) == 3


def test_a_rate_is_operations_by_seconds_and_its_share_that_of_the_peak() -> None:
    rows = pd.DataFrame(
        [
            {"part": "training", "setting": "s", "way": "w", "operations": 4e12, "wall_s": seconds}
            for seconds in (1.0, 2.0, 4.0)
        ]
        + [{"part": "fusion", "setting": "s", "way": "w", "wall_s": 1.0}]
    )
    rates = report.operation_rates(rows, "wall_s", 8.0)
    assert rates[["part", "tflops", "share_of_peak"]].to_numpy().tolist() == [["training", 2.0, 0.25]]
    assert report.operation_rates(rows, "wall_s", None)["share_of_peak"].isna().all()
    assert report.operation_rates(rows.drop(columns="operations"), "wall_s", 8.0).empty


def test_the_order_of_work_of_the_reference_gives_our_first_token_and_our_loss(bench: Bench) -> None:
    pair = bench.pair()
    model, batch = bench.rosetta(pair), bench.batch(pair, 2, 9, 3)
    torch.testing.assert_close(
        reference_order.first_token(model, batch), parts.fused_logits(model, batch), rtol=1e-4, atol=1e-5
    )
    loss = model(
        batch.kv_cache_index, batch.input_ids, batch.attention_mask, None, batch.labels,
        sharer_inputs=[batch.sharer_input],
    ).loss  # fmt: skip
    torch.testing.assert_close(reference_order.training_loss(model, batch), loss, rtol=1e-4, atol=1e-5)


def test_the_order_of_work_of_the_reference_writes_our_answer(bench: Bench) -> None:
    pair = bench.pair()
    model, batch = bench.rosetta(pair), bench.batch(pair, 1, 9)
    ours = parts.write(model, batch, 5)[0, 9:].tolist()
    assert reference_order.write_answer(model, parts._prompt(batch), 5) == ours


def test_a_step_from_stored_states_has_the_loss_of_a_live_one(bench: Bench, tmp_path: Path) -> None:
    pair, examples = bench.pair(), bench.examples(2, 6, 2)
    config = TrainingConfig(steps=2, batch_size=2, hidden_dim=16, intermediate_dim=16)
    stored = parts.store_states(pair, examples, tmp_path)
    live, from_states = (
        float(FuserLearner(pair, config, examples, examples, tmp_path, states)._step(1, [0, 1])[0]["loss"])
        for states in (None, stored)
    )
    assert from_states == pytest.approx(live, abs=1e-6)


def test_a_ratio_is_that_of_the_same_round() -> None:
    rows = pd.DataFrame(
        [
            {"part": "p", "setting": "s", "way": way, "baseline": "a", "round": number, "cpu_s": seconds}
            for number, pair in enumerate([(1.0, 2.0), (10.0, 30.0), (2.0, 4.0)])
            for way, seconds in zip("ab", pair, strict=True)
        ]
    )
    table = ratios(rows, "cpu_s").set_index("way")
    assert table.loc["b", ["ratio", "ratio_low", "ratio_high", "rounds"]].tolist() == [2, 2, 3, 3]


def test_the_exponent_of_a_square_law_is_two() -> None:
    rows = pd.DataFrame(
        [{"part": "growth", "axis": "prompt", "way": str(size), "cpu_s": 3.0 * size**2} for size in (1, 2, 4, 8)]
    )
    assert report.exponents(rows, "cpu_s")["exponent"].tolist() == pytest.approx([2.0])


def test_a_ratio_outside_its_bound_is_named_and_one_that_was_not_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = {"part": "p", "way": "slow", "least": 3.0, "tolerance": 0.1, "sizes": ["quick"]}
    monkeypatch.setattr(report.yaml, "safe_load", lambda text: {"bounds": [bound]})
    table = pd.DataFrame([{"part": "p", "setting": "", "way": "slow", "ratio": 2.8}])
    assert report.check(table, "quick", ["p"]) == []
    assert report.check(table.assign(ratio=2.0), "full", ["p"]) == []
    assert "at least 3.0 times" in report.check(table.assign(ratio=2.0), "quick", ["p"])[0]
    assert "was not measured" in report.check(table.assign(way="other"), "quick", ["p"])[0]
    assert report.check(table.assign(way="other"), "quick", ["q"]) == []


def test_the_bounds_name_parts_and_ways_that_are_measured(bench: Bench) -> None:
    bounds = yaml.safe_load(report.BOUNDS.read_text())["bounds"]
    sizes = yaml.safe_load(speed.SETTINGS.read_text())
    for bound in bounds:
        assert set(bound["sizes"]) <= set(sizes)
        ways = {way for comparison in PARTS[bound["part"]](bench) for way in comparison.ways}
        assert bound["way"] in ways


def test_the_seconds_of_rules_are_summed_over_their_jobs(tmp_path: Path) -> None:
    for path, seconds in (("train/a.tsv", 1.0), ("train/b/c.tsv", 2.0), ("score.tsv", 0.5)):
        file = tmp_path / "benchmarks" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\tcpu_time\n{seconds}\t{2 * seconds}\n")
    table = report.rule_seconds(tmp_path).set_index("rule")
    assert table.loc["train"].tolist() == [2, 3.0, 6.0]
    assert table.loc["score"].tolist() == [1, 0.5, 1.0]


def test_a_measurement_is_written_as_data_table_page_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def part(bench: Bench) -> Iterator[Comparison]:
        yield Comparison("growth", {"axis": "size"}, {"1": lambda: sum(range(9)), "2": lambda: sum(range(99))}, "1")

    monkeypatch.setattr(speed, "PARTS", {"growth": part})
    assert speed.main(["--size", "quick", "--parts", "growth", "--device", "cpu", "--output", str(tmp_path)]) == 0
    record = json.loads((tmp_path / speed.MEASUREMENT).read_text())
    assert {row["way"] for row in record["rows"]} == {"1", "2"}
    assert record["settings"]["size"] == "quick"
    assert "axis=size" in (tmp_path / speed.REPORT).read_text()
    assert (tmp_path / speed.TABLE).exists() and (tmp_path / "growth.png").exists()


def test_a_ratio_out_of_bounds_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def part(bench: Bench) -> Iterator[Comparison]:
        yield Comparison("p", {}, {"a": lambda: None, "b": lambda: None}, "a")

    monkeypatch.setattr(speed, "PARTS", {"p": part})
    monkeypatch.setattr(report, "check", lambda *arguments: ["too slow"])
    arguments = ["--size", "quick", "--parts", "p", "--device", "cpu"]
    assert speed.main([*arguments, "--check"]) == speed.OUT_OF_BOUNDS
    assert "too slow" in capsys.readouterr().err
    assert speed.main(arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "prefil"], "Did you mean 'prefill'"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--rounds", "-1"], "--rounds must be at least 1"),
        (["--results", "nowhere"], "must be the folder of a finished run"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_built(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert speed.main([*arguments, "--size", "quick"]) == 2
    assert message in capsys.readouterr().err
