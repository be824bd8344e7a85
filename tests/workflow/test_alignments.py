"""Runs of a config with any token alignment: what is tokenised, trained, asked and timed for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from c2c.types import TOKEN_ALIGNMENTS
from workflow.kinds.pairs import fused_job
from workflow.load import load_settings
from workflow.settings import FuserTraining

ROOT = Path(__file__).resolve().parents[2]
REDUCED = ROOT / "config" / "smoke_reduced.yaml"

ConfigOf = Callable[[str], dict[str, Any]]


def reduced(config_of: ConfigOf, *alignments: str) -> dict[str, Any]:
    """The reduced scale, whose runs have these alignments."""
    config = config_of("smoke")
    update_config(config, yaml.safe_load(REDUCED.read_text(encoding="utf-8")))
    runs = [run | {"alignment": alignment} for alignment in alignments for run in config["runs"]]
    latency = {"benchmarks": ["knowledge_gap_free"], "methods": ["c2c"], "questions": 2, "repeats": 1, "threads": 1}
    return config | {"runs": runs, "latency": latency}


@pytest.mark.parametrize("alignment", TOKEN_ALIGNMENTS)
def test_a_reduced_scale_with_any_alignment_is_planned_from_the_tokens_to_the_answers(config_of, alignment) -> None:
    settings = load_settings(reduced(config_of, alignment), ROOT)
    assert [run.path for run in settings.runs] == [f"gap_a/{recipe}/{alignment}/seed0" for recipe in ("c2c", "adapter")]
    job = fused_job(settings, settings.runs[0])
    assert job.options["alignment"] == alignment
    assert settings.tokenised("gap_a", "c2c", alignment).split("/")[:2] == ["gap_a", alignment]
    assert settings.training_mb("gap_a", "c2c", alignment) > 0
    assert settings.latency_run("gap_a") == settings.runs[0]


def test_of_several_alignments_the_main_one_is_timed(config_of) -> None:
    settings = load_settings(reduced(config_of, "unaligned", "span"), ROOT)
    assert settings.latency_run("gap_a") == FuserTraining("gap_a", "c2c", "span", 0)


def test_the_paper_scale_trains_its_first_pair_and_its_control_unaligned_too_and_claims_list_both(config_of) -> None:
    runs = load_settings(config_of("paper"), ROOT).runs
    unaligned = [run for run in runs if run.alignment == "unaligned"]
    assert [(run.pair, run.recipe) for run in unaligned] == [
        ("qwen3_from_qwen25", "c2c"),
        ("qwen3_from_qwen25", "adapter"),
    ]
    assert all(FuserTraining(run.pair, run.recipe, "span", run.seed) in runs for run in unaligned)
    (entry,) = [
        entry
        for entry in yaml.safe_load((ROOT / "paper" / "claims.yaml").read_text(encoding="utf-8"))["rests_on"]["paper"]
        if entry["pairs"] == ["qwen3_from_qwen25"]
    ]
    assert {"recipes": ["c2c", "adapter"], "alignment": "unaligned", "seeds": [42]} in entry["trainings"]
