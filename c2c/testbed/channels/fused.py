"""Cache-to-Cache at the places of an item: Fusers that are trained from random weights, or on top of the closed form.

The Fusers are those of the library (`c2c.fuser.stack.FuserStack`). They read the Sharer's states at the places and the
Receiver's, and write what the Receiver then has there. A training step runs the Fusers and the Receiver's last prompt
token with the tokens of the value: both models' other states are read once and kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from c2c.cache import kv_cache
from c2c.cache.rotation import rotate_layers
from c2c.fuser.stack import FuserStack
from c2c.generation.head import logits_at
from c2c.testbed.channel import Context, Example, Message, Outcome, Prompt, Training
from c2c.testbed.channels.ridge import RidgeMap, fit_examples, predict_states
from c2c.testbed.channels.states import message_of, states_of
from c2c.testbed.controls import donors, zeroed
from c2c.testbed.models import Models, Prefixes, States, pad_places, place_columns, write_places


@dataclass(frozen=True)
class FuserSettings:
    """Of the trainings of one channel.

    Args:
        variant: Of the Fuser.
        width: Hidden and intermediate width.
        layer_alignment: Which Sharer layer each Receiver layer reads.
        first_layer: Share of the Receiver's layers below which none is fused.
        steps: Optimiser steps.
        batch_size: Examples of a step.
        learning_rate: Peak, after a warm-up of 5 % and before a linear decay.
        weight_decay: Of AdamW.
        dropout: Of the Fusers.
        output_init: ``default``, or ``ridge``: the Receiver's states are first replaced by the closed form's.
        curve_items: Validation items of a point of the curve.
    """

    variant: str = "full"
    width: int = 128
    layer_alignment: str = "nearest"
    first_layer: float = 0.0
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    output_init: str = "default"
    curve_items: int = 100


def curve_steps(steps: int) -> list[int]:
    """Steps at which a curve has a point: 0, then 1, 2, 5, 10, 20, 50, ... and the last."""
    marks = {base * 10**power for power in range(6) for base in (1, 2, 5)}
    return [0, *sorted(mark for mark in marks if 5 <= mark < steps), steps]


class Fused:
    """Fusers at the places; see the module. A subclass names its settings."""

    settings: FuserSettings
    closed_form: RidgeMap | None = None
    stack: FuserStack

    def __init__(self, models: Models) -> None:
        models.receiver.check_rotation()
        models.sharer.check_rotation()
        self.models = models

    # Sending and receiving

    def send(self, contexts: Sequence[Context]) -> list[Message]:
        """Keys without rotation and values of the Sharer at the places."""
        return [message_of(states) for states in self.models.sharer.states(contexts)]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[Outcome]:
        """Answers from the fused cache."""
        bases = None if self.closed_form is None else predict_states(self.models, self.closed_form, messages)
        self.stack.eval()

        @torch.no_grad()
        def receive(batch: Sequence[Prompt], numbers: Sequence[int]) -> list[Outcome]:
            states = [states_of(messages[number]) for number in numbers]
            starts = None if bases is None else [bases[number] for number in numbers]
            return self.models.receiver.answer(batch, self._fuse(batch, states, starts))

        return self.models.in_batches(receive, prompts)

    def _fuse(self, prompts: Sequence[Prompt], states: Sequence[States], bases: Sequence[States] | None) -> Prefixes:
        """Prefixes of B prompts whose places are fused.

        Args:
            prompts: Of the Receiver.
            states: Of the Sharer, ``(S, 2, Hs, n, Ds)`` each, keys without rotation.
            bases: What the Receiver's states at the places are replaced with first, ``(T, 2, Ht, n, Dt)`` each.
        """
        receiver = self.models.receiver
        prefixes = receiver.prefixes(prompts) if bases is None else receiver.replaced(prompts, bases)
        index, taken = place_columns(prompts, prefixes)
        # B x (S, 2, Hs, n, Ds) -> (B, S, 2, Hs, n, Ds)
        whole = pad_places(states, index.shape[1]).to(next(self.stack.parameters()).dtype)
        # Both models' keys have the rotation of the Receiver's position, as in a cache of the same text.
        positions = index - prefixes.starts[:, None]
        source = [(whole[:, layer, 0], whole[:, layer, 1]) for layer in range(whole.shape[1])]
        source = rotate_layers(self.models.sharer.model, source, positions)
        own = kv_cache.take_tokens(prefixes.layers, index)
        return write_places(prefixes, self.stack(source, own), index, taken)

    # Training

    def fit(self, training: Sequence[Example], validation: Sequence[Example], seed: int) -> Training:
        """Train the Fusers on the loss of the value's tokens after the prompt."""
        settings, models = self.settings, self.models
        # 1. The closed form, if the Fusers start from it: they learn from its predictions of rows left out.
        examples, bases, parameters = list(training), None, 0
        if settings.output_init == "ridge":
            self.closed_form, bases = fit_examples(models, examples)
            parameters = self.closed_form.parameters
        # 2. The Fusers, and everything frozen that they read.
        self.stack = self._build(seed)
        states = models.sharer.states([example.context for example in examples])
        trained = [parameter for parameter in self.stack.parameters() if parameter.requires_grad]
        parameters += sum(parameter.numel() for parameter in trained)
        optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, settings.steps))
        # 3. The steps, with points of the curve at some of them.
        order, draw = [], random.Random(seed)
        result, losses = Training(parameters, settings.steps), []
        marks = set(curve_steps(settings.steps))
        for step in range(settings.steps + 1):
            if step in marks:
                result.curve += self._point(validation, step, losses, seed)
                losses = []
            if step == settings.steps:
                break
            while len(order) < settings.batch_size:
                order += draw.sample(range(len(examples)), len(examples))
            numbers, order = order[: settings.batch_size], order[settings.batch_size :]
            self.stack.train()
            starts = None if bases is None else [bases[number] for number in numbers]
            prompts = [examples[number].prompt for number in numbers]
            loss = self._loss(prompts, self._fuse(prompts, [states[number] for number in numbers], starts))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            self.stack.anneal(step + 1)
            losses.append(float(loss.detach()))
        self.stack.eval()
        return result

    def _build(self, seed: int) -> FuserStack:
        settings = self.settings
        torch.manual_seed(seed)
        stack = FuserStack.of_shapes(
            self.models.sharer.shape,
            self.models.receiver.shape,
            layer_alignment=settings.layer_alignment,
            variant=settings.variant,
            hidden_dim=settings.width,
            intermediate_dim=settings.width,
            dropout=settings.dropout,
            anneal_steps=settings.steps,
        )
        layers = self.models.receiver.shape.layers
        stack.only_layers(range(round(settings.first_layer * layers), layers))
        if settings.output_init == "ridge":
            # The closed form is what the first step has.
            for fuser in stack.all_fusers():
                fuser.zero_output()
        return stack.to(self.models.receiver.device)

    def _loss(self, prompts: Sequence[Prompt], prefixes: Prefixes) -> Tensor:
        """Mean loss of the values' tokens after the prompts, ``()`` in nats."""
        receiver = self.models.receiver
        targets = [self._value_tokens(prompt) for prompt in prompts]
        width, device = max(map(len, targets)), receiver.device
        # (B, n): the last prompt token and all tokens of the value but its last, right-padded
        ids = torch.tensor([row + [0] * (width - len(row)) for row in targets], device=device)
        supervised = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in targets], device=device)
        inputs = torch.cat([prefixes.last, ids[:, :-1]], dim=1)
        mask = torch.cat([prefixes.mask, supervised.long()], dim=1)
        positions = kv_cache.positions_of(mask)[:, -width:]
        cache = kv_cache.cache_of_layers(prefixes.layers, receiver.model.config)
        with logits_at(receiver.model, supervised):
            output = receiver.model(
                input_ids=inputs, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True
            )
        # (1, K, V) -> (K, V)
        return functional.cross_entropy(output.logits.flatten(0, 1).float(), ids[supervised])

    def _value_tokens(self, prompt: Prompt) -> list[int]:
        return list(self.models.receiver.tokenizer(f" {prompt.value}", add_special_tokens=False)["input_ids"])

    def _point(
        self, validation: Sequence[Example], step: int, losses: Sequence[float], seed: int
    ) -> list[dict[str, Any]]:
        """Rows of the curve: the loss since the last point, and the accuracy on unseen persons and values."""
        examples = validation[: self.settings.curve_items]
        loss = sum(losses) / len(losses) if losses else math.nan
        if not examples:
            return [{"step": step, "message": "matched", "loss": loss}]
        prompts = [example.prompt for example in examples]
        matched = self.send([example.context for example in examples])
        partners = donors(matched, [len(p.tokens) for p in prompts], [p.value for p in prompts], seed)
        variants = {"matched": matched, "deranged": [matched[n] for n in partners], "zeroed": zeroed(matched)}
        rows = []
        for name, messages in variants.items():
            outcomes = list(zip(prompts, self.receive(messages, prompts), strict=True))
            accuracy = sum(is_right(prompt, outcome) for prompt, outcome in outcomes) / len(outcomes)
            exact = sum(outcome.text == prompt.value for prompt, outcome in outcomes) / len(outcomes)
            row = {"step": step, "message": name, "accuracy": accuracy, "exact": exact, "items": len(outcomes)}
            rows.append(row | ({"loss": loss} if name == "matched" else {}))
        return rows


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: a warm-up of 5 % of the steps, then a linear decay to 2 %."""
    warmup = max(1.0, 0.05 * steps)
    return min(1.0, (step + 1) / warmup) * max(0.02, 1 - max(0.0, (step - warmup) / max(steps - warmup, 1)))


def is_right(prompt: Prompt, outcome: Outcome) -> bool:
    """Whether the likeliest option is the value; False without options."""
    if not prompt.options:
        return False
    best = max(range(len(prompt.options)), key=outcome.option_logps.__getitem__)
    return prompt.options[best] == prompt.value


class FromRandomWeights(Fused):
    """The published method at the places: gates that are learned, and random weights."""

    settings = FuserSettings()


class OnRidge(Fused):
    """Fusers without gates that start from the closed form."""

    settings = FuserSettings(variant="ungated", first_layer=1 / 3, steps=100, output_init="ridge")
