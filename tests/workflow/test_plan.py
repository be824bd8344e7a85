from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c2c.cli.main import main as c2c
from c2c.errors import RefusedError
from paper.reading.reference import Reference
from workflow.kinds.latent import latent_names, latent_pairs
from workflow.kinds.pairs import fused_job
from workflow.kinds.steps import kept_steps
from workflow.load import load_settings
from workflow.plan import report
from workflow.plan.report import (
    ESTIMATED,
    TIMED,
    UNKNOWN,
    lean_hours,
    lean_statement,
    paper_total,
    plan_lines,
    stage_costs,
)
from workflow.plan.stages import Estimator, Timing, job_counts
from workflow.scales import read_config
from workflow.settings import FuserTraining, Settings
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]

RELEASED = "answer_released"

ConfigOf = Callable[[str], dict[str, Any]]


@pytest.fixture
def settings(config_of: ConfigOf) -> Settings:
    return load_settings(config_of("paper"), ROOT)


@pytest.fixture
def estimator(settings: Settings) -> Estimator:
    return Estimator(settings, Reference(), read_table(ROOT / "config" / "sizes.tsv"))


def with_config(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, config={**settings.config, **changes})


def fused_once(estimator: Estimator, pair: str) -> float:
    """Hours in which the Fusers of a pair answer everything by one method."""
    job = fused_job(estimator.settings, FuserTraining(pair, "c2c", "span", 42))
    return estimator.answering(replace(job, methods=("c2c",)))


def test_hours_of_the_paper_are_those_that_table_12_prints(estimator: Estimator) -> None:
    hours = estimator.paper_hours("qwen3_from_llama32")
    assert hours[300] == 8.44 and hours[1929] == 54.24
    assert estimator.paper_hours("qwen3_from_llama32", "receiver") == {}
    assert estimator.paper_hours("qwen3_from_qwen25_mmlu") == {}


def test_the_first_pair_takes_what_it_took_the_paper_and_half_the_steps_take_half(estimator: Estimator) -> None:
    run = FuserTraining("qwen3_from_qwen25", "c2c", "span", 42)
    assert estimator.training(run) == pytest.approx(44.72)
    half = {**estimator.settings.config["training"], "steps": 1929 // 2}
    shorter = replace(estimator, settings=with_config(estimator.settings, training=half))
    assert shorter.training(run) == pytest.approx(44.72 * (1929 // 2) / 1929)


def test_the_estimate_for_another_sharer_agrees_with_the_hours_that_the_paper_prints(estimator: Estimator) -> None:
    estimate = estimator.training(FuserTraining("qwen3_from_llama32", "c2c", "span", 42))
    assert estimate == pytest.approx(54.24, rel=0.1)


def test_twice_the_questions_take_twice_the_hours(estimator: Estimator) -> None:
    def sampled(number: int) -> float:
        return replace(estimator, settings=with_config(estimator.settings, sample=number)).hours("answer_fused") or 0

    assert sampled(200) == pytest.approx(2 * sampled(100))
    assert 0 < sampled(200) < (estimator.hours("answer_fused") or 0)


def test_hours_of_tokenising_are_lines_by_rate(estimator: Estimator) -> None:
    slow = replace(estimator, lines_per_second=100.0)
    settings = estimator.settings
    runs = {(run.pair, run.recipe == "identical", run.alignment) for run in settings.runs}
    runs |= {(pair, False, "span") for name in latent_names(settings) for pair in latent_pairs(settings, name)}
    lines = sum(estimator.sizes[estimator.settings.pairs[pair]["training_set"]]["lines"] for pair, *_ in runs)
    assert lines > 6 * 500000
    assert slow.hours("tokenise_training_set") == pytest.approx(lines / 100 / 3600)


def test_each_kept_step_is_asked_as_its_fuser_is(estimator: Estimator) -> None:
    kept = list(dict.fromkeys(run for run, _ in kept_steps(estimator.settings)))
    few = replace(
        estimator,
        settings=replace(
            estimator.settings,
            config={
                **estimator.settings.config,
                "runs": [
                    entry for entry in estimator.settings.config["runs"] if "keep_steps" in entry.get("training", {})
                ],
            },
        ),
    )
    assert kept and few.settings.runs == kept
    assert few.hours("answer_kept") == pytest.approx(4 * (few.hours("answer_fused") or 0))


def test_a_teacher_writes_more_slowly_the_larger_it_is(estimator: Estimator) -> None:
    models = {**estimator.settings.models}
    models["qwen3_4b"] = {**models["qwen3_4b"], "parameters_m": 2 * models["qwen3_4b"]["parameters_m"]}
    larger = replace(estimator, settings=replace(estimator.settings, models=models))
    before = estimator.hours("write_teacher_answers") or 0
    assert before > 0 and larger.hours("write_teacher_answers") == pytest.approx(2 * before)


def test_a_rule_or_data_of_which_nothing_is_known_has_no_estimate(estimator: Estimator) -> None:
    assert replace(estimator, sizes={"openhermes": estimator.sizes["openhermes"]}).hours("answer_fused") is None


def test_timed_jobs_replace_the_estimate(settings: Settings, estimator: Estimator) -> None:
    timings = [Timing("paper", "train_fuser", 2, 90.0, 50000.0, 2000.0), Timing("smoke", "answer_fused", 1, 1, 1, 1)]
    found = {stage.name: stage for stage in stage_costs(settings, timings, estimator)}
    assert {rule: stage.jobs for rule, stage in found.items()} == job_counts(settings)
    training = found["train_fuser"]
    jobs = len(settings.runs)
    assert (training.basis, training.hours) == (TIMED, jobs * 1.5)
    assert (training.memory_gb, training.disk_gb) == (50.0, jobs * 2.0)
    assert found["answer_fused"].basis == ESTIMATED and found["tokenise_training_set"].gpus == 0


def test_each_stage_of_the_papers_scale_is_estimated_and_the_totals_are_their_sums(
    settings: Settings, estimator: Estimator
) -> None:
    found = stage_costs(settings, [], estimator)
    assert {stage.name for stage in found} == set(job_counts(settings))
    assert all(stage.basis == ESTIMATED and stage.hours for stage in found)
    lines = [line.split() for line in plan_lines(settings, [], estimator)]
    hours = [stage.hours or 0 for stage in found]
    (gpu,) = (float(line[2]) for line in lines if line[:2] == ["GPU", "hours:"])
    (without,) = (float(line[4]) for line in lines if line[:2] == ["hours", "without"])
    (disk,) = (float(line[1]) for line in lines if line[:1] == ["disk:"])
    assert gpu + without == pytest.approx(sum(hours), abs=0.1)
    assert disk == pytest.approx(sum(stage.disk_gb or 0 for stage in found), abs=0.1)
    for stage in found:
        (line,) = (line for line in lines if line[:1] == [stage.name])
        assert int(line[1]) == stage.jobs and line[-1] == ESTIMATED


def test_fine_tuning_costs_three_times_a_reading_of_its_tokens(estimator: Estimator) -> None:
    tokens = 1929 * 256 * 500
    expected = 3 * 2 * 596e6 * tokens / estimator.operations_per_hour()
    assert estimator.hours("train_single") == pytest.approx(expected)


def test_published_fusers_are_asked_three_times_and_half_of_them_take_half(estimator: Estimator) -> None:
    def hours(*names: str) -> float:
        return replace(estimator, settings=with_config(estimator.settings, released=list(names))).hours(RELEASED) or 0

    once = fused_once(estimator, "qwen3_from_qwen25")
    assert hours("qwen25_05b") == pytest.approx(3 * once)
    assert hours("qwen25_05b", "llama32_1b") == pytest.approx(hours("qwen25_05b") + hours("llama32_1b"))


def test_the_oracle_reads_its_examples_once_for_each_layer_and_choice(estimator: Estimator) -> None:
    asked = estimator.sizes["mmlu_redux"]
    tokens = asked["lines"] * (6 * asked["prompt_tokens"] + asked["answer_tokens"])
    expected = 2 * 1721e6 * tokens * (3 + 28 + 4 * 10) / estimator.operations_per_hour()
    assert estimator.hours("enrich_caches") == pytest.approx(expected)


def test_shares_of_a_prompt_are_fused_at_both_ends_each_with_its_control(estimator: Estimator) -> None:
    kinds = estimator.settings.config["analysis"]
    fewer = {**kinds, "partial": {**kinds["partial"], "shares": [1]}}
    once = replace(estimator, settings=with_config(estimator.settings, analysis=fewer)).hours("fuse_partially") or 0
    assert once == pytest.approx(4 * fused_once(estimator, kinds["partial"]["pair"]))
    assert estimator.hours("fuse_partially") == pytest.approx(5 * once)


def test_a_group_costs_more_than_its_first_pair_and_less_than_both_alone(estimator: Estimator) -> None:
    pairs = ("qwen3_from_qwen3_4b_base_mmlu", "qwen3_from_qwen25_math_mmlu")
    alone = [5 * fused_once(estimator, pair) for pair in pairs]
    (entry,) = estimator.settings.config["groups"]
    hours = (estimator.hours("answer_groups") or 0) / len(entry["seeds"])
    assert max(alone) < hours < sum(alone)


def test_a_scale_says_which_stages_its_total_leaves_out(config_of: ConfigOf) -> None:
    laptop = load_settings(config_of("laptop"), ROOT)
    timings = [Timing("laptop", rule, 1, 60.0, 1.0, 1.0) for rule in job_counts(laptop) if rule != "train_fuser"]
    text = "\n".join(plan_lines(laptop, timings, Estimator.of(laptop, ROOT)))
    assert re.search(r"not counted, never timed: +train_fuser$", text, flags=re.MULTILINE)


def test_nothing_is_estimated_for_a_machine_without_a_gpu(config_of: ConfigOf) -> None:
    laptop = load_settings(config_of("laptop"), ROOT)
    found = {stage.name: stage for stage in stage_costs(laptop, [], Estimator.of(laptop, ROOT))}
    assert found["train_fuser"].basis == UNKNOWN and found["train_fuser"].hours is None


def test_gpu_hours_count_every_gpu_of_a_job_and_the_papers_hours_stand_beside(settings: Settings) -> None:
    timings = [Timing("paper", rule, 1, 60.0, 1000.0, 1.0) for rule in job_counts(settings)]
    four = with_config(settings, gpus_per_job=4)
    jobs = sum(number for rule, number in job_counts(four).items() if rule != "tokenise_training_set")
    lines = [line.split() for line in plan_lines(four, timings, Estimator.of(four, ROOT))]
    assert ["GPU", "hours:", f"{4 * jobs:.1f}"] in lines
    paper, known = paper_total(settings, Estimator.of(settings, ROOT))
    (said,) = (line for line in lines if line[:4] == ["the", "paper", "(Table", "12):"])
    assert known and float(said[4]) == round(paper, 1)


def test_estimates_are_marked_with_what_they_take_for_granted(settings: Settings, estimator: Estimator) -> None:
    text = "\n".join(plan_lines(settings, [], estimator))
    assert "so these are estimates" in text and "200 examples a second" in text
    timed = [Timing("paper", rule, 1, 60.0, 1000.0, 1.0) for rule in job_counts(settings)]
    assert "estimate" not in "\n".join(plan_lines(settings, timed, estimator))


def test_a_scale_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(RefusedError, match=r"papr.*paper"):
        read_config("papr", folder=ROOT / "config")


def test_a_config_with_the_name_of_another_scale_has_no_plan(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "mine.yaml").write_text("scale: paper\n")
    assert report.main(["--configfile", str(ROOT / "config/smoke.yaml"), str(tmp_path / "mine.yaml")]) == 2
    assert capsys.readouterr().err.startswith("c2c plan: A config with scale: paper must have in runs only names that")


@pytest.mark.parametrize("scale", ["paper", "laptop", "smoke"])
def test_the_plan_of_every_scale_is_printed(scale: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(ROOT)
    assert c2c(["plan", "--scale", scale]) == 0
    assert f"Scale {scale}" in (text := capfd.readouterr().out) and "train_fuser" in text


def test_outside_of_the_repository_there_is_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert c2c(["plan"]) == 2
    assert "Clone the repository" in capsys.readouterr().err


def test_a_lean_run_has_one_seed_a_training_and_costs_less(settings: Settings, estimator: Estimator) -> None:
    lean = with_config(settings, lean=True)
    assert len(lean.runs) == len({(run.pair, run.recipe, run.alignment) for run in settings.runs}) < len(settings.runs)
    hours = lean_hours(settings, [], estimator)
    assert 0 < hours[True] < hours[False]
    statement = lean_statement(settings, [], estimator)
    assert all(f"{number:.1f} GPU hours" in statement for number in hours.values())
    assert lean_hours(lean, [], estimator) == hours


def test_further_seeds_of_the_short_trainings_cost_a_small_part_of_a_run(
    settings: Settings, estimator: Estimator
) -> None:
    hours = {run: estimator.training(run) for run in settings.runs}
    short = [cost for run, cost in hours.items() if run.pair == "qwen3_from_qwen25_mmlu"]
    (long,) = [cost for run, cost in hours.items() if run.path == "qwen3_from_qwen25/c2c/span/seed42"]
    assert len(short) == 6 and max(short) < 0.05 * long


def test_routing_is_timed_as_one_answer_and_half_of_a_second(settings: Settings, estimator: Estimator) -> None:
    run = settings.timed_fusers["qwen3_from_qwen25"]

    def hours(*methods: str) -> float:
        timed = with_config(settings, latency={**settings.config["latency"], "methods": methods})
        return replace(estimator, settings=timed).latency(run)

    assert hours("routing") == pytest.approx(hours("receiver") + hours("sharer") / 2)
