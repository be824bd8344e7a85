"""Configs of kept steps, groups, published fusers and analyses: what is planned, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2c.errors import RefusedError
from tests.workflow.test_validation import Merged, edit, put
from workflow.kinds.steps import kept_answers
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]


def test_each_kept_step_of_each_run_is_asked_and_no_other(config_of: Merged) -> None:
    config = config_of("smoke")
    others = [entry for entry in config["runs"] if entry["pair"] != "gap_a"]
    run = {"pair": "gap_a", "alignment": "span", "seeds": [0, 1]}
    kept = {"training": {"keep_steps": [10, 20]}}
    config["runs"] = [{**run, "recipe": "c2c", **kept}, {**run, "recipe": "project"}, *others]
    assert [job.path for job in kept_answers(load_settings(config, ROOT))] == [
        f"records/gap_a/c2c/span/seed{seed}.step{step}" for seed in (0, 1) for step in (10, 20)
    ]
    config["runs"].append({**run, "recipe": "adapter"})
    with pytest.raises(RefusedError, match="An adapter must be trained as the c2c"):
        load_settings(config, ROOT)


GROUPS_REFUSED = {
    "unknown group": (
        put("groups.0.group", "gap_halfs"),
        r"A group must be a row of config/groups\.tsv; .*Did you mean 'gap_halves'\?",
    ),
    "seed without Fusers": (
        put("groups.0.seeds", [7]),
        r"must have a c2c run of alignment span, seed 7; received 'gap_first'",
    ),
    "alignment without Fusers": (put("groups.0.alignment", "longest"), r"a c2c run of alignment longest, seed 0"),
}


@pytest.mark.parametrize("case", GROUPS_REFUSED)
def test_an_impossible_group_is_refused(case: str, config_of: Merged) -> None:
    change, message = GROUPS_REFUSED[case]
    config = config_of("smoke")
    change(config)
    with pytest.raises(RefusedError, match=message):
        load_settings(config, ROOT)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("gap_first gap_b", r"must have the same receiver; received 'gap_first gap_b'"),
        ("gap_first", r"must have 2 to 4 pairs; received 'gap_first'"),
        ("gap_first gap_scnd", r"Did you mean 'gap_second'\?"),
    ],
)
def test_pairs_that_are_no_group_are_refused(pairs: str, message: str, root: Path, config_of: Merged) -> None:
    edit(root / "config" / "groups.tsv", "gap_first gap_second", pairs)
    with pytest.raises(RefusedError, match=message):
        load_settings(config_of("smoke"), root)


def test_pairs_that_stand_aside_are_neither_timed_nor_drawn(config_of: Merged) -> None:
    settings = load_settings(config_of("smoke"), ROOT)
    assert "gap_first" in settings.used_pairs
    assert settings.timed_pairs == ["gap_a", "gap_b"]
    assert {run.pair for run in settings.main_runs} == {"gap_a", "gap_b"}


METHODS_REFUSED = {
    "table of no published fusers": (put("artefacts.tables", ["main", "gains", "released"]), "have released Fusers"),
    "unknown published fusers": (
        put("released", ["qwen25_05"]),
        r"Released Fusers must be a row of config/released\.tsv; .*'qwen25_05b'\?",
    ),
    "fine-tuned without a c2c": (put("single.0.seeds", [7]), r"must have a c2c run .*received 'gap_a/span/seed7'"),
    "fine-tuned of no pair": (
        put("single.0.pair", "gap_aa"),
        r"pair of a fine-tuned Receiver must be a row of config/pairs\.tsv",
    ),
    "agents without a c2c": (put("agents.0.seed", 7), r"with a c2c run .*received 'gap_a/c2c/span/seed7'"),
    "agents twice": (lambda c: c["agents"].append(c["agents"][0]), r"Two agents must be asked once a pair"),
    "agents without their words": (put("benchmarks", ["knowledge_gap_choice"]), r"asked a task with agents_question"),
}


@pytest.mark.parametrize("case", METHODS_REFUSED)
def test_what_cannot_be_asked_beyond_a_pair_is_refused(case: str, config_of: Merged) -> None:
    change, message = METHODS_REFUSED[case]
    config = config_of("smoke")
    config["latency"] = None
    config["artefacts"] |= {"tables": [], "figures": [], "paper": False}
    change(config)
    with pytest.raises(RefusedError, match=message):
        load_settings(config, ROOT)
