"""Prompts of which there is nothing to fuse: every method refuses them, and no answer is compared with a refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from c2c.evaluation.generate import GenerationRun, generate

METHODS = ("receiver", "sharer", "t2t", "routing", "c2c", "c2c_deranged", "c2c_zeroed", "t2t_agents", "t_c2c")
PROMPTS = {"S1 empty": "", "S2 one token": "{word}", "S1 blanks": "  "}


@pytest.fixture(autouse=True)
def short_messages(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)


def run_of(pair, fuser, files, folder: Path, prompts: str) -> GenerationRun:
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(folder / loaded.name)
        loaded.tokenizer.save_pretrained(folder / loaded.name)
    tasks, benchmarks = files
    return GenerationRun(
        scale="smoke", pair="tiny", receiver=str(folder / "receiver"), sharers=[str(folder / "sharer")],
        methods=METHODS, tasks=tasks, benchmarks=benchmarks, output=folder / "records.parquet", fusers=[fuser],
        recipe="c2c", alignment="span", seed=0, token_budget=200, prompts=prompts,
    )  # fmt: skip


def put_prompt(path: Path, text: str) -> None:
    """Let the second of the questions be this one."""
    docs = [json.loads(line) for line in path.read_text().splitlines()]
    docs[1]["question"] = text
    path.write_text("\n".join(map(json.dumps, docs)))


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("case", PROMPTS)
def test_every_method_refuses_a_prompt_of_which_nothing_can_be_fused(
    pair,
    fuser,
    benchmark_files,
    words,
    tmp_path,
    case,
    kind,
) -> None:
    tasks, files = benchmark_files
    put_prompt(files[kind], PROMPTS[case].format(word=words[0]))
    run = run_of(pair, fuser, (tasks, {kind: files[kind]}), tmp_path, "plain")
    lost = generate(run).query("error.notna()")
    assert sorted(lost["method"]) == sorted(METHODS) and set(lost["question_id"]) == {"q1"}
    assert all("must have at least two tokens" in error for error in lost["error"])


def test_every_method_refuses_a_chat_in_which_the_user_says_nothing(
    chat_pair,
    chat_fuser,
    benchmark_files,
    tmp_path,
) -> None:
    tasks, files = benchmark_files
    put_prompt(files["free"], " ")
    run = run_of(chat_pair, chat_fuser, (tasks, {"free": files["free"]}), tmp_path, "chat")
    lost = generate(replace(run, methods=[name for name in METHODS if "agents" not in name])).query("error.notna()")
    assert sorted(lost["question_id"]) == ["q1"] * (len(METHODS) - 1)
    assert all("must have a token" in error for error in lost["error"])
