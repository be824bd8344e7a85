"""Progressive fusion: each row of a batch gets the share of its own tokens; none is the Receiver, all is C2C."""

from __future__ import annotations

import pytest
import torch

from c2c import generate_kv_cache_index
from c2c.analysis.partial import PartialReader, PartialRun, answer_partially_fused, partial_reader
from c2c.analysis.run import AnalysisRun, run_reader
from c2c.errors import RefusedError
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.schema import read_records
from tests.evaluation.conftest import ask, fused_method


@pytest.fixture
def reader(fused_settings, pair):
    whole = run_reader(AnalysisRun(**fused_settings), pair)

    def part(share: float, side: str = "front") -> PartialReader:
        return partial_reader(whole, share, side)

    return part


def scores(method: Method, questions, budget: int = 10_000) -> torch.Tensor:
    return torch.tensor([answer.choice_scores for answer in ask(method, questions, budget)])


def test_without_a_share_the_receiver_answers_and_with_all_of_it_c2c(reader, pair, fuser, questions) -> None:
    asked = questions["choice"]
    alone, whole = scores(SingleModel(pair.receiver), asked), scores(fused_method("c2c", pair, fuser), asked)
    for side in ("front", "back"):
        assert torch.allclose(scores(Method("none", reader(0.0, side)), asked), alone, atol=1e-4)
        assert torch.allclose(scores(Method("all", reader(1.0, side)), asked), whole, atol=1e-4)
    assert not torch.allclose(alone, whole, atol=1e-2)


@pytest.mark.parametrize("side", ["front", "back"])
def test_a_share_is_what_the_public_model_fuses_of_a_prompt_alone(reader, questions, side) -> None:
    part = reader(0.5, side)
    for question in questions["free"]:
        prompt = torch.tensor([part.sharer.align(question).receiver_ids])
        index = generate_kv_cache_index(prompt.shape[1] - 1, 1, share=0.5, side=side)
        expected = part.model.generate(index, prompt, max_new_tokens=question.max_new_tokens)
        (answer,) = ask(Method("half", part), [question], 10_000)
        assert expected[0, prompt.shape[1] :].tolist()[: len(answer.output_ids)] == answer.output_ids


@pytest.mark.parametrize("side", ["front", "back"])
def test_a_batch_of_different_lengths_equals_one_by_one(reader, questions, side) -> None:
    method = Method("half", reader(0.4, side))
    batched, single = (scores(method, questions["choice"], budget) for budget in (10_000, 1))
    assert torch.allclose(batched, single, atol=1e-4)


def test_the_run_answers_each_share_at_each_end_by_both_methods(fused_settings) -> None:
    frame = answer_partially_fused(PartialRun(**fused_settings, shares=(0.0, 0.5)))
    assert len(frame) == 8 * 2 * 2 * 2 and len(read_records([fused_settings["output"]])) == len(frame)
    whose = frame.assign(own=frame["sharer_question_id"] == frame["question_id"])
    half = whose[whose["setting"] == "front 0.5"].groupby("method")["own"].mean()
    assert half["c2c"] == 1 and half["c2c_deranged"] == 0
    nobody = frame[frame["setting"] == "back 0"]
    assert nobody["sharer_question_id"].isna().all() and set(nobody["sharer_tokens_in"]) == {0}


@pytest.mark.parametrize(("share", "side", "rule"), [(1.5, "front", r"in \[0, 1\]"), (0.5, "middle", "'middle'")])
def test_an_impossible_part_is_refused(reader, share, side, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        reader(share, side)
