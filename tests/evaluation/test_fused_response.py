"""Fusers that fuse the response too answer benchmarks: in batches as one by one, and not as plain ones do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2c import generate_kv_cache_index
from c2c.evaluation.methods.method import Method
from tests.evaluation.conftest import ask, fused_method


@pytest.fixture(params=["free", "choice"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def method(pair, fuser) -> Method:
    built = fused_method("c2c", pair, fuser)
    built.reader.model.include_response = True
    return built


def test_a_batch_equals_one_by_one_and_the_answer_is_not_the_plain_ones(method, questions, kind) -> None:
    batched, single = (ask(method, questions[kind], size) for size in (10_000, 1))
    method.reader.model.include_response = False
    plain = ask(method, questions[kind], 10_000)
    if kind == "free":
        assert [answer.output_ids for answer in batched] == [answer.output_ids for answer in single]
        assert [answer.output_ids for answer in batched] != [answer.output_ids for answer in plain]
    else:
        scores = [[answer.choice_scores for answer in answers] for answers in (batched, single, plain)]
        torch.testing.assert_close(torch.tensor(scores[0]), torch.tensor(scores[1]), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(torch.tensor(scores[0]), torch.tensor(scores[2]), atol=1e-3)


def test_rows_that_have_ended_leave_the_batch_and_the_fused_response_goes_on(method, questions, monkeypatch) -> None:
    asked = [replace(each, max_new_tokens=3 + 4 * (place % 2)) for place, each in enumerate(questions["free"])]
    at_once = ask(method, asked, 10_000)
    monkeypatch.setattr("c2c.evaluation.answers.writing.STRETCH", 2)
    assert [each.output_ids for each in ask(method, asked, 10_000)] == [each.output_ids for each in at_once]


@torch.no_grad()
def test_a_likelihood_is_that_of_the_fused_response(method, questions, pair) -> None:
    question = questions["choice"][0]
    (answer,) = ask(method, [question], 1)
    ids, _, given, _ = method.reader.sharer.inputs([question])
    option = pair.receiver.tokenizer(question.options[0], add_special_tokens=False)["input_ids"]
    whole = torch.cat([ids, torch.tensor([option])], dim=1)
    index = generate_kv_cache_index(ids.shape[1] - 1, 1 + len(option))
    logits = method.reader.model(index, whole, torch.ones_like(whole), sharer_inputs=[given]).logits
    steps = logits[0, :-1].log_softmax(-1)
    expected = sum(float(steps[place, token]) for place, token in enumerate(option))
    assert answer.choice_scores[0] == pytest.approx(expected, abs=1e-4)
