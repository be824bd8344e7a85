"""Two agents: the analysis reaches the solver as text in both methods, and in T-C2C the cache does too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from c2c.errors import RefusedError
from c2c.evaluation.methods.agents import Agents, check_agents, has_agents
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.questions.question import Question
from tests.evaluation.conftest import ask, fused_method


@pytest.fixture(autouse=True)
def short_messages(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 4)


@pytest.fixture
def asked(questions) -> list[Question]:
    return questions["choice"]


def scores(answers) -> torch.Tensor:
    return torch.tensor([answer.choice_scores for answer in answers])


def test_the_solver_of_text_agents_is_the_receiver_after_reading_the_analysis(pair, asked) -> None:
    method = Agents("t2t_agents", pair)
    answers = ask(method, asked, 10_000)
    prompts = [method.receiver_question(q, a.message) for q, a in zip(asked, answers, strict=True)]
    alone = ask(SingleModel(pair.receiver), prompts, 100)
    torch.testing.assert_close(scores(answers), scores(alone), atol=1e-4, rtol=1e-4)
    assert all(answer.message and answer.message in answer.prompt_read for answer in answers)
    assert all(answer.sharer_tokens_out > 0 for answer in answers)


def test_the_interpreter_is_asked_in_the_words_of_the_task(pair, asked) -> None:
    method = Agents("t2t_agents", pair)
    assert method.request(asked[0]).prompt == f"what {asked[0].doc['question']}"
    assert method.receiver_question(asked[0], "red").prompt == f"red the {asked[0].prompt}"


def test_text_and_cache_together_are_c2c_on_what_the_solver_reads(pair, fuser, asked) -> None:
    both = Agents("t_c2c", pair, fuser)
    answers = ask(both, asked, 10_000)
    read = [both.receiver_question(question, answer.message) for question, answer in zip(asked, answers, strict=True)]
    torch.testing.assert_close(
        scores(answers), scores(ask(fused_method("c2c", pair, fuser), read, 100)), atol=1e-4, rtol=1e-4
    )
    text = ask(Agents("t2t_agents", pair), asked, 10_000)
    assert [answer.message for answer in answers] == [answer.message for answer in text]
    assert not torch.allclose(scores(answers), scores(text), atol=1e-3)


def test_deranged_agents_keep_the_text_and_swap_the_cache(pair, fuser, asked) -> None:
    matched, deranged = (ask(Agents(name, pair, fuser), asked, 10_000) for name in ("t_c2c", "t_c2c_deranged"))
    assert [answer.message for answer in matched] == [answer.message for answer in deranged]
    assert [answer.prompt_read for answer in matched] == [answer.prompt_read for answer in deranged]
    for question, one, other in zip(asked, matched, deranged, strict=True):
        assert one.sharer_question_id == question.doc["id"] != other.sharer_question_id
    assert not torch.allclose(scores(matched), scores(deranged), atol=1e-3)


def test_in_a_chat_the_analysis_stands_in_the_message_of_the_user(pair, asked) -> None:
    messages = ({"role": "system", "content": "oslo"}, {"role": "user", "content": "home"})
    told = Agents("t2t_agents", pair).receiver_question(replace(asked[0], messages=messages, prompt="home"), "red")
    assert [each["content"] for each in told.messages] == ["oslo", "red the home"]


def test_a_task_without_words_for_two_agents_is_refused_before_any_model_is_loaded(benchmark_files) -> None:
    tasks, _ = benchmark_files
    check_agents(tasks, dict.fromkeys(["free", "choice"], Path("questions.jsonl")))
    path = tasks / "free.yaml"
    content = yaml.safe_load(path.read_text())
    del content["metadata"]["agents_prompt"]
    path.write_text(yaml.safe_dump(content))
    assert not has_agents(tasks, "free")
    with pytest.raises(RefusedError, match=r"two agents answer must have the metadata.*received 'free'"):
        check_agents(tasks, dict.fromkeys(["free", "choice"], Path("questions.jsonl")))
