"""The training that all channels with trained weights share: the order of batches, the schedule, the loss, the curve.

Only a channel's own weights are trained; both models are frozen. The loss is that of the value's tokens after the
Receiver's prompt. Curves have a point at few steps, on persons and values of the validation items.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from c2c.cache import kv_cache
from c2c.evaluation.answers.likelihood import PrefilledBatch
from c2c.settings import check_values, setting
from c2c.testbed.channel import Channel, Prompt, ReceiverAnswer, TrainingItem, TrainingResult
from c2c.testbed.controls import donors, zeroed
from c2c.testbed.models import Prefixes, Receiver


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Of a training.

    Args:
        steps: Optimiser steps.
        batch_size: Examples of a step.
        learning_rate: Peak, after a warm-up of 5 % and before a linear decay.
        weight_decay: Of AdamW.
        curve_items: Validation items of a point of the curve.
    """

    steps: int = setting(300, "optimiser steps", least=1, most=10**6)
    batch_size: int = setting(32, "items of a step", least=1, most=10**5)
    learning_rate: float = setting(1e-3, "peak learning rate", above=0, most=1)
    weight_decay: float = setting(0.01, "weight decay of AdamW", least=0)
    curve_items: int = setting(100, "validation items of a point of the curve", least=0, most=10**6)

    def __post_init__(self) -> None:
        check_values(self)


def train(
    channel: Channel,
    weights: nn.Module,
    settings: StepSettings,
    loss: Callable[[Sequence[int]], Tensor],
    count: int,
    validation: Sequence[TrainingItem],
    seed: int,
    *,
    after_step: Callable[[int], object] = lambda step: None,
) -> TrainingResult:
    """Train the weights of a channel.

    Args:
        channel: Sends and receives the validation items at the points of the curve.
        weights: What is trained: its parameters that have gradients; in training mode in the steps only.
        settings: Of the training.
        loss: Loss of some training examples by their numbers, ``()``.
        count: Number of training examples.
        validation: Unseen persons and values.
        seed: Of the order of the examples.
        after_step: Called with the number of steps done.

    Returns:
        The number of parameters that were trained, the steps and the curve.
    """
    trained = [parameter for parameter in weights.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, settings.steps))
    batches = batches_of(count, settings.batch_size, seed)
    result = TrainingResult(sum(parameter.numel() for parameter in trained), settings.steps)
    marks = set(curve_steps(settings.steps))
    losses: list[float] = []
    for step in range(settings.steps + 1):
        if step in marks:
            weights.eval()
            result.curve += curve_point(channel, validation[: settings.curve_items], step, losses, seed)
            losses = []
        if step == settings.steps:
            break
        weights.train()
        value = loss(next(batches))
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        after_step(step + 1)
        losses.append(float(value.detach()))
    return result


def batches_of(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of numbers below `count`; each number comes once before any comes again."""
    order: list[int] = []
    draw = random.Random(seed)
    while True:
        while len(order) < size:
            order += draw.sample(range(count), count)
        yield order[:size]
        order = order[size:]


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: a warm-up of 5 % of the steps, then a linear decay to 2 %."""
    warmup = max(1.0, 0.05 * steps)
    return min(1.0, (step + 1) / warmup) * max(0.02, 1 - max(0.0, (step - warmup) / max(steps - warmup, 1)))


def value_loss(receiver: Receiver, prompts: Sequence[Prompt], prefixes: Prefixes) -> Tensor:
    """Mean loss of the values' tokens after the prompts, ``()`` in nats; gradients reach the prefixes."""
    targets = [
        list(receiver.tokenizer(f" {prompt.value}", add_special_tokens=False)["input_ids"]) for prompt in prompts
    ]
    width, device = max(map(len, targets)), receiver.device
    # (B, n): the last prompt token and all tokens of the value but its last, right-padded
    ids = torch.tensor([row + [0] * (width - len(row)) for row in targets], device=device)
    supervised = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in targets], device=device)
    inputs = torch.cat([prefixes.last, ids[:, :-1]], dim=1)
    mask = torch.cat([prefixes.mask, supervised.long()], dim=1)
    cache = kv_cache.cache_of_layers(prefixes.layers, receiver.model.config)
    # As an answer is read, so that windows and rotations are those of each row alone: (K, V)
    batch = PrefilledBatch(receiver.model, prefixes.mask, prefixes.mask.shape[1], cache, None)
    return functional.cross_entropy(batch.logits(inputs, mask, supervised).float(), ids[supervised])


# The curve


def curve_steps(steps: int) -> list[int]:
    """Steps at which a curve has a point: 0, then 5, 10, 20, 50, ... and the last."""
    marks = {base * 10**power for power in range(6) for base in (1, 2, 5)}
    return [0, *sorted(mark for mark in marks if 5 <= mark < steps), steps]


def curve_point(
    channel: Channel, examples: Sequence[TrainingItem], step: int, losses: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """Rows of the curve at a step: shares of right answers with three messages, and the loss since the last point."""
    loss = sum(losses) / len(losses) if losses else math.nan
    if not examples:
        return [{"step": step, "message": "matched", "loss": loss}]
    prompts = [example.prompt for example in examples]
    matched = channel.send([example.context for example in examples])
    partners = donors(matched, [len(p.tokens) for p in prompts], [p.value for p in prompts], seed)
    variants = {"matched": matched, "deranged": [matched[n] for n in partners], "zeroed": zeroed(matched)}
    rows = []
    for name, messages in variants.items():
        outcomes = list(zip(prompts, channel.receive(messages, prompts), strict=True))
        if name == "deranged":
            # An item that no other could give a message has its own one.
            outcomes = [pair for number, pair in enumerate(outcomes) if partners[number] != number]
            if not outcomes:
                continue
        accuracy = sum(_is_right(prompt, outcome) for prompt, outcome in outcomes) / len(outcomes)
        exact = sum(outcome.text == prompt.value for prompt, outcome in outcomes) / len(outcomes)
        row = {"step": step, "message": name, "accuracy": accuracy, "exact": exact, "items": len(outcomes)}
        rows.append(row | ({"loss": loss} if name == "matched" else {}))
    return rows


def _is_right(prompt: Prompt, answer: ReceiverAnswer) -> bool:
    """Whether the likeliest option is the value; False without options."""
    return bool(prompt.options) and prompt.options[prompt.choose(answer.option_logps)] == prompt.value
