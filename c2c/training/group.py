"""Fusers of several Sharers that learn together.

Fusers that were trained alone add up what each of them makes of a Sharer that does not know the answer. Here they learn
on the same batches which of them has something to say, and leave room for the others' messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from c2c.alignment.tokens import SharerInput
from c2c.errors import RefusedError
from c2c.rosetta import RosettaModel
from c2c.training.config import TrainingConfig
from c2c.types import KeyValue


class GroupBatch(NamedTuple):
    """Arguments of `RosettaModel.forward`, with an input of each Sharer.

    Args:
        kv_cache_index: One ``(B or 1, n, 2)`` int64 tensor a section.
        input_ids: ``(B, N)`` int64, prompts and responses.
        labels: ``(B, N)`` int64, -100 where there is no loss.
        sharer_inputs: What each Sharer reads.
        attention_mask: ``(B, N)``; all ones if None.
        prefix: What the Receiver holds of the first columns, where it has read them before.
    """

    kv_cache_index: Sequence[Tensor]
    input_ids: Tensor
    labels: Tensor
    sharer_inputs: Sequence[SharerInput]
    attention_mask: Tensor | None = None
    prefix: Sequence[KeyValue] | None = None


def train_group(model: RosettaModel, batch_of: Callable[[int], GroupBatch], config: TrainingConfig) -> list[float]:
    """Train the Fusers of all Sharers of a model at once, with the optimiser and schedule of `c2c.training.learner`.

    Args:
        model: The Receiver, its Sharers and their Fusers; in eval mode afterwards.
        batch_of: Gives the batch of a step, from 1.
        config: ``steps``, ``learning_rate``, ``weight_decay``, ``warmup_ratio`` and ``max_gradient_norm``; the others
            have no effect, since the Fusers and batches are there.

    Returns:
        The loss of each step, in nats a token.

    Raises:
        RefusedError: If a loss is not finite.
    """
    stacks = [model.stack(number) for number in range(len(model.sharers))]
    parameters = list({id(weight): weight for stack in stacks for weight in stack.parameters()}.values())
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, int(config.warmup_ratio * config.steps), config.steps)
    losses: list[float] = []
    model.train()
    for step in range(1, config.steps + 1):
        batch = batch_of(step)
        loss = model(
            batch.kv_cache_index,
            batch.input_ids,
            batch.attention_mask,
            labels=batch.labels,
            sharer_inputs=batch.sharer_inputs,
            prefix=batch.prefix,
        ).loss
        losses.append(loss.item())
        if not loss.isfinite():
            rule = "The loss must be a finite number at every step"
            raise RefusedError(rule, f"{losses[-1]} at step {step} of {config.steps}", "Lower learning_rate")
        # Gradients of all Fusers, clipped together; then the temperature of their gates for the next step
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        for stack in stacks:
            stack.anneal(step)
    model.eval()
    return losses
