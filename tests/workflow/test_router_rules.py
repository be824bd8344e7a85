"""The trained router in the workflow: planned where it is asked for, absent elsewhere, refused without questions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from c2c.errors import RefusedError
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
Merged = Callable[[str], dict[str, Any]]


def test_a_scale_with_the_trained_router_trains_it_before_the_baselines(
    run_snakemake: Callable[..., Any], tmp_path: Path
) -> None:
    config = yaml.safe_load((ROOT / "config" / "trial.yaml").read_text())
    config["scale"] = "routed"
    config["baselines"] = ["receiver", "sharer", "routing", "routing_trained"]
    config["runs"] = [run | {"pair": "qwen3_from_qwen25"} for run in config["runs"]]
    (tmp_path / "with_router.yaml").write_text(yaml.safe_dump(config))
    done = run_snakemake(
        "--cores", "1", "--configfile", str(tmp_path / "with_router.yaml"), "--dry-run", "--nolock", "--forceall", "-p"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for rule in ("prepare_training_questions", "answer_router_questions", "train_router"):
        assert re.search(rf"{rule} +[1-9]", done.stdout), done.stdout
    command = next(line for line in done.stdout.splitlines() if "--methods receiver sharer routing" in line)
    assert "--router results/routed/routers/qwen3_from_qwen25" in command
    assert "--prompts chat" in command and "--token-budget" in command


def test_a_scale_without_it_plans_no_router(run_snakemake: Callable[..., Any]) -> None:
    done = run_snakemake("--profile", "smoke", "--dry-run", "--nolock", "--forceall", "-p")
    assert done.returncode == 0, done.stdout
    assert "router" not in done.stdout
    assert "--prompts plain" in done.stdout


def test_a_router_without_training_questions_is_refused(config_of: Merged) -> None:
    config = config_of("laptop")
    config["baselines"], config["benchmarks"] = ["receiver", "routing_trained"], ["mmlu_redux_text"]
    config["latency"]["benchmarks"] = ["mmlu_redux_text"]
    config["runs"] = [run for run in config["runs"] if run["pair"] == "smollm2_from_coder"]
    with pytest.raises(RefusedError, match="whose data set has a training split"):
        load_settings(config, ROOT)
