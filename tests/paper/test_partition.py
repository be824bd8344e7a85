"""Venn regions, parts of questions and the recovered gap, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2c.errors import RefusedError
from c2c.stats import NO_SEED, paired_difference, ratio_with_interval
from paper.reading.partition import length_buckets, partition
from paper.tables.strong_to_weak import gap_recovered
from paper.tables.venn import regions


def answers(*columns: list[int], seeds: tuple[int, ...] = (NO_SEED,)) -> pd.DataFrame:
    index = [f"q{number}" for number in range(len(columns[0]))]
    return pd.DataFrame(dict(zip(seeds, columns, strict=True)), index=index)


# One question in each of the eight regions, but two that C2C and the Sharer alone know.
C2C, RECEIVER, SHARER = [1, 1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1, 0, 1, 0]


def test_each_region_holds_the_questions_that_exactly_these_answer_correctly() -> None:
    found = regions({"c2c": answers(C2C), "receiver": answers(RECEIVER), "sharer": answers(SHARER)})
    counts = {who: int(inside.to_numpy().sum()) for who, inside in found.items()}
    assert counts == {
        ("c2c", "receiver", "sharer"): 1, ("c2c", "receiver"): 1, ("c2c", "sharer"): 2, ("c2c",): 1,
        ("receiver", "sharer"): 1, ("receiver",): 1, ("sharer",): 1, (): 1,
    }  # fmt: skip
    assert list(found["c2c", "sharer"].index[found["c2c", "sharer"][NO_SEED] == 1]) == ["q2", "q3"]


def test_every_question_is_in_one_region_at_every_seed() -> None:
    fused = answers(C2C, SHARER, seeds=(0, 1))
    found = regions({"c2c": fused, "receiver": answers(RECEIVER), "sharer": answers(SHARER)})
    assert (sum(found.values()).to_numpy() == 1).all()
    assert found["c2c",].mean().tolist() == pytest.approx([1 / 9, 0])


def test_regions_of_graded_answers_or_other_questions_are_refused() -> None:
    with pytest.raises(RefusedError, match="must be right or wrong"):
        regions({"c2c": answers(C2C) * 0.5, "receiver": answers(RECEIVER)})
    with pytest.raises(RefusedError, match="same questions"):
        regions({"c2c": answers(C2C), "receiver": answers(RECEIVER)[1:]})
    with pytest.raises(RefusedError, match="training seeds"):
        regions({"c2c": answers(C2C, seeds=(0,)), "adapter": answers(C2C, seeds=(1,))})


def test_answers_are_divided_by_label_in_the_order_of_the_labels() -> None:
    parts = pd.Series({"q1": "law", "q0": "math", "q2": "law", "q9": "art"})
    found = partition(answers([1, 0, 1]), parts)
    assert list(found) == ["law", "math"]
    assert found["law"][NO_SEED].tolist() == [0, 1] and found["math"][NO_SEED].tolist() == [1]
    with pytest.raises(RefusedError, match="q3"):
        partition(answers([1, 0, 1, 1]), parts)


def test_buckets_hold_about_equally_many_questions_and_never_part_equal_lengths() -> None:
    tokens = pd.Series([10, 11, 12, 13, 14, 15], index=list("abcdef"))
    found = length_buckets(tokens)
    assert found.tolist() == ["10-11 tokens"] * 2 + ["12-13 tokens"] * 2 + ["14-15 tokens"] * 2
    assert list(found.cat.categories) == ["10-11 tokens", "12-13 tokens", "14-15 tokens"]
    skewed = length_buckets(pd.Series([7] * 9 + [8]))
    assert skewed.tolist() == ["7 tokens"] * 9 + ["8 tokens"]
    assert set(length_buckets(pd.Series([5, 5, 5]))) == {"5 tokens"}


def test_the_recovered_gap_is_zero_for_the_receiver_one_for_the_sharer_and_half_between() -> None:
    receiver, sharer = answers([0] * 40 + [1] * 10), answers([1] * 50)
    half = answers([1] * 20 + [0] * 20 + [1] * 10)
    for method, share in ((receiver, 0.0), (sharer, 1.0), (half, 0.5)):
        found = gap_recovered(method, receiver, sharer)
        assert found is not None and found.value == pytest.approx(share)
    found = gap_recovered(half, receiver, sharer)
    assert found is not None and found.low < 0.5 < found.high and found.n == 50
    assert found.high - found.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.1)


def test_a_gap_whose_interval_covers_zero_recovers_nothing_that_is_known() -> None:
    rng = np.random.default_rng(0)
    receiver, sharer = (answers(list(rng.integers(0, 2, 30))) for _ in range(2))
    assert gap_recovered(sharer, receiver, sharer) is None


def test_a_gap_that_runs_the_other_way_is_one_too() -> None:
    receiver, sharer = answers([1] * 50), answers([0] * 40 + [1] * 10)
    found = gap_recovered(answers([0] * 20 + [1] * 30), receiver, sharer)
    assert found is not None and found.value == pytest.approx(0.5)


def test_the_ratio_of_equal_values_is_one_with_the_width_that_so_few_questions_leave() -> None:
    values = answers([0, 1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 0, 1, 0, 1, 0], seeds=(0, 1))
    found = ratio_with_interval(values, values)
    assert found.low < found.value == 1 < found.high and found.seeds == 2
    more = ratio_with_interval(*[answers([0, 1, 1, 0, 1, 1, 1, 0] * 9)] * 2)
    assert more.high - more.low < found.high - found.low
    spread = ratio_with_interval(values, answers([1] * 8))
    assert spread.low < spread.value < spread.high
    assert spread.value == pytest.approx(float(values.to_numpy().mean()))


def test_a_ratio_by_zero_or_over_other_questions_is_refused() -> None:
    receiver = answers(RECEIVER)
    with pytest.raises(RefusedError, match="other than zero below"):
        ratio_with_interval(receiver, paired_difference(receiver, receiver))
    with pytest.raises(RefusedError, match="same questions"):
        ratio_with_interval(receiver, receiver[1:])
