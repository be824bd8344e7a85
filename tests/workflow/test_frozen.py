"""When the frozen models of a training run: live, stored, or together with the trainings of a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from c2c.errors import RefusedError
from c2c.training.memory import MEMO_MB
from workflow.checks import check_settings
from workflow.config import FROZEN
from workflow.load import load_settings
from workflow.place_fuser import place
from workflow.plan.stages import Estimator
from workflow.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

ConfigOf = Callable[[str], dict[str, Any]]
Runner = Callable[..., Any]


def with_training(settings: Settings, **changes: Any) -> Settings:
    config = dict(settings.config)
    return replace(settings, config={**config, "training": {**config["training"], **changes}})


@pytest.fixture
def smoke(config_of: ConfigOf) -> Settings:
    return load_settings(config_of("smoke"), ROOT)


@pytest.fixture
def paper(config_of: ConfigOf) -> Settings:
    return load_settings(config_of("paper"), ROOT)


@pytest.mark.parametrize("frozen", FROZEN)
def test_a_dry_run_plans_the_jobs_of_each_choice(frozen: str, tmp_path: Path, run_snakemake: Runner, smoke) -> None:
    choice = tmp_path / "choice.yaml"
    choice.write_text(yaml.safe_dump({"scale": "chosen", "training": {"frozen": frozen, "order_seed": 0}}))
    files = ["config/config.yaml", "config/smoke.yaml", str(choice)]
    done = run_snakemake("-n", "--quiet", "rules", "--cores", "1", "--configfile", *files)
    assert done.returncode == 0, done.stdout
    counts = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines() if len(line.split()) == 2
              and line.split()[1].isdigit()}  # fmt: skip
    chosen = with_training(smoke, frozen=frozen)
    assert counts.get("train_fuser", 0) == (0 if frozen == "together" else len(smoke.runs))
    assert counts.get("store_states", 0) == len(chosen.states_folders)
    assert counts.get("train_together", 0) == len(chosen.trained_together)
    assert counts.get("place_fuser", 0) == (len(smoke.runs) if frozen == "together" else 0)


def test_fusers_of_one_tokenised_set_share_one_job_or_one_folder_of_states(smoke: Settings) -> None:
    together, stored = (with_training(smoke, frozen=frozen) for frozen in ("together", "stored"))
    folders = {smoke.tokenised(run.pair, run.recipe, run.alignment) for run in smoke.runs}
    assert together.trained_together.keys() == folders
    assert sum(map(len, together.trained_together.values())) == len(smoke.runs)
    assert together.trained_alone == [] and stored.trained_alone == smoke.runs
    assert {folder.rpartition("/")[0] for folder in stored.states_folders} == folders
    assert smoke.states_folders == []


def test_an_entry_of_runs_may_choose_for_its_fusers_alone(smoke: Settings) -> None:
    first, *others = smoke.config["runs"]
    entry = {**first, "training": {**first.get("training", {}), "frozen": "stored"}}
    chosen = replace(smoke, config={**smoke.config, "runs": [entry, *others]})
    assert chosen.states(entry["pair"], entry["recipe"], entry["alignment"])
    assert len(chosen.states_folders) == 1


@pytest.mark.parametrize("frozen", FROZEN)
def test_the_choice_is_no_setting_of_the_training(smoke: Settings, frozen: str) -> None:
    run = smoke.runs[0]
    expected = smoke.training_of(run.pair, run.recipe, run.alignment)
    chosen = with_training(smoke, frozen=frozen, states_gb=3.0)
    assert chosen.training_of(run.pair, run.recipe, run.alignment) == expected


def test_fusers_that_train_together_must_share_an_order(smoke: Settings) -> None:
    with pytest.raises(RefusedError, match="must have an order_seed"):
        check_settings(with_training(smoke, frozen="together"), ROOT)
    check_settings(with_training(smoke, frozen="together", order_seed=0), ROOT)


def test_fusers_that_train_together_do_not_measure_the_memory_that_they_share(smoke: Settings) -> None:
    auto = {"order_seed": 0, "micro_batch_tokens": "auto"}
    check_settings(with_training(smoke, frozen="live", **auto), ROOT)
    with pytest.raises(RefusedError, match="must have a number of micro_batch_tokens"):
        check_settings(with_training(smoke, frozen="together", **auto), ROOT)


@pytest.mark.parametrize("name", ["batch_size", "micro_batch_tokens"])
def test_fusers_that_train_together_must_have_batches_of_one_size(smoke: Settings, name: str) -> None:
    first, *others = smoke.config["runs"]
    entries = [
        {**entry, "training": {**entry.get("training", {}), name: 32}}
        if (entry["pair"], entry["recipe"]) in {("gap_a", "c2c"), ("gap_a", "adapter")}
        else entry
        for entry in [first, *others]
    ]
    chosen = with_training(smoke, frozen="together", order_seed=0)
    with pytest.raises(RefusedError, match=f"must have the same {name}"):
        check_settings(replace(chosen, config={**chosen.config, "runs": entries}), ROOT)


def test_a_fuser_is_placed_with_all_that_its_training_wrote_and_takes_no_more_room(tmp_path: Path) -> None:
    source, output = tmp_path / "together" / "seed0", tmp_path / "fusers" / "seed0"
    for path in (source / "model.safetensors", source.with_name("seed0.steps") / "step1" / "config.json"):
        path.parent.mkdir(parents=True)
        path.write_text("weights")
    (output / "stale").mkdir(parents=True)
    with pytest.raises(RefusedError, match="must be trained before it is placed"):
        place(source, output)
    source.with_name("seed0.provenance.json").write_text("{}")
    place(source, output)
    assert not (output / "stale").exists()
    assert (output / "model.safetensors").samefile(source / "model.safetensors")
    assert (output.with_name("seed0.steps") / "step1" / "config.json").read_text() == "weights"
    assert output.with_name("seed0.provenance.json").is_file()


def hours(settings: Settings, *stages: str) -> float:
    estimator = Estimator.of(settings)
    return sum(estimator.hours(stage) or 0 for stage in stages)


def test_stored_states_and_training_together_cost_fewer_hours_than_live_training(paper: Settings) -> None:
    live = hours(paper, "train_fuser")
    stored, together = (with_training(paper, frozen=frozen) for frozen in ("stored", "together"))
    assert hours(stored, "train_fuser") < hours(together, "train_together") < live
    assert 0 < hours(stored, "store_states") < live
    assert hours(together, "train_fuser") == hours(paper, "store_states", "train_together") == 0


def test_the_plan_has_the_size_of_stored_states(paper: Settings) -> None:
    stored = with_training(paper, frozen="stored")
    folder = next(name for name in stored.states_folders if name.startswith("qwen3_from_qwen25/"))
    estimator = Estimator.of(stored)
    sharer, receiver = stored.pair_sizes("qwen3_from_qwen25")
    row = estimator.sizes["openhermes"]
    expected = row["lines"] * row["prompt_tokens"] * (sharer.cached + receiver.cached) * 2 / 1e9
    assert estimator.states_gb(folder) == pytest.approx(expected)
    assert (estimator.disk_gb("store_states") or 0) > expected


def test_memory_follows_the_choice(smoke: Settings) -> None:
    run = smoke.runs[0]
    live = smoke.training_mb(run.pair, run.recipe, run.alignment)
    stored = with_training(smoke, frozen="stored").training_mb(run.pair, run.recipe, run.alignment)
    sharer, _ = smoke.pair_sizes(run.pair)
    assert live - stored == pytest.approx(4 * sharer.parameters / 1e6, abs=1)
    assert smoke.together_mb([run]) == live + MEMO_MB
    assert smoke.together_mb([run, run]) > smoke.together_mb([run])
