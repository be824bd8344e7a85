from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "data/benchmarks/gap_words.jsonl": "--task words --seed 0 --test 500",
    "data/benchmarks/gap_skill.jsonl": "--task skill --seed 0 --test 600",
    "data/training/gap_private_line_unseen/validation.jsonl": "--validation-values unseen",
}


@pytest.mark.slow
def test_gap_benchmarks_and_training_sets_are_planned_with_their_sizes_and_seed(
    run_snakemake: Callable[..., Any],
) -> None:
    targets = [f"results/laptop/{target}" for target in TARGETS]
    planned = run_snakemake("--profile", "laptop", "--dry-run", "--nolock", "--forceall", "--printshellcmds", *targets)
    assert planned.returncode == 0, planned.stdout
    for settings in TARGETS.values():
        assert settings in planned.stdout


def test_a_training_set_on_unseen_values_has_the_splits_of_the_benchmark_it_is_for(
    config_of: Callable[[str], dict[str, Any]],
) -> None:
    data = load_settings(config_of("laptop"), ROOT).data
    seen, unseen = data.gap("gap_private_line"), data.gap("gap_private_line_unseen")
    assert unseen == seen | {"validation_values": "unseen"}
    assert seen["task"] == "private_line" and seen["test"] >= 500


def test_sizes_without_a_test_split_are_refused(config_of: Callable[[str], dict[str, Any]]) -> None:
    config = config_of("laptop")
    del config["gap"]["words"]["test"]
    with pytest.raises(RefusedError, match=r"config\.gap\.words must have every required key"):
        load_settings(config, ROOT)
