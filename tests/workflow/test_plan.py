from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c2c.cli.main import main as c2c
from c2c.errors import RefusedError
from c2c.training.operations import example_operations
from paper.reading.reference import Reference
from workflow.config import FROZEN
from workflow.kinds.latent import latent_names, latent_pairs
from workflow.kinds.pairs import fused_job
from workflow.kinds.steps import kept_steps
from workflow.load import load_settings
from workflow.plan import report
from workflow.plan.choices import ENOUGH_STEPS, ChoiceCost, choice_costs, choices, with_frozen
from workflow.plan.costs import ESTIMATED, TIMED, UNKNOWN, StageCost, hours_by_device, stage_costs, wall_hours
from workflow.plan.devices import PAPER_DEVICE, Measurement, device_of, read_devices, read_measurement, speed_of
from workflow.plan.report import paper_total, plan_lines
from workflow.plan.stages import Estimator, Timing, job_counts
from workflow.scales import read_config
from workflow.settings import FuserTraining, Settings
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]

RELEASED = "answer_released"

ConfigOf = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(read_config("paper", folder=ROOT / "config"), ROOT)


@pytest.fixture(scope="module")
def costs(settings: Settings, estimator: Estimator) -> list[StageCost]:
    return stage_costs(settings, [], estimator)


@pytest.fixture(scope="module")
def choice_rows(settings: Settings, estimator: Estimator) -> list[ChoiceCost]:
    return choice_costs(settings, [], estimator, 8)


@pytest.fixture(scope="module")
def estimator(settings: Settings) -> Estimator:
    return Estimator(settings, Reference(), read_table(ROOT / "config" / "sizes.tsv"), read_devices(ROOT))


def with_config(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, config={**settings.config, **changes})


def fused_once(estimator: Estimator, pair: str) -> float:
    """Hours in which the Fusers of a pair answer everything by one method."""
    job = fused_job(estimator.settings, FuserTraining(pair, "c2c", "span", 42))
    return estimator.hours_of(estimator.answering(replace(job, methods=("c2c",))))


def training_hours(estimator: Estimator, pair: str, recipe: str = "c2c") -> float:
    """Hours of one training of a pair's Fusers, alone."""
    return estimator.hours_of(estimator.training(FuserTraining(pair, recipe, "span", 42)))


def test_hours_of_the_paper_are_those_that_table_12_prints(estimator: Estimator) -> None:
    hours = estimator.paper_hours("qwen3_from_llama32")
    assert hours[300] == 8.44 and hours[1929] == 54.24
    assert estimator.paper_hours("qwen3_from_llama32", "receiver") == {}
    assert estimator.paper_hours("qwen3_from_qwen25_mmlu") == {}


def test_the_first_pair_takes_what_it_took_the_paper_and_half_the_steps_take_half(estimator: Estimator) -> None:
    printed = estimator.paper_hours("qwen3_from_qwen25")[1929]
    assert training_hours(estimator, "qwen3_from_qwen25") == pytest.approx(printed)
    half = {**estimator.settings.config["training"], "steps": 1929 // 2}
    shorter = replace(estimator, settings=with_config(estimator.settings, training=half))
    assert training_hours(shorter, "qwen3_from_qwen25") == pytest.approx(printed * (1929 // 2) / 1929)


@pytest.mark.parametrize("pair", ["qwen3_from_llama32", "qwen3_from_qwen3_4b_base"])
def test_the_count_agrees_better_with_table_12_than_one_that_charges_every_token_with_everything(
    estimator: Estimator, pair: str
) -> None:
    def all_tokens(pair: str) -> float:
        receiver, sharer = estimator.weights(pair)
        return 2 * sharer + 4 * receiver + 6 * estimator.fusers(pair)

    (printed,) = (hours for step, hours in estimator.paper_hours(pair).items() if step == 1929)
    crude = estimator.paper_hours("qwen3_from_qwen25")[1929] * all_tokens(pair) / all_tokens("qwen3_from_qwen25")
    assert abs(training_hours(estimator, pair) - printed) < abs(crude - printed)


def test_the_estimate_for_a_sharer_of_like_size_agrees_with_the_hours_that_the_paper_prints(
    estimator: Estimator,
) -> None:
    printed = estimator.paper_hours("qwen3_from_llama32")[1929]
    assert training_hours(estimator, "qwen3_from_llama32") == pytest.approx(printed, rel=0.1)


def test_the_prompt_is_read_by_both_models_and_the_answer_goes_through_the_receiver_twice() -> None:
    example = example_operations(prompt=3, answer=5, receiver=7, sharer=11, fusers=13)
    assert example.reading == 3 * (2 * 11 + 2 * 7)
    assert example.learning == 3 * 6 * 13 + 5 * 4 * 7
    assert example.total == example.reading + example.learning
    again = example_operations(3, 5, 7, 11, 13, recomputed=True)
    assert again.learning - example.learning == 3 * 2 * 13


def test_an_adapter_needs_no_sharer(estimator: Estimator) -> None:
    pair = "qwen3_from_qwen25"
    c2c_run, adapter = (FuserTraining(pair, recipe, "span", 42) for recipe in ("c2c", "adapter"))
    saved = estimator.training_example(c2c_run).total - estimator.training_example(adapter).total
    prompt = estimator.sizes["openhermes"]["prompt_tokens"]
    assert saved == pytest.approx(2 * prompt * estimator.weights(pair)[1])


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
        assert (line[2] == "–") == (stage.operations is None)


def test_fine_tuning_costs_three_times_a_reading_of_its_tokens(estimator: Estimator) -> None:
    tokens = 1929 * 256 * 500
    assert estimator.operations("train_single") == pytest.approx(3 * 2 * 596e6 * tokens)


def test_published_fusers_are_asked_three_times_and_half_of_them_take_half(estimator: Estimator) -> None:
    def hours(*names: str) -> float:
        return replace(estimator, settings=with_config(estimator.settings, released=list(names))).hours(RELEASED) or 0

    once = fused_once(estimator, "qwen3_from_qwen25")
    assert hours("qwen25_05b") == pytest.approx(3 * once)
    assert hours("qwen25_05b", "llama32_1b") == pytest.approx(hours("qwen25_05b") + hours("llama32_1b"))


def test_the_oracle_reads_its_examples_once_for_each_layer_and_choice(estimator: Estimator) -> None:
    asked = estimator.sizes["mmlu_redux"]
    tokens = asked["lines"] * (6 * asked["prompt_tokens"] + asked["answer_tokens"])
    assert estimator.operations("enrich_caches") == pytest.approx(2 * 1721e6 * tokens * (3 + 28 + 4 * 10))


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


def test_operations_are_stated_where_time_follows_from_them_alone(costs: list[StageCost], estimator: Estimator) -> None:
    without = {stage.name for stage in costs if stage.operations is None}
    assert without == {"tokenise_training_set", "measure_latency"}
    for stage in costs:
        if stage.operations is not None:
            assert stage.hours == pytest.approx(estimator.hours_of(stage.operations))


def test_hours_of_a_stage_are_those_of_its_jobs(costs: list[StageCost], estimator: Estimator) -> None:
    for stage in costs:
        assert len(stage.job_hours or []) == stage.jobs
        assert stage.hours == pytest.approx(estimator.hours(stage.name))


# Devices -------------------------------------------------------------------------------------------------------------


def test_hours_shrink_as_the_peak_of_the_device_grows(estimator: Estimator) -> None:
    peaks = {device: row["peak_tflops"] for device, row in estimator.devices.items()}
    hours = {device: training_hours(replace(estimator, device=device), "qwen3_from_qwen25") for device in peaks}
    assert hours[PAPER_DEVICE] == pytest.approx(training_hours(estimator, "qwen3_from_qwen25"))
    for device, peak in peaks.items():
        assert hours[device] * peak == pytest.approx(hours[PAPER_DEVICE] * peaks[PAPER_DEVICE])


def test_a_measured_training_step_replaces_the_papers_speed_and_its_share_holds_on_another_device(
    estimator: Estimator,
) -> None:
    measured = replace(estimator, measurement=Measurement("NVIDIA H100 80GB HBM3", 200.0))
    assert (measured.speed.device, measured.speed.tflops, measured.speed.measured) == ("h100", 200.0, True)
    other = replace(measured, device="a100").speed
    assert other.share == pytest.approx(measured.speed.share) and other.measured
    assert not estimator.speed.measured
    assert "no training step was timed" in " ".join(estimator.assumptions())
    assert "no training step was timed" not in " ".join(measured.assumptions())


def test_a_speed_in_the_table_of_devices_counts_unless_another_is_measured(estimator: Estimator) -> None:
    devices = {**estimator.devices, "h100": {**estimator.devices["h100"], "measured_tflops": 150.0}}
    assert speed_of("h100", devices, 5.0).tflops == 150.0
    assert speed_of("h100", devices, 5.0, Measurement("NVIDIA H100 80GB HBM3", 200.0)).tflops == 200.0
    assert not speed_of("h200", devices, 5.0).measured


def test_a_gpu_is_of_the_first_class_whose_name_is_a_part_of_its_own(estimator: Estimator) -> None:
    names = {
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA H100 PCIe": "h100_pcie",
        "NVIDIA H200 NVL": "h200_nvl",
        "NVIDIA A800-SXM4-80GB": "a800",
    }
    assert {name: device_of(name, estimator.devices) for name in names} == names
    assert device_of("Tesla V100", estimator.devices) is None


def test_the_speed_of_an_unknown_gpu_is_refused(estimator: Estimator) -> None:
    with pytest.raises(RefusedError, match="device of a measured speed must be a row"):
        speed_of("", estimator.devices, 5.0, Measurement("Intel(R) Xeon(R)", 0.01))


def test_a_measurement_is_the_median_over_steps_of_our_training(tmp_path: Path) -> None:
    step = {"part": "training", "way": "live", "operations": 6e12}
    rows = [{**step, "wall_s": seconds} for seconds in (1.0, 2.0, 6.0)]
    rows += [{**step, "way": "reference order", "wall_s": 100.0}, {"part": "fusion", "way": "live"}]
    path = tmp_path / "speed.json"
    path.write_text(json.dumps({"settings": {"device": "NVIDIA H200"}, "rows": rows}))
    assert read_measurement(path) == Measurement("NVIDIA H200", 3.0)


@pytest.mark.parametrize("record", [{}, [], {"settings": {"device": "x"}, "rows": []}, {"rows": 3}])
def test_a_file_without_timed_training_steps_is_no_measurement(tmp_path: Path, record: Any) -> None:
    (path := tmp_path / "speed.json").write_text(json.dumps(record))
    with pytest.raises(RefusedError, match="measured speed must hold"):
        read_measurement(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "h1000"], "Did you mean 'h100'"),
        (["--gpus", "0"], "--gpus must be at least 1"),
        (["--speed", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_wrong_device_number_or_measurement_is_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(ROOT)
    assert report.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_plan_of_a_device_and_of_gpus_that_jobs_share_is_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(ROOT)
    assert c2c(["plan", "--device", "h200", "--gpus", "4"]) == 0
    text = capfd.readouterr().out
    assert "one H200" in text and "wall hours on 4 GPUs" in text


# GPUs that jobs share ------------------------------------------------------------------------------------------------


def cost_of(job_hours: list[float], gpus: int = 1) -> StageCost:
    return StageCost("train_fuser", len(job_hours), None, job_hours, gpus, None, None, ESTIMATED)


def test_wall_hours_are_those_of_the_fullest_gpu_and_never_less_than_the_longest_job() -> None:
    assert wall_hours([cost_of([3, 1, 2, 2])], 1) == 8
    assert wall_hours([cost_of([3, 1, 2, 2])], 2) == 4
    assert wall_hours([cost_of([3, 1]), cost_of([2, 2])], 8) == 3
    assert wall_hours([cost_of([3, 3], gpus=4)], 8) == 3
    assert wall_hours([cost_of([3, 3], gpus=8)], 8) == 6
    assert wall_hours([cost_of([5, 5], gpus=0)], 8) == 0


def test_more_gpus_never_take_longer(settings: Settings, costs: list[StageCost], estimator: Estimator) -> None:
    hours = [wall_hours(costs, gpus) for gpus in (1, 2, 8, 1000)]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] == pytest.approx(hours_by_device(costs)[True])
    assert hours[-1] == max(hour for stage in costs if stage.gpus for hour in stage.job_hours or [])
    text = "\n".join(plan_lines(settings, [], estimator, 8))
    assert re.search(rf"wall hours on 8 GPUs: +{hours[2]:.1f}$", text, flags=re.MULTILINE)


# Choices -------------------------------------------------------------------------------------------------------------


def training_operations(estimator: Estimator, frozen: str) -> float:
    """Operations of all trainings of Fusers that read the frozen models in one way."""
    chosen = replace(estimator, settings=with_frozen(estimator.settings, frozen))
    return sum(chosen.operations(name) or 0 for name in ("store_states", "train_fuser", "train_together"))


def test_trainings_that_share_passes_of_frozen_models_save_those_passes_alone(estimator: Estimator) -> None:
    together = with_frozen(estimator.settings, "together")
    shared = replace(estimator, settings=together)
    for runs in together.trained_together.values():
        reading = [estimator.trained_examples(run) * estimator.training_example(run).reading for run in runs]
        live = sum(estimator.training(run) for run in runs)
        assert shared.together(runs) == pytest.approx(live - sum(reading) + max(reading))
    assert training_operations(estimator, "together") < training_operations(estimator, "live")


def test_states_of_a_set_are_computed_once_for_all_of_its_examples(estimator: Estimator) -> None:
    run = FuserTraining("qwen3_from_qwen25_mmlu", "c2c", "span", 42)
    stored = replace(estimator, settings=with_frozen(estimator.settings, "stored"))
    (folder,) = (name for name in stored.settings.states_folders if name.startswith(f"{run.pair}/"))
    example = estimator.training_example(run)
    assert stored.storing(folder) == pytest.approx(estimator.sizes["mmlu_aux"]["lines"] * example.reading)
    assert stored.training(run) == estimator.trained_examples(run) * example.learning


def test_twice_the_prompts_take_twice_the_room(estimator: Estimator) -> None:
    stored = replace(estimator, settings=with_frozen(estimator.settings, "stored"))
    folder = stored.settings.states_folders[0]
    row = {**estimator.sizes["openhermes"], "lines": 2 * estimator.sizes["openhermes"]["lines"]}
    double = replace(stored, sizes={**estimator.sizes, "openhermes": row})
    assert double.states_gb(folder) == pytest.approx(2 * stored.states_gb(folder))
    assert stored.disk_gb("store_states") == sum(map(stored.states_gb, stored.settings.states_folders))


def test_each_choice_costs_less_than_the_one_before(choice_rows: list[ChoiceCost]) -> None:
    for way in ("live", "together"):
        hours = [row.gpu_hours[way] for row in choice_rows]
        assert hours == sorted(hours, reverse=True) and len({*hours}) == len(choice_rows)
    assert [row.trainings for row in choice_rows][-1] == 0
    assert all(row.gpu_hours["together"] <= row.gpu_hours["live"] for row in choice_rows)
    for row in choice_rows:
        for way in FROZEN:
            assert row.wall_hours[way] >= row.gpu_hours[way] / 8 - 1e-6


def test_the_first_choice_is_the_plan_itself_whether_lean_or_not(
    settings: Settings, costs: list[StageCost], choice_rows: list[ChoiceCost]
) -> None:
    whole = choice_rows[0]
    assert whole.gpu_hours["live"] == pytest.approx(hours_by_device(costs)[True])
    assert whole.trainings == len(settings.runs)
    assert next(iter(choices(with_config(settings, lean=True)).values())).runs == settings.runs


def test_a_choice_costs_what_the_plan_of_its_config_does(
    settings: Settings, estimator: Estimator, choice_rows: list[ChoiceCost]
) -> None:
    lean = with_frozen(list(choices(settings).values())[1], "together")
    own = stage_costs(lean, [], replace(estimator, settings=lean))
    assert choice_rows[1].gpu_hours["together"] == pytest.approx(hours_by_device(own)[True])
    assert choice_rows[1].wall_hours["together"] == pytest.approx(wall_hours(own, 8))


def test_a_lean_run_has_one_seed_a_training(settings: Settings) -> None:
    _, lean, short, released = choices(settings).values()
    trainings = {(run.pair, run.recipe, run.alignment) for run in settings.runs}
    assert len(lean.runs) == len(trainings) < len(settings.runs)
    steps = [short.training_of(run.pair, run.recipe, run.alignment)["steps"] for run in short.runs]
    whole = [settings.training_of(run.pair, run.recipe, run.alignment)["steps"] for run in short.runs]
    assert steps == [min(number, ENOUGH_STEPS) for number in whole]
    assert all(step < ENOUGH_STEPS for _, step in kept_steps(short))
    assert job_counts(released) == {
        "answer_baselines": len(released.used_pairs),
        "answer_released": len(settings.config["released"]),
    }


def test_enough_steps_are_steps_of_table_12(estimator: Estimator) -> None:
    for pair in ("qwen3_from_qwen25", "qwen3_from_llama32", "qwen3_from_qwen3_4b_base"):
        assert ENOUGH_STEPS in estimator.paper_hours(pair)


def test_the_plan_lists_every_choice(settings: Settings, estimator: Estimator, choice_rows: list[ChoiceCost]) -> None:
    text = "\n".join(plan_lines(settings, [], estimator))
    assert "training.frozen" in text
    for row in choice_rows:
        (line,) = (line for line in text.splitlines() if line.startswith(f"{row.name}  "))
        assert line.split()[-len(FROZEN) :] == [f"{row.gpu_hours[way]:.1f}" for way in FROZEN]


def test_further_seeds_of_the_short_trainings_cost_a_small_part_of_a_run(
    settings: Settings, estimator: Estimator
) -> None:
    hours = {run: estimator.hours_of(estimator.training(run)) for run in settings.runs}
    short = [cost for run, cost in hours.items() if run.pair == "qwen3_from_qwen25_mmlu"]
    (long,) = [cost for run, cost in hours.items() if run.path == "qwen3_from_qwen25/c2c/span/seed42"]
    assert len(short) == 6 and max(short) < 0.05 * long


def test_routing_is_timed_as_one_answer_and_half_of_a_second(settings: Settings, estimator: Estimator) -> None:
    run = settings.timed_fusers["qwen3_from_qwen25"]

    def hours(*methods: str) -> float:
        timed = with_config(settings, latency={**settings.config["latency"], "methods": methods})
        return replace(estimator, settings=timed).latency(run)

    assert hours("routing") == pytest.approx(hours("receiver") + hours("sharer") / 2)
