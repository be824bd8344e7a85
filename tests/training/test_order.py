"""Batches of similar length: every example once an epoch, entered at any step, with few pads."""

from __future__ import annotations

import random
from itertools import islice, pairwise

import pytest

from c2c.training.batch_order import WINDOW, batch_order, by_length, padding


def uneven(count: int, seed: int = 0) -> list[tuple[int, int]]:
    draw = random.Random(seed)
    return [(draw.randint(8, 120), draw.choice([1, 2, 3, 5, 12, 40])) for _ in range(count)]


@pytest.mark.parametrize(("examples", "batch"), [(10, 4), (100, 8), (7, 7), (3, 8), (257, 16)])
@pytest.mark.parametrize("window", [1, 3, WINDOW])
def test_every_example_is_trained_once_an_epoch_and_epochs_differ(examples: int, batch: int, window: int) -> None:
    batches = list(islice(batch_order(uneven(examples), batch, seed=3, window=window), 4 * examples // batch + 4))
    assert {len(each) for each in batches} == {batch}
    flat = [index for each in batches for index in each]
    epochs = [flat[at : at + examples] for at in range(0, 3 * examples, examples)]
    assert all(sorted(epoch) == list(range(examples)) for epoch in epochs)
    assert examples <= batch or epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [1, 3, 13, 40])
def test_the_order_can_be_entered_at_any_step(start: int) -> None:
    lengths = uneven(83)
    whole = list(islice(batch_order(lengths, 8, seed=1), 60))
    assert list(islice(batch_order(lengths, 8, seed=1, start=start), 20)) == whole[start : start + 20]


def test_another_seed_gives_other_batches_and_the_same_seed_the_same() -> None:
    lengths = uneven(64)
    one, same, other = (list(islice(batch_order(lengths, 8, seed=seed), 8)) for seed in (0, 0, 1))
    assert one == same != other


def test_batches_of_similar_length_hold_a_third_of_the_pads_or_less() -> None:
    lengths = uneven(2048)
    shuffled, bucketed = (
        padding(list(islice(batch_order(lengths, 8, seed=0, window=window), 256)), lengths) for window in (1, WINDOW)
    )
    assert shuffled > 0.4
    assert bucketed < shuffled / 3


def test_the_batches_of_an_epoch_do_not_come_in_the_order_of_their_length() -> None:
    lengths = uneven(512)
    means = [sum(lengths[index][0] for index in batch) / 8 for batch in islice(batch_order(lengths, 8, seed=0), 32)]
    assert means != sorted(means) and means != sorted(means, reverse=True)
    rises = sum(later > earlier for earlier, later in pairwise(means))
    assert 8 <= rises <= 23


def test_prompts_are_sorted_where_all_responses_are_alike() -> None:
    lengths = [(prompt, 2) for prompt in (9, 3, 7, 1, 5)]
    assert by_length(range(5), lengths, 2) == [3, 1, 4, 2, 0]


def test_responses_are_sorted_where_all_prompts_are_alike() -> None:
    lengths = [(4, response) for response in (9, 3, 7, 1, 5, 2)]
    batches = by_length(range(6), lengths, 2)
    assert [sorted(lengths[index][1] for index in batches[at : at + 2]) for at in (0, 2, 4)] == [[1, 2], [3, 5], [7, 9]]


def test_the_share_of_pads_counts_prompts_and_responses_apart() -> None:
    assert padding([[0, 1]], [(4, 1), (2, 3)]) == pytest.approx(1 - 10 / 14)
