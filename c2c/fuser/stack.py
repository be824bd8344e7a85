"""All Fusers between one Sharer and the Receiver, each with the Sharer layer that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from c2c.alignment.layers import align_layers
from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError
from c2c.fuser.config import FuserConfig
from c2c.fuser.layer import Fuser
from c2c.fuser.variants import create_fuser
from c2c.types import HALVES, CacheShape, Half, KeyValue


@dataclass(frozen=True)
class Link:
    """A Receiver layer, the Sharer layer that it is fused with, and the number of the Fuser in its stack."""

    receiver_layer: int
    sharer_layer: int
    fuser: int


class FuserStack(nn.Module):
    """The Fusers of one pair. Receiver layers without a link stay as they are.

    Attributes:
        active_layers: Receiver layers that are fused if they are linked, None for all of them; see `only_layers`.
        autocast: Precision in which the Fusers compute in training, their weights staying as they are; None for that
            of the weights. It is not saved.
        recompute: Whether training keeps none of the Fusers' activations, and computes them again in the backward
            pass. It is not saved.

    Args:
        sharer: Cache sizes of the Sharer.
        receiver: Cache sizes of the Receiver.
    """

    autocast: torch.dtype | None = None
    recompute: bool = False

    def __init__(self, sharer: CacheShape, receiver: CacheShape) -> None:
        super().__init__()
        self.sharer, self.receiver = sharer, receiver
        self.fusers = nn.ModuleList()
        self.links: dict[int, Link] = {}
        self.active_layers: frozenset[int] | None = None

    @classmethod
    def between(cls, sharer: Any, receiver: Any, *, layer_alignment: str = "terminal", **fuser: Any) -> FuserStack:
        """One new Fuser for each Receiver layer, linked by a layer alignment.

        Args:
            sharer: The Sharer's Hugging Face config.
            receiver: The Receiver's Hugging Face config.
            layer_alignment: ``terminal`` or ``nearest``.
            **fuser: Variant and sizes, as `FuserConfig.between` takes them.

        Raises:
            RefusedError: If an argument is unknown or out of range.
        """
        return cls.of_shapes(cache_shape(sharer), cache_shape(receiver), layer_alignment=layer_alignment, **fuser)

    @classmethod
    def of_shapes(
        cls, sharer: CacheShape, receiver: CacheShape, *, layer_alignment: str = "terminal", **fuser: Any
    ) -> FuserStack:
        """Build new Fusers as `between` does, from cache sizes instead of configs."""
        stack = FuserStack(sharer, receiver)
        config = FuserConfig.between(stack.sharer, stack.receiver, **fuser)
        for layer, source in enumerate(align_layers(layer_alignment, stack.receiver.layers, stack.sharer.layers)):
            stack.link(layer, source, create_fuser(config))
        return stack

    @property
    def source_shape(self) -> CacheShape:
        """Sizes of the cache that the Fusers read: the Sharer's, or what `source_layers` makes of it."""
        return self.sharer

    def source_layers(self, sharer: Sequence[KeyValue]) -> Sequence[KeyValue]:
        """The layers that the Fusers read, from S layers ``(B, Hs, N, Ds)`` of the Sharer: those themselves."""
        return sharer

    def link(self, receiver_layer: int, sharer_layer: int, fuser: Fuser) -> None:
        """Fuse a Receiver layer with a Sharer layer through `fuser`, which joins the stack if it is new.

        Raises:
            RefusedError: If a layer does not exist, the Receiver layer is linked already, or sizes do not fit.
        """
        for name, layer, layers in (
            ("Receiver", receiver_layer, self.receiver.layers),
            ("Sharer", sharer_layer, self.source_shape.layers),
        ):
            if not 0 <= layer < layers:
                raise RefusedError(
                    f"A link must name one of the {name}'s layers, 0 to {layers - 1}", layer, "Link an existing layer"
                )
        if receiver_layer in self.links:
            raise RefusedError(
                "A Receiver layer must have at most one Sharer layer",
                f"a second link for layer {receiver_layer}",
                "Link each Receiver layer once per Sharer",
            )
        self._check_sizes(fuser.config)
        # Several Receiver layers may share a Fuser, which joins the stack once.
        if not any(member is fuser for member in self.fusers):
            self.fusers.append(fuser)
        number = next(i for i, member in enumerate(self.fusers) if member is fuser)
        self.links[receiver_layer] = Link(receiver_layer, sharer_layer, number)

    def _check_sizes(self, config: FuserConfig) -> None:
        sizes = (config.sharer_heads, config.sharer_head_dim, config.receiver_heads, config.receiver_head_dim)
        needs = (self.source_shape.heads, self.source_shape.head_dim, self.receiver.heads, self.receiver.head_dim)
        if sizes != needs:
            raise RefusedError(
                f"A Fuser of this pair must have (Hs, Ds, Ht, Dt) = {needs}",
                sizes,
                "Create it from these two models' configs with create_c2c_projector",
            )

    def fuser_of(self, receiver_layer: int) -> Fuser:
        """The Fuser of a linked Receiver layer."""
        fuser = self.fusers[self.links[receiver_layer].fuser]
        assert isinstance(fuser, Fuser)
        return fuser

    def all_fusers(self) -> list[Fuser]:
        """The Fusers, each once, in the order in which they joined; new ones come last."""
        return [fuser for fuser in self.fusers if isinstance(fuser, Fuser)]

    def only_layers(self, layers: Iterable[int] | None) -> None:
        """Fuse no linked Receiver layers but these from now on, or all again if None. It is not saved.

        Raises:
            RefusedError: If the Receiver has no such layer.
        """
        if layers is not None and (isinstance(layers, str) or not isinstance(layers, Iterable)):
            raise RefusedError("Layers must be a list of numbers", layers, "Put the number into a list")
        active_layers = None if layers is None else frozenset(layers)
        unknown = sorted((active_layers or frozenset()) - set(range(self.receiver.layers)))
        if unknown:
            raise RefusedError(
                f"Layers must be those of the Receiver, 0 to {self.receiver.layers - 1}",
                unknown,
                "Name some of them, or none",
            )
        self.active_layers = active_layers

    def force_gates(self, open: bool | None) -> None:
        """Open (True) or close (False) the gates of all Fusers from now on, or let them be as learned (None).

        It is not saved, and a Fuser that is linked later has its gates as learned.
        """
        for layer in self.links:
            self.fuser_of(layer).gate_override = open

    def is_active(self, receiver_layer: int) -> bool:
        """Whether a Receiver layer is linked and not left out by `only_layers`."""
        return receiver_layer in self.links and (self.active_layers is None or receiver_layer in self.active_layers)

    def is_open(self, receiver_layer: int, half: Half) -> bool:
        """Whether one half of a linked Receiver layer is fused at inference."""
        return self.is_active(receiver_layer) and self.fuser_of(receiver_layer).is_open(half)

    def forward(self, sharer: Sequence[KeyValue], receiver: Sequence[KeyValue]) -> list[KeyValue]:
        """Fuse every linked layer.

        Args:
            sharer: S layers of keys and values ``(B, Hs, N, Ds)``.
            receiver: T layers of keys and values ``(B, Ht, N, Dt)``.

        Returns:
            T layers of keys and values ``(B, Ht, N, Dt)``; layers that are unlinked or left out by `only_layers` are
            the Receiver's own tensors.
        """
        fused, sources = list(receiver), self.source_layers(sharer)
        # All gates at once; in training each Fuser samples its own.
        open_halves = {} if self.training else self.open_halves()
        for layer, link in sorted(self.links.items()):
            if self.is_active(layer):
                source, target = sources[link.sharer_layer], receiver[layer]
                if self.training:
                    fused[layer] = self.apply_in_training(self.fuser_of(layer), source, target)
                else:
                    fused[layer] = self.fuser_of(layer)(source, target, open_halves.get(layer))
        return fused

    def apply_in_training(self, module: nn.Module, *inputs: Any) -> Any:
        """Run a module in training, with `autocast` and `recompute`; a recomputation draws the same noise."""
        # Autocast is chosen by the kind of device, cpu or cuda.
        device = next(module.parameters()).device.type
        with nullcontext() if self.autocast is None else torch.autocast(device, self.autocast):
            # checkpoint restores the random generators before it recomputes: dropout and gates are drawn alike.
            if self.recompute and torch.is_grad_enabled():
                return checkpoint(module, *inputs, use_reentrant=False)
            return module(*inputs)

    def open_halves(self) -> dict[int, list[Half]]:
        """The halves of each linked layer that are open at inference; the gates come from the device all at once."""
        # One transfer from the device for all learned gates.
        gate_logits = [
            (layer, half, logit) for layer, half, logit in self.gate_logits()
            if logit is not None and self.fuser_of(layer).gate_override is None
        ]  # fmt: skip
        logits = torch.stack([logit for _, _, logit in gate_logits]).tolist() if gate_logits else []
        is_open = {(layer, half): logit > 0 for (layer, half, _), logit in zip(gate_logits, logits, strict=True)}
        # A gate without a learned logit is open, unless it is forced to be closed.
        return {
            layer: [
                half
                for half in HALVES
                if self.is_active(layer) and is_open.get((layer, half), self._is_forced_open(layer))
            ]
            for layer in self.links
        }

    def _is_forced_open(self, receiver_layer: int) -> bool:
        """Whether a layer whose gates are not learned, or are forced, is open."""
        return self.fuser_of(receiver_layer).gate_override is not False

    def anneal(self, step: int) -> None:
        """Set the gates' temperature of all Fusers for optimiser step `step`."""
        for layer in self.links:
            self.fuser_of(layer).anneal(step)

    def gate_logits(self) -> list[tuple[int, Half, Tensor | None]]:
        """(Receiver layer, half, logit or None) for each linked layer and half."""
        return [(layer, half, self.fuser_of(layer).gate_logit(half)) for layer in sorted(self.links) for half in HALVES]

    def open_share(self) -> float:
        """Share of the linked layers' halves that are open at inference, 0 to 1; layers left out count as closed."""
        # Keys and values of all linked layers count, whether or not a variant has gates.
        counts = [len(halves) for halves in self.open_halves().values()]
        return sum(counts) / (len(HALVES) * len(counts)) if counts else 0.0
