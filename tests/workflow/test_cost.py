from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from workflow.load import load_settings
from workflow.plan.report import statement
from workflow.plan.stages import STAGES, Timing, job_counts, measure, read_timings, write_timings

ROOT = Path(__file__).resolve().parents[2]


def timed_job(results: Path, path: str, seconds: float, memory: str = "500.0") -> None:
    file = results / "benchmarks" / f"{path}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")


def test_timings_are_means_over_the_jobs_of_a_rule_with_what_they_wrote(tmp_path: Path) -> None:
    results = tmp_path / "laptop"
    timed_job(results, "train_fuser/a/c2c/span/seed0", 60)
    timed_job(results, "train_fuser/a/c2c/span/seed1", 180, memory="NA")
    folder = results / "fusers/a/c2c/span/seed0"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    assert measure(results) == [Timing("laptop", "train_fuser", 2, 2.0, 500.0, 1.0)]


def test_each_kind_of_answers_is_timed_by_itself(tmp_path: Path) -> None:
    jobs = {
        "gap_a/baselines": "answer_baselines",
        "gap_a/c2c/span/seed0": "answer_fused",
        "gap_a/c2c/span/seed0.step25": "answer_kept",
        "groups/gap_halves/parallel/span/seed0": "answer_groups",
        "latent/gap_latent/pairs/gap_first/span/seed0": "answer_latent",
        "latent/gap_latent/groups/gap_halves/sequential/span/seed0": "answer_latent_groups",
        "single/gap_a/span/seed0": "answer_single",
        "agents/gap_a": "answer_agents",
        "released/qwen25_05b": "answer_released",
    }
    for seconds, job in enumerate(jobs, start=1):
        timed_job(tmp_path, f"answer_questions/{job}", 60 * seconds)
    minutes = {timing.stage: timing.minutes for timing in measure(tmp_path)}
    assert minutes == {stage: float(number) for number, stage in enumerate(jobs.values(), start=1)}


def test_rules_that_are_over_in_seconds_are_not_among_the_timings(tmp_path: Path) -> None:
    results = tmp_path / "laptop"
    timed_job(results, "measure_latency/a", 60)
    timed_job(results, "tabulate_main", 1)
    timed_job(results, "draw_gates", 2)
    assert [timing.stage for timing in measure(results)] == ["measure_latency"]


def test_a_folder_without_timed_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="timed jobs"):
        measure(tmp_path)


def test_new_timings_replace_those_of_their_scale_and_keep_the_others(tmp_path: Path) -> None:
    path = tmp_path / "timings.csv"
    write_timings([Timing("smoke", "train_fuser", 1, 1.0, 2.0, 3.0), Timing("laptop", "old", 1, 1.0, 2.0, 3.0)], path)
    write_timings([Timing("laptop", "train_fuser", 4, 9.5, 2.0, 3.0)], path)
    assert read_timings(path) == [
        Timing("laptop", "train_fuser", 4, 9.5, 2.0, 3.0),
        Timing("smoke", "train_fuser", 1, 1.0, 2.0, 3.0),
    ]


def test_the_statement_multiplies_jobs_by_their_mean_time_and_names_what_was_never_timed(
    config_of: Callable[[str], dict[str, Any]],
) -> None:
    settings = load_settings(config_of("laptop"), ROOT)
    runs = job_counts(settings)["train_fuser"]
    text = statement(settings, [Timing("laptop", "train_fuser", 2, 30.0, 4000.0, 100.0)])
    assert f"train_fuser {runs}" in text
    assert f"{runs * 0.5:.1f} hours of jobs" in text and "4.0 GB of memory" in text
    assert "Not timed at this scale yet" in text and "answer_fused" in text.split("Not timed")[1]


def test_gpu_hours_of_the_statement_count_every_gpu_of_a_job(config_of: Callable[[str], dict[str, Any]]) -> None:
    settings = load_settings({**config_of("paper"), "gpus_per_job": 4}, ROOT)
    jobs = job_counts(settings)
    rows = [Timing("paper", name, 2, 30.0, 4000.0, 100.0) for name in ("train_fuser", "tokenise_training_set")]
    text = statement(settings, rows)
    assert f"{4 * jobs['train_fuser'] * 0.5:.1f} GPU hours" in text
    assert f"{jobs['tokenise_training_set'] * 0.5:.1f} hours of jobs without a GPU" in text


def test_timings_of_another_scale_say_nothing(config_of: Callable[[str], dict[str, Any]]) -> None:
    settings = load_settings(config_of("laptop"), ROOT)
    assert "hours of jobs" not in statement(settings, [Timing("smoke", "train_fuser", 2, 30.0, 4000.0, 100.0)])


def test_every_kind_of_job_of_the_smoke_scale_was_timed_and_none_that_it_does_not_have(
    config_of: Callable[[str], dict[str, Any]],
) -> None:
    timings = {timing.stage: timing.jobs for timing in read_timings() if timing.scale == "smoke"}
    counts = job_counts(load_settings(config_of("smoke"), ROOT))
    assert timings.keys() == counts.keys()
    assert all(timings[stage] <= counts[stage] for stage in counts)


def test_jobs_of_the_statement_are_those_that_snakemake_plans(
    config_of: Callable[[str], dict[str, Any]], run_snakemake: Callable[..., Any]
) -> None:
    counts = job_counts(load_settings(config_of("smoke"), ROOT))
    planned = run_snakemake("--profile", "smoke", "--dry-run", "--nolock", "--forceall", "--quiet", "rules").stdout
    rows = dict(line.split() for line in planned.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    planned_counts: dict[str, int] = {}
    for name, count in counts.items():
        planned_counts[STAGES[name].rule] = planned_counts.get(STAGES[name].rule, 0) + count
    assert {rule: int(rows[rule]) for rule in planned_counts} == planned_counts
