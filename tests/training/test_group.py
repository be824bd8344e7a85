"""Fusers of several Sharers learn on the same batches."""

from __future__ import annotations

import pytest
import torch

from c2c import RefusedError, RosettaModel, SharerInput
from c2c.fusion.prompt import section_index
from c2c.training.config import TrainingConfig
from c2c.training.group import GroupBatch, train_group
from c2c.types import IGNORED

CONFIG = TrainingConfig(hidden_dim=16, intermediate_dim=16, steps=12, batch_size=2, learning_rate=1e-2)


@pytest.fixture
def batch(prompt_ids) -> GroupBatch:
    labels = prompt_ids.clone()
    labels[:, :-1] = IGNORED
    prefix = prompt_ids[:, :9]
    reading = SharerInput.of_receiver(prefix, torch.ones_like(prefix))
    return GroupBatch([section_index(0b11, 9), section_index(-1, 2)], prompt_ids, labels, [reading, reading])


def weights(model: RosettaModel, number: int) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in model.stack(number).parameters()])


def test_the_fusers_of_each_sharer_learn_and_the_models_stay_as_they_are(two_sharers, batch) -> None:
    before = [weights(two_sharers, number) for number in (0, 1)]
    frozen = [weight.detach().clone() for model in two_sharers.model_list for weight in model.parameters()]
    losses = train_group(two_sharers, lambda step: batch, CONFIG)
    assert len(losses) == CONFIG.steps and losses[-1] < losses[0]
    assert not any(torch.equal(old, weights(two_sharers, number)) for number, old in enumerate(before))
    after = [weight for model in two_sharers.model_list for weight in model.parameters()]
    assert all(map(torch.equal, frozen, after))
    assert not two_sharers.training


def test_each_step_gets_its_own_batch(two_sharers, batch) -> None:
    steps = []
    train_group(two_sharers, lambda step: steps.append(step) or batch, CONFIG)
    assert steps == list(range(1, CONFIG.steps + 1))


def test_what_the_receiver_has_read_before_changes_no_loss(two_sharers, batch) -> None:
    two_sharers.eval()
    with torch.no_grad():
        cache = two_sharers.receiver(batch.input_ids[:, :9], use_cache=True).past_key_values
    prefix = [(layer.keys, layer.values) for layer in cache.layers]
    losses = [
        two_sharers(*each[:2], labels=each.labels, sharer_inputs=each.sharer_inputs, prefix=each.prefix).loss
        for each in (batch, batch._replace(prefix=prefix))
    ]
    torch.testing.assert_close(*losses)


def test_a_loss_that_is_not_finite_stops_the_training(two_sharers, batch) -> None:
    next(two_sharers.stack(0).parameters()).data.fill_(float("nan"))
    with pytest.raises(RefusedError, match=r"must be a finite number.*at step 1 of 12"):
        train_group(two_sharers, lambda step: batch, CONFIG)
