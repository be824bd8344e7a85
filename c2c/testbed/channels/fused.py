"""Cache-to-Cache at the places of an item: Fusers that are trained from random weights, or on top of the closed form.

The Fusers are those of the library (`c2c.fuser.stack.FuserStack`). They read the Sharer's states at the places and the
Receiver's, and write what the Receiver then has there. A training step runs the Fusers and the Receiver's last prompt
token with the tokens of the value: both models' other states are read once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from c2c.cache import kv_cache
from c2c.cache.rotation import rotate_layers
from c2c.fuser.config import VARIANTS
from c2c.fuser.latent import LatentEncoder, LatentSpace
from c2c.fuser.stack import FuserStack
from c2c.settings import setting
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext, TrainingItem, TrainingResult
from c2c.testbed.channels.ridge import RidgeMap, fit_examples, predict_states
from c2c.testbed.channels.states import message_of, states_of
from c2c.testbed.channels.training import StepSettings, train, value_loss
from c2c.testbed.models import Models, Prefixes, States, pad_places, place_columns, write_places
from c2c.types import LAYER_ALIGNMENTS, CacheShape, KeyValue


@dataclass(frozen=True, kw_only=True)
class FuserSettings(StepSettings):
    """Of Fusers and their training.

    Args:
        variant: Of the Fuser.
        width: Hidden and intermediate width.
        layer_alignment: Which Sharer layer each Receiver layer reads.
        first_layer: Share of the Receiver's layers below which none is fused.
        dropout: Of the Fusers.
        output_init: ``default``, or ``ridge``: the Receiver's states are first replaced by the closed form's.
    """

    variant: str = setting("full", "variant of the Fuser", choices=tuple(VARIANTS))
    width: int = setting(128, "hidden width", least=1, most=10**6)
    layer_alignment: str = setting("nearest", "which Sharer layer each Receiver layer reads", choices=LAYER_ALIGNMENTS)
    first_layer: float = setting(0.0, "share of the layers below which none is fused", least=0, below=1)
    dropout: float = setting(0.1, "dropout", least=0, below=1)
    output_init: str = setting("default", "where the Fusers start", choices=("default", "ridge"))


class Fused:
    """Fusers at the places; see the module. A subclass names its settings.

    A message holds the Sharer's keys and values of all layers, ``(S, H, n, D)`` each.
    """

    settings: FuserSettings
    closed_form: RidgeMap | None = None
    stack: FuserStack

    def __init__(self, models: Models) -> None:
        models.receiver.check_rotation()
        models.sharer.check_rotation()
        self.models = models

    # Sending and receiving

    @torch.no_grad()
    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Keys without rotation and values of the Sharer at the places."""
        return [message_of(states) for states in self._sent(self.models.sharer.states(contexts))]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers from the fused cache."""
        bases = None if self.closed_form is None else predict_states(self.models, self.closed_form, messages)
        self.stack.eval()

        @torch.no_grad()
        def receive(batch: Sequence[Prompt], numbers: Sequence[int]) -> list[ReceiverAnswer]:
            states = [states_of(messages[number]) for number in numbers]
            starts = None if bases is None else [bases[number] for number in numbers]
            return self.models.receiver.answer(batch, self._fuse(batch, states, starts))

        return self.models.in_batches(receive, prompts)

    def _sent(self, states: Sequence[States]) -> list[States]:
        """What is sent of the Sharer's states ``(S, 2, Hs, n, Ds)``; gradients included."""
        return list(states)

    def _read(self, source: list[KeyValue], positions: Tensor) -> list[KeyValue]:
        """What the Fusers read of the layers that were sent, at positions ``(B, n)`` of the Receiver."""
        # Both models' keys have the rotation of the Receiver's position, as in a cache of the same text.
        return rotate_layers(self.models.sharer.model, source, positions)

    def _fuse(self, prompts: Sequence[Prompt], states: Sequence[States], bases: Sequence[States] | None) -> Prefixes:
        """Prefixes of B prompts whose places are fused.

        Args:
            prompts: Of the Receiver.
            states: What was sent, ``(S, 2, Hs, n, Ds)`` each.
            bases: What the Receiver's states at the places are replaced with first, ``(T, 2, Ht, n, Dt)`` each.
        """
        receiver = self.models.receiver
        prefixes = receiver.prefixes(prompts) if bases is None else receiver.replaced(prompts, bases)
        index, taken = place_columns(prompts, prefixes)
        # B x (S, 2, Hs, n, Ds) -> (B, S, 2, Hs, n, Ds)
        whole = pad_places(states, index.shape[1]).to(next(self.stack.parameters()).dtype)
        positions = index - prefixes.starts[:, None]
        source = self._read([(whole[:, layer, 0], whole[:, layer, 1]) for layer in range(whole.shape[1])], positions)
        own = kv_cache.take_tokens(prefixes.layers, index)
        return write_places(prefixes, self.stack(source, own), index, taken)

    # Training

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Train the Fusers on the loss of the value's tokens after the prompt."""
        settings, models = self.settings, self.models
        # 1. The closed form, if the Fusers start from it: they learn from its predictions of rows left out.
        bases: list[States] | None = None
        if settings.output_init == "ridge":
            self.closed_form, bases = fit_examples(models, training)
        # 2. The Fusers, and everything frozen that they read.
        torch.manual_seed(seed)
        weights = self._build().to(models.receiver.device)
        states = models.sharer.states([example.context for example in training])

        def loss(numbers: Sequence[int]) -> Tensor:
            prompts = [training[number].prompt for number in numbers]
            starts = None if bases is None else [bases[number] for number in numbers]
            prefixes = self._fuse(prompts, self._sent([states[number] for number in numbers]), starts)
            return value_loss(models.receiver, prompts, prefixes)

        # 3. The steps.
        result = train(
            self, weights, settings, loss, len(training), validation, seed, after_step=lambda n: self.stack.anneal(n)
        )
        result.parameters += 0 if self.closed_form is None else self.closed_form.parameters
        weights.eval()
        return result

    def _build(self) -> nn.Module:
        """New weights, with the Fusers as `stack`."""
        self.stack = FuserStack.of_shapes(
            self.models.sharer.shape, self.models.receiver.shape, **self._fuser_arguments()
        )
        self._choose_layers()
        if self.settings.output_init == "ridge":
            # The closed form is what the first step has.
            for fuser in self.stack.all_fusers():
                fuser.zero_output()
        return self.stack

    def _fuser_arguments(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "layer_alignment": settings.layer_alignment,
            "variant": settings.variant,
            "hidden_dim": settings.width,
            "intermediate_dim": settings.width,
            "dropout": settings.dropout,
            "anneal_steps": settings.steps,
        }

    def _choose_layers(self) -> None:
        layers = self.models.receiver.shape.layers
        self.stack.only_layers(range(round(self.settings.first_layer * layers), layers))


class FromRandomWeights(Fused):
    """The published method at the places: gates that are learned, and random weights."""

    settings = FuserSettings()


class OnRidge(Fused):
    """Fusers without gates that start from the closed form."""

    settings = FuserSettings(variant="ungated", first_layer=1 / 3, steps=100, output_init="ridge")


@dataclass(frozen=True, kw_only=True)
class LatentSettings(FuserSettings):
    """Of a latent cache, and of its decoder's Fusers.

    Args:
        latent_layers: Layers of the latent cache.
        latent_width: Numbers of a token in one layer of it, of keys and of values each.
    """

    variant: str = setting("ungated", "variant of the Fuser", choices=tuple(VARIANTS))
    first_layer: float = setting(1 / 3, "share of the layers below which none is fused", least=0, below=1)
    latent_layers: int = setting(8, "layers of the latent cache", least=1, most=10**6)
    latent_width: int = setting(64, "width of the latent cache", least=1, most=10**6)


class Latent(Fused):
    """A latent cache that any number of models can share: the Sharer's encoder sends it, the Receiver's decoder reads.

    The paper's Table 14 names the idea; encoder and decoder are those of `c2c.fuser.latent`, trained together. A
    message holds keys and values of the latent cache, ``(L, 1, n, width)`` each; no position is in it.
    """

    settings: FuserSettings = LatentSettings()
    encoder: LatentEncoder

    def _build(self) -> nn.Module:
        settings, models = self.settings, self.models
        assert isinstance(settings, LatentSettings)
        shape = CacheShape(settings.latent_layers, 1, settings.latent_width)
        shapes = ({"sharer": models.sharer.shape}, {"receiver": models.receiver.shape})
        space = LatentSpace(*shapes, shape, **self._fuser_arguments())
        self.stack, self.encoder = space.decoder("receiver"), space.stack("receiver", "sharer").encoder
        self._choose_layers()
        return space

    def _sent(self, states: Sequence[States]) -> list[States]:
        counts, sharer = [part.shape[3] for part in states], self.models.sharer
        # All tokens of all messages in one row: (S, 2, Hs, sum of n, Ds) -> S x (1, Hs, sum of n, Ds)
        whole = torch.cat(list(states), dim=3)
        latent = self.encoder([(layer[None, 0], layer[None, 1]) for layer in whole])
        # L x (1, 1, sum of n, D) of keys and of values -> (L, 2, 1, sum of n, D)
        latent_states = torch.stack([torch.cat(layer) for layer in latent])
        # A Sharer that reads nothing sends nothing, not what an encoder makes of nothing.
        return list((latent_states * 0 if sharer.silent else latent_states).split(counts, dim=3))

    def _read(self, source: list[KeyValue], positions: Tensor) -> list[KeyValue]:
        return source
