"""Configs of kept steps, groups, published fusers and analyses: what is planned, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from tests.workflow.test_validation import Merged, edit, put
from workflow.kinds.same_answer import same_answer_answers
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


def test_the_control_of_the_same_answer_is_asked_by_each_seed_of_its_run_on_the_tasks_that_the_run_names(
    config_of: Merged,
) -> None:
    config = config_of("smoke")
    config["runs"][0] |= {"seeds": [0, 1], "same_answer": ["knowledge_gap_choice"]}
    config["runs"][1] |= {"seeds": [0, 1]}
    jobs = same_answer_answers(load_settings(config, ROOT))
    assert [job.path for job in jobs] == [f"records/gap_a/c2c/span/seed{seed}.same_answer" for seed in (0, 1)]
    for seed, job in enumerate(jobs):
        assert job.methods == ("c2c_same_answer",) and job.options["seed"] == seed
        assert job.tasks == ("knowledge_gap_choice",)
        assert job.questions == ("data/benchmarks/knowledge_gap_choice.jsonl",)
        assert job.fusers == (f"fusers/gap_a/c2c/span/seed{seed}",)
    del config["runs"][0]["same_answer"]
    assert same_answer_answers(load_settings(config, ROOT)) == []


def own_benchmark(folder: Path, answers: str) -> Callable[[dict[str, Any]], None]:
    """A change of a config that asks an own benchmark, whose answers are these letters, for the control."""
    (folder / "fruit").mkdir()
    (folder / "fruit" / "fruit.yaml").write_text("metadata: {source: file, scorings: [letter, text]}\n")
    lines = [
        {"question": f"{n}?", "options": [f"kiwi {n}", f"fig {n}"], "answer": answer}
        for n, answer in enumerate(answers)
    ]
    (folder / "fruit" / "questions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def change(config: dict[str, Any]) -> None:
        config["benchmark_folders"] = [str(folder)]
        config["benchmarks"] += ["fruit_letter", "fruit_text"]

    return change


def test_questions_of_your_own_are_asked_where_each_gold_answer_has_two(tmp_path: Path, config_of: Merged) -> None:
    config = config_of("smoke")
    own_benchmark(tmp_path, "ABAB")(config)
    config["runs"][0]["same_answer"] = ["fruit_letter"]
    assert len(same_answer_answers(load_settings(config, ROOT))) == len(config["runs"][0]["seeds"])
    # The same questions have golds of their own where the options are texts.
    config["runs"][0]["same_answer"] = ["fruit_text"]
    with pytest.raises(RefusedError, match=r"each gold answer of fruit_text must be that of two questions.*4 of 4"):
        load_settings(config, ROOT)


SAME_ANSWER_REFUSED = {
    "another task": (put("runs.0.same_answer", ["knowledge_gap_fre"]), r"Did you mean 'knowledge_gap_free'\?"),
    "no message": (
        put("runs.1.same_answer", ["knowledge_gap_free"]),
        r"must have a recipe whose Fusers read the Sharer's cache; received 'adapter'",
    ),
    "golds that no two questions share": (
        put("runs.0.same_answer", ["arc_easy_text"]),
        r"that several questions share: letters or values of the world; .*arc_easy_text, scoring text.* or logits",
    ),
}


@pytest.mark.parametrize("case", SAME_ANSWER_REFUSED)
def test_a_task_without_partners_is_refused_before_anything_is_trained(case: str, config_of: Merged) -> None:
    change, message = SAME_ANSWER_REFUSED[case]
    config = config_of("smoke")
    config["benchmarks"].append("arc_easy_text")
    change(config)
    with pytest.raises(RefusedError, match=message):
        load_settings(config, ROOT)


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
