"""Bits that a message brings: known channels have known bits, and the number stays a lower bound."""

import numpy as np
import pytest

from c2c.testbed.card.bits import bits, option_bits, written_bits
from c2c.testbed.card.records import CellIds
from paper.reading.messages import records_of
from tests.communication.simulator import TestBed

DRAW = np.random.default_rng(0)


def test_a_receiver_that_is_sure_and_right_got_all_bits_of_the_options() -> None:
    gold = DRAW.integers(4, size=(200, 1))
    logps = np.where(np.arange(4) == gold[..., None], -0.1, -9.0)
    assert option_bits(logps, gold).mean() == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("sureness", [0.1, 1.0, 30.0])
def test_a_receiver_that_guesses_got_nothing_however_sure_it_is(sureness: float) -> None:
    gold = DRAW.integers(4, size=(2000, 1))
    found = option_bits(sureness * DRAW.normal(size=(2000, 1, 4)), gold)
    assert abs(found.mean()) < 0.01


@pytest.mark.parametrize("error", [0.1, 0.3])
def test_a_noisy_symmetric_channel_has_its_capacity(error: float) -> None:
    # The likeliest option is right but in a share of the items; the scores are far too sure.
    gold = DRAW.integers(4, size=(20_000, 1))
    shift = np.where(DRAW.random((20_000, 1)) < error, DRAW.integers(1, 4, size=(20_000, 1)), 0)
    logps = np.where(np.arange(4) == ((gold + shift) % 4)[..., None], 0.0, -12.0)
    entropy = -(1 - error) * np.log2(1 - error) - error * np.log2(error / 3)
    assert option_bits(logps, gold).mean() == pytest.approx(2 - entropy, abs=0.03)


def test_items_may_have_different_numbers_of_options() -> None:
    logps = np.full((100, 1, 4), -9.0)
    logps[..., 0] = 0.0
    logps[:50, :, 2:] = -np.inf
    found = option_bits(logps, np.zeros((100, 1), dtype=int))
    assert found[:50].mean() == pytest.approx(1, abs=1e-3) and found[50:].mean() == pytest.approx(2, abs=1e-3)


def test_a_written_answer_that_is_certain_has_all_bits_and_one_without_a_clue_none() -> None:
    assert written_bits(np.full((100, 1), -1e-9), 10_000).mean() == pytest.approx(np.log2(10_000), abs=1e-3)
    assert written_bits(np.full((100, 1), -200.0), 10_000).mean() == pytest.approx(0, abs=1e-6)


def test_a_written_answer_that_is_right_or_lost_has_the_bits_of_an_erasure_channel() -> None:
    logps = np.where(DRAW.random((20_000, 1)) < 0.6, 0.0, -50.0)
    # H(0.6) bits are lost, since the Receiver does not say which of its answers are right.
    lost = -0.6 * np.log2(0.6) - 0.4 * np.log2(0.4)
    assert written_bits(logps, 10_000).mean() == pytest.approx(0.6 * np.log2(10_000) - lost, abs=0.15)


def test_the_calibration_never_sees_the_items_that_it_is_applied_to() -> None:
    gold = np.zeros((40, 1), dtype=int)
    logps = DRAW.normal(size=(40, 1, 4))
    before = option_bits(logps, gold)
    changed = logps.copy()
    changed[0, 0] = [5.0, 0.0, 0.0, 0.0]
    after = option_bits(changed, gold)
    # The items of the same half are scored as before, since their setting comes from the other half.
    assert np.array_equal(before[2::2], after[2::2]) and not np.array_equal(before[1::2], after[1::2])


def test_bits_of_a_cell_come_from_the_written_answer_where_the_task_says_how_many_values_there_are() -> None:
    records = records_of(TestBed(items=60).records())
    pair = records.cells[0].pair
    full_word, full_code = (
        bits(records, CellIds(pair, task, "full"), "none") for task in ("redacted_word", "redacted_code")
    )
    assert full_word.to_numpy().mean() == pytest.approx(2, abs=0.1)
    assert full_code.to_numpy().mean() > 10
