"""A model answers here as it does in lm-eval's own `hf` model, question by question, in plain prompts and chats."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from benchmarks.agreement import COLUMNS, compare, main, summary
from benchmarks.speed import batches
from c2c.evaluation.questions.tasks import load_tasks
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair

COMMON = {
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "question: {{question}}\n",
    "gen_prefix": "the answer is",
    "target_delimiter": " ",
}
METADATA = {"version": 1, "t2t_question": "{{question}}", "t2t_prompt": "{{message}} {{prompt}}"}
TASKS = {
    "text": {"output_type": "multiple_choice", "doc_to_choice": "options", "doc_to_target": "{{'AB'.index(answer)}}"},
    "logits": {
        "output_type": "multiple_choice",
        "doc_to_choice": ["a", "b"],
        "doc_to_target": "{{'AB'.index(answer)}}",
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["t"], "do_sample": False, "max_gen_toks": 8},
    },
}


@pytest.fixture
def files(tmp_path) -> tuple[Path, dict[str, Path]]:
    words = ["what", "is", "the", "color", "of", "home", "oslo", "athens", "red", "blue"]
    docs = [
        {
            "id": f"q{n}",
            "question": " ".join(words[(n + k) % len(words)] for k in range(3 + n)) + "?",
            "options": [words[n % len(words)], " ".join(words[: 1 + n % 3])],
            "answer": "AB"[n % 2],
        }
        for n in range(8)
    ]
    (tmp_path / "tasks").mkdir()
    found = {}
    for name, task in TASKS.items():
        scoring = {"text": "likelihood", "logits": "likelihood", "written": "exact"}[name]
        config = {"task": name, **COMMON, **task, "metadata": {**METADATA, "scoring": scoring}}
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(config))
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("\n".join(json.dumps(doc) for doc in docs))
    return tmp_path / "tasks", found


@pytest.fixture
def pair(tiny_model, chat_receiver, chat_sharer) -> Pair:
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", vocab=len(chat_sharer), layers=4, seed=1)
    for model in (receiver, sharer):
        model.config.max_position_embeddings = 512
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


@pytest.mark.parametrize("prompts", ["plain", "chat"])
@pytest.mark.parametrize("role", ["receiver", "sharer"])
def test_every_answer_is_that_of_lm_evals_own_model(pair, files, role, prompts) -> None:
    tasks, questions = files
    frame = compare(getattr(pair, role), load_tasks(tasks, questions), prompts=prompts, token_budget=300)
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 8 * len(TASKS)
    assert frame["same"].all(), frame[~frame["same"]]
    assert frame["largest_difference"].max() < 1e-4
    assert frame[frame["benchmark"] == "written"]["ours"].str.len().gt(0).any()


def test_a_model_that_answers_otherwise_is_noticed(pair, files, monkeypatch) -> None:
    tasks, questions = files
    from c2c.evaluation.answers import likelihood

    original = likelihood.log_probability
    monkeypatch.setattr(likelihood, "log_probability", lambda *given: -original(*given))
    frame = compare(pair.receiver, load_tasks(tasks, {"logits": questions["logits"]}))
    assert not frame["same"].any()
    assert "0 of 8 answers the same" in summary(frame)


def test_the_command_writes_a_row_a_question_and_says_by_its_exit_code_whether_all_agree(
    pair, files, tmp_path, capsys
) -> None:
    tasks, questions = files
    pair.receiver.model.save_pretrained(tmp_path / "model")
    pair.receiver.tokenizer.save_pretrained(tmp_path / "model")
    given = ["--receiver", str(tmp_path / "model"), "--tasks", str(tasks), "--output", str(tmp_path / "out.csv")]
    assert main([*given, "--benchmarks", f"logits={questions['logits']}", "--limit", "3"]) == 0
    assert "logits: 3 of 3 answers the same" in capsys.readouterr().out
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4
    assert (tmp_path / "out.csv.provenance.json").is_file()


@pytest.mark.parametrize("method", batches.METHODS)
def test_the_timings_of_batches_hold_the_answers_against_each_other(pair, files, method, monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)
    tasks, questions = files
    build = partial(batches.method_of, method, pair, 16)
    for task in load_tasks(tasks, questions)["tasks"].values():
        found = batches.measure(build, batches.first_questions(task, "chat", 4), 2000)
        assert (found["questions"], found["same_answers"]) == (4, 4)
        assert found["ratio"] > 0
