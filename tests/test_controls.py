"""The derangement: nobody keeps its own question, all gold answers differ, lengths stay near."""

from __future__ import annotations

import numpy as np
import pytest

from c2c.alignment.derangement import derange
from c2c.errors import RefusedError

GENERATOR = np.random.default_rng(0)
LENGTHS = GENERATOR.integers(5, 40, 120).tolist()
GOLDS = [f"answer {n}" for n in GENERATOR.integers(0, 7, 120)]


def test_nobody_keeps_its_own_and_every_question_is_read_once() -> None:
    swapped = derange(LENGTHS, GOLDS, seed=1)
    assert sorted(swapped) == list(range(len(LENGTHS)))
    assert all(here != there for here, there in enumerate(swapped))


def test_the_swapped_question_has_another_gold_answer() -> None:
    swapped = derange(LENGTHS, GOLDS, seed=1)
    assert all(GOLDS[here] != GOLDS[there] for here, there in enumerate(swapped))


def test_lengths_are_nearer_than_those_of_a_random_derangement() -> None:
    swapped = derange(LENGTHS, GOLDS, seed=1)
    distance = np.mean([abs(LENGTHS[here] - LENGTHS[there]) for here, there in enumerate(swapped)])
    assert distance < 1.0 < np.mean(np.abs(np.asarray(LENGTHS) - np.roll(LENGTHS, 1)))


def test_the_same_seed_gives_the_same_swap_and_another_seed_another() -> None:
    even = [10] * 120
    assert derange(even, GOLDS, seed=1) == derange(even, GOLDS, seed=1)
    assert derange(even, GOLDS, seed=1) != derange(even, GOLDS, seed=2)


@pytest.mark.parametrize("golds", [["A"], ["A", "A", "A", "B"]])
def test_a_benchmark_without_a_derangement_is_refused(golds) -> None:
    with pytest.raises(RefusedError, match="another gold answer"):
        derange([5] * len(golds), golds, seed=0)
