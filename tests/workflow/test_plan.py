from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c2c.cli import main as c2c
from c2c.errors import RefusedError
from paper.reference import Reference
from workflow.cost import Timing, job_counts
from workflow.estimate import Assumptions, Estimator, paper_hours
from workflow.plan import ESTIMATED, TIMED, UNKNOWN, paper_total, read_config, stages, written
from workflow.settings import Run, Settings, load_settings
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]
QWEN, LLAMA = "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B-Instruct"

ConfigOf = Callable[[str], dict[str, Any]]


@pytest.fixture
def settings(config_of: ConfigOf) -> Settings:
    return load_settings(config_of("paper"), ROOT)


@pytest.fixture
def estimator(settings: Settings) -> Estimator:
    return Estimator(settings, Reference(), read_table(ROOT / "config" / "sizes.tsv"))


def with_config(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, config={**settings.config, **changes})


def test_hours_of_the_paper_are_those_that_table_12_prints() -> None:
    hours = paper_hours(Reference(), QWEN, LLAMA)
    assert hours[300] == 8.44 and hours[1929] == 54.24
    assert paper_hours(Reference(), QWEN, QWEN) == {}


def test_the_first_pair_takes_what_it_took_the_paper_and_half_the_steps_take_half(estimator: Estimator) -> None:
    run = Run("qwen3_from_qwen25", "c2c", "span", 42)
    assert estimator.training(run) == pytest.approx(44.72)
    half = {**estimator.settings.config["training"], "steps": 1929 // 2}
    shorter = replace(estimator, settings=with_config(estimator.settings, training=half))
    assert shorter.training(run) == pytest.approx(44.72 * (1929 // 2) / 1929)


def test_the_estimate_for_another_sharer_agrees_with_the_hours_that_the_paper_prints(estimator: Estimator) -> None:
    estimate = estimator.training(Run("qwen3_from_llama32", "c2c", "span", 42))
    assert estimate == pytest.approx(54.24, rel=0.1)


def test_twice_the_questions_take_twice_the_hours(estimator: Estimator) -> None:
    def sampled(number: int) -> float:
        return replace(estimator, settings=with_config(estimator.settings, sample=number)).hours("generate_fused") or 0

    assert sampled(200) == pytest.approx(2 * sampled(100))
    assert 0 < sampled(200) < (estimator.hours("generate_fused") or 0)


def test_hours_of_tokenising_are_lines_by_rate(estimator: Estimator) -> None:
    slow = replace(estimator, assumptions=Assumptions(lines_per_second=100.0))
    runs = {(run.pair, run.recipe == "identical", run.alignment) for run in estimator.settings.runs}
    lines = sum(estimator.sizes[estimator.settings.pairs[pair]["training_set"]]["lines"] for pair, *_ in runs)
    assert lines > 6 * 500000
    assert slow.hours("tokenise_training_set") == pytest.approx(lines / 100 / 3600)


def test_each_kept_step_is_asked_as_its_fuser_is(estimator: Estimator) -> None:
    kept = [
        run for run in estimator.settings.runs if any(f"{run.path}.step" in p for p in estimator.settings.kept_steps)
    ]
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
    assert few.hours("generate_kept") == pytest.approx(4 * (few.hours("generate_fused") or 0))


def test_a_teacher_writes_more_slowly_the_larger_it_is(estimator: Estimator) -> None:
    models = {**estimator.settings.models}
    models["qwen3_4b"] = {**models["qwen3_4b"], "parameters_m": 2 * models["qwen3_4b"]["parameters_m"]}
    larger = replace(estimator, settings=replace(estimator.settings, models=models))
    before = estimator.hours("write_teacher_answers") or 0
    assert before > 0 and larger.hours("write_teacher_answers") == pytest.approx(2 * before)


def test_a_rule_or_data_of_which_nothing_is_known_has_no_estimate(estimator: Estimator) -> None:
    assert estimator.hours("unheard_of") is None
    assert replace(estimator, sizes={"openhermes": estimator.sizes["openhermes"]}).hours("generate_fused") is None


def test_timed_jobs_replace_the_estimate(settings: Settings, estimator: Estimator) -> None:
    timings = [Timing("paper", "train_fuser", 2, 90.0, 50000.0, 2000.0), Timing("smoke", "generate_fused", 1, 1, 1, 1)]
    found = {stage.rule: stage for stage in stages(settings, timings, estimator)}
    assert {rule: stage.jobs for rule, stage in found.items()} == job_counts(settings)
    training = found["train_fuser"]
    jobs = len(settings.runs)
    assert (training.basis, training.hours) == (TIMED, jobs * 1.5)
    assert (training.memory_gb, training.disk_gb) == (50.0, jobs * 2.0)
    assert found["generate_fused"].basis == ESTIMATED and found["tokenise_training_set"].gpus == 0


def test_nothing_is_estimated_for_a_machine_without_a_gpu(config_of: ConfigOf) -> None:
    laptop = load_settings(config_of("laptop"), ROOT)
    found = {stage.rule: stage for stage in stages(laptop, [], Estimator.of(laptop, ROOT))}
    assert found["train_fuser"].basis == UNKNOWN and found["train_fuser"].hours is None


def test_gpu_hours_count_every_gpu_of_a_job_and_the_papers_hours_stand_beside(settings: Settings) -> None:
    timings = [Timing("paper", rule, 1, 60.0, 1000.0, 1.0) for rule in job_counts(settings)]
    four = with_config(settings, gpus_per_job=4)
    jobs = sum(number for rule, number in job_counts(four).items() if rule != "tokenise_training_set")
    lines = [line.split() for line in written(four, timings, Estimator.of(four, ROOT))]
    assert ["GPU", "hours:", f"{4 * jobs:.1f}"] in lines
    paper, known = paper_total(settings, Estimator.of(settings, ROOT))
    (said,) = (line for line in lines if line[:4] == ["the", "paper", "(Table", "12):"])
    assert known and float(said[4]) == round(paper, 1)


def test_estimates_are_marked_with_what_they_take_for_granted(settings: Settings, estimator: Estimator) -> None:
    text = "\n".join(written(settings, [], estimator))
    assert "so these are estimates" in text and "200 examples a second" in text
    timed = [Timing("paper", rule, 1, 60.0, 1000.0, 1.0) for rule in job_counts(settings)]
    assert "estimate" not in "\n".join(written(settings, timed, estimator))


def test_a_scale_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(RefusedError, match=r"papr.*paper"):
        read_config("papr", folder=ROOT / "config")


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
