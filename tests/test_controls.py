"""Controls that read another question: nobody keeps its own, gold answers differ or agree, lengths stay near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from c2c.alignment.derangement import OTHER_QUESTION, TOLERANCE, check_golds, derange, exchange_within_answers
from c2c.errors import RefusedError

GENERATOR = np.random.default_rng(0)
LENGTHS = GENERATOR.integers(5, 40, 120).tolist()
SPREAD_LENGTHS = GENERATOR.lognormal(4.7, 0.6, 120).astype(int).tolist()
"""As of MMLU: hardly two questions have the same length."""
GOLDS = [f"answer {n}" for n in GENERATOR.integers(0, 7, 120)]
Control = Callable[..., list[int]]
CONTROLS = pytest.mark.parametrize("control", OTHER_QUESTION.values(), ids=OTHER_QUESTION)


def mean_difference(lengths: list[int], partners: list[int]) -> float:
    return float(np.mean([abs(lengths[here] - lengths[there]) for here, there in enumerate(partners)]))


@CONTROLS
@pytest.mark.parametrize("seed", range(3))
def test_nobody_keeps_its_own_and_every_question_is_read_once(control: Control, seed: int) -> None:
    partners = control(LENGTHS, GOLDS, seed)
    assert sorted(partners) == list(range(len(LENGTHS)))
    assert all(here != there for here, there in enumerate(partners))


@pytest.mark.parametrize("seed", range(3))
def test_a_deranged_sharer_reads_a_question_with_another_gold_answer(seed: int) -> None:
    assert all(GOLDS[here] != GOLDS[there] for here, there in enumerate(derange(LENGTHS, GOLDS, seed)))


@pytest.mark.parametrize("seed", range(3))
def test_the_control_of_the_same_answer_reads_a_question_with_the_same_gold_answer(seed: int) -> None:
    partners = exchange_within_answers(LENGTHS, GOLDS, seed)
    assert all(GOLDS[here] == GOLDS[there] for here, there in enumerate(partners))


def test_lengths_are_nearer_than_those_of_a_random_derangement() -> None:
    assert mean_difference(LENGTHS, derange(LENGTHS, GOLDS, seed=1)) < 1.0
    assert np.mean(np.abs(np.asarray(LENGTHS) - np.roll(LENGTHS, 1))) > 1.0


@CONTROLS
@pytest.mark.parametrize("lengths", [LENGTHS, SPREAD_LENGTHS])
def test_no_seed_loses_more_of_the_nearest_lengths_than_the_tolerance(
    control: Control, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [mean_difference(lengths, control(lengths, GOLDS, seed)) for seed in range(5)]
    # Noise far below a token in all: the smallest mean difference that there is.
    monkeypatch.setattr("c2c.alignment.derangement.TOLERANCE", 0.0)
    scaled = [1000 * length for length in lengths]
    smallest = mean_difference(scaled, control(scaled, GOLDS, 0)) / 1000
    tolerance = np.mean([max(TOLERANCE * length, 1.0) for length in lengths])
    assert all(smallest - 1e-9 <= difference <= smallest + tolerance for difference in drawn)


@CONTROLS
@pytest.mark.parametrize("lengths", [[10] * 120, LENGTHS, SPREAD_LENGTHS])
def test_the_same_seed_draws_the_same_questions_and_another_seed_others(control: Control, lengths: list[int]) -> None:
    first, again, other = (np.array(control(lengths, GOLDS, seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).mean() > 0.2


@pytest.mark.parametrize("golds", [["A"], ["A", "A", "A", "B"]])
def test_a_benchmark_without_a_derangement_is_refused(golds: list[str]) -> None:
    with pytest.raises(RefusedError, match="must have another gold answer"):
        derange([5] * len(golds), golds, seed=0)


def test_a_gold_answer_without_a_second_question_is_refused_for_the_control_of_the_same_answer() -> None:
    with pytest.raises(
        RefusedError, match=r"must be that of two questions or more.*1 of 2 gold answers .*'B'.*letters"
    ):
        exchange_within_answers([5] * 3, ["A", "A", "B"], seed=0)


def test_a_method_that_reads_its_own_question_asks_nothing_of_gold_answers() -> None:
    check_golds("matched", ["A"])
