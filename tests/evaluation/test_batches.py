"""Batches hold to their budget; what the Sharer read is remembered within its limit and is the same read anew."""

from __future__ import annotations

import pytest
import torch

from c2c.errors import RefusedError
from c2c.evaluation.answers.batches import batches_of
from c2c.evaluation.readers.sharer_memory import SharerMemory, common_start
from tests.evaluation.conftest import ask, fused_method

LENGTHS = [3, 50, 7, 7, 12, 1, 30, 29, 8]


def test_rows_times_the_longest_stay_within_the_budget_and_nothing_is_lost() -> None:
    for budget in (1, 20, 40, 64, 1000):
        batches = batches_of(range(len(LENGTHS)), LENGTHS, budget)
        assert sorted(place for batch in batches for place in batch) == list(range(len(LENGTHS)))
        for batch in batches:
            longest = max(LENGTHS[place] for place in batch)
            assert len(batch) * longest <= budget or len(batch) == 1
        assert [LENGTHS[place] for batch in batches for place in batch] == sorted(LENGTHS, reverse=True)


def test_options_count_as_rows() -> None:
    batches = batches_of(range(4), [10, 10, 10, 10], 100, rows=[4, 4, 4, 4])
    assert batches == [[0, 1], [2, 3]]


def test_the_batches_that_remain_after_some_are_done_are_the_same() -> None:
    whole = batches_of(range(len(LENGTHS)), LENGTHS, 64)
    rest = [place for batch in whole[2:] for place in batch]
    assert batches_of(rest, [LENGTHS[place] for place in rest], 64) == whole[2:]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match="token budget"):
        batches_of([1], [1], 0)


def test_a_question_that_the_sharer_has_read_is_not_read_again(pair, fuser, questions, monkeypatch) -> None:
    memory = SharerMemory(pair.sharer)
    matched, deranged = (fused_method(name, pair, fuser, memory) for name in ("c2c", "c2c_deranged"))
    ask(matched, questions["free"], 60)

    def refuse(*_, **__):
        raise AssertionError("the Sharer ran")

    monkeypatch.setattr(pair.sharer.model.base_model, "forward", refuse)
    ask(deranged, questions["free"], 60)


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("limit", [0, 2**30])
def test_answers_do_not_depend_on_what_is_remembered(pair, fuser, questions, kind, limit) -> None:
    for name in ("c2c", "c2c_deranged"):
        plain = ask(fused_method(name, pair, fuser), questions[kind], 60)
        kept = ask(fused_method(name, pair, fuser, SharerMemory(pair.sharer, limit)), questions[kind], 60)
        assert [answer.output_ids for answer in plain] == [answer.output_ids for answer in kept]
        for one, other in zip(plain, kept, strict=True):
            assert (one.choice_scores or []) == pytest.approx(other.choice_scores or [], abs=1e-5)


def test_a_reading_has_the_same_bits_in_whatever_order_questions_are_asked_for(pair) -> None:
    ids = {("b", n): list(range(3, 3 + 2 + n)) for n in range(7)}
    first, second = SharerMemory(pair.sharer), SharerMemory(pair.sharer, limit=0)
    for memory in (first, second):
        memory.plan(ids, 12)
    one = {key: first.layers([key], 9) for key in ids}
    other = {key: second.layers([key], 9) for key in reversed(ids)}
    for key in ids:
        for here, there in zip(one[key], other[key], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert not second._caches


def test_what_all_texts_begin_with_is_read_once_and_gives_the_same_readings(pair) -> None:
    start = [3, 4, 5, 6, 7, 8, 9, 10, 11]
    ids = {("b", n): [*start, *range(3, 4 + 2 * n)] for n in range(4)}
    together, alone = SharerMemory(pair.sharer), SharerMemory(pair.sharer)
    together.plan(ids, 1000)
    alone.plan(ids, 1)
    read: list[int] = []
    handle = pair.sharer.model.base_model.register_forward_pre_hook(
        lambda module, given, named: read.append(named["input_ids"].numel()), with_kwargs=True
    )
    one, other = (memory.layers(list(ids), 20) for memory in (together, alone))
    handle.remove()
    assert read[:2] == [len(start), 4 * 7]
    for here, there in zip(one, other, strict=True):
        for states, expected in zip(here, there, strict=True):
            torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("texts", "shared"),
    [([[1] * 12, [1] * 10], 9), ([[1] * 12, [1] * 7 + [2] * 5], 0), ([[1] * 9 + [2], [1] * 9 + [3]], 9)],
)
def test_a_start_is_shared_if_it_is_long_enough_and_leaves_each_text_a_token(texts, shared) -> None:
    assert common_start(texts) == shared
