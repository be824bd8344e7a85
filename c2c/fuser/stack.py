"""All Fusers between one Sharer and the Receiver, each with the Sharer layer that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from c2c.alignment.layers import align_layers
from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError
from c2c.fuser.config import FuserConfig
from c2c.fuser.grouped import FuserGroup, FuserList, StackedLayers, select_rows
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
        grouping: Whether Fusers of equal size are computed together (`c2c.fuser.grouped`): ``grouped``, ``loop``, or
            ``auto``: on any device but a CPU, where the loop gives the bits of the reference, and is as fast from about
            500 tokens on. In training, and where gradients are recorded, they are only after `train_grouped`. It is not
            saved.

    Args:
        sharer: Cache sizes of the Sharer.
        receiver: Cache sizes of the Receiver.
    """

    autocast: torch.dtype | None = None
    recompute: bool = False
    grouping: str = "auto"

    def __init__(self, sharer: CacheShape, receiver: CacheShape) -> None:
        super().__init__()
        self.sharer, self.receiver = sharer, receiver
        self.fusers = FuserList()
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

    def forward(
        self,
        sharer: Sequence[KeyValue],
        receiver: Sequence[KeyValue],
        matched: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> list[KeyValue]:
        """Fuse every linked layer.

        Args:
            sharer: S layers of keys and values ``(B, Hs, N, Ds)``.
            receiver: T layers of keys and values ``(B, Ht, N, Dt)``.
            matched: ``(B, N)`` bool: the other tokens keep the Receiver's states. None: all tokens are fused.
            dtype: Precision of the fused layers; None for that of the computation.

        Returns:
            T layers of keys and values ``(B, Ht, N, Dt)``; layers that are unlinked or left out by `only_layers` are
            the Receiver's own tensors.
        """
        fused, sources = list(receiver), self.source_layers(sharer)
        # 1. All gates at once; in training each gate is sampled, unless it is forced.
        if self.training:
            halves = {
                layer: list(HALVES) if self.is_active(layer) and self._is_forced_open(layer) else []
                for layer in self.links
            }
        else:
            halves = self.open_halves()
        # 2. (B, N) -> (B, 1, N, 1), over heads and dimensions
        if matched is not None:
            matched = matched.to(receiver[0][0].device)[:, None, :, None]

        def finish(new: Tensor, old: Tensor) -> Tensor:
            new = new if matched is None else torch.where(matched, new, old)
            return new if dtype is None else new.to(dtype)

        # 3. Fusers of equal size together, the others one after the other
        remaining = {layer for layer in self.links if self.is_active(layer)}
        for group, rows in self._groups(sources, receiver, halves):
            remaining -= {layer for layer, _ in rows} | {layer for layer in remaining if not halves[layer]}
            self._fuse_group(group, rows, sources, receiver, fused, finish)
        for layer in sorted(remaining):
            source, target = sources[self.links[layer].sharer_layer], receiver[layer]
            new = self._fuse_layer(layer, source, target, halves[layer])
            keys, values = (n if n is o else finish(n, o) for n, o in zip(new, target, strict=True))
            fused[layer] = keys, values
        return fused

    def fuse_layer(self, layer: int, source: KeyValue, target: KeyValue, matched: Tensor | None = None) -> KeyValue:
        """Fuse one linked layer at inference, as `forward` does for all, where not all are to be held at once.

        Args:
            layer: Of the Receiver.
            source: What its Fuser reads: keys and values ``(B, Hs, N, Ds)`` of one of `source_layers`.
            target: The Receiver's keys and values ``(B, Ht, N, Dt)``.
            matched: As in `forward`.

        Returns:
            Keys and values ``(B, Ht, N, Dt)`` in the precision of `target`; a half that is closed is that of `target`.
        """
        new = self._fuse_layer(layer, source, target, [half for half in HALVES if self.is_open(layer, half)])
        if matched is not None:
            # (B, N) -> (B, 1, N, 1), over heads and dimensions
            matched = matched.to(target[0].device)[:, None, :, None]
        keys, values = (
            fused if fused is old else (fused if matched is None else torch.where(matched, fused, old)).to(old.dtype)
            for fused, old in zip(new, target, strict=True)
        )
        return keys, values

    def _groups(
        self, sources: Sequence[KeyValue], receiver: Sequence[KeyValue], halves: dict[int, list[Half]]
    ) -> list[tuple[FuserGroup, dict[tuple[int, int], int]]]:
        """The groups that are computed as one here, each with its row for each layer and half that takes part."""
        # All layers must be stacked: of one shape, precision and device.
        uniform = all(
            isinstance(layers, StackedLayers)
            or len({(states.shape, states.dtype, states.device) for layer in layers for states in layer}) == 1
            for layers in (sources, receiver)
        )
        if not uniform or not self.runs_grouped():
            return []
        self._check_states(sources, receiver)
        groups = []
        for group in self.fusers.groups():
            place = {id(fuser): number for number, fuser in enumerate(group.fusers)}
            users = {layer: place[id(fuser)] for layer in sorted(self.links)
                     if halves[layer] and id(fuser := self.fuser_of(layer)) in place}  # fmt: skip
            rows = {
                (layer, part): len(HALVES) * number + part
                for layer, number in users.items()
                for part, half in enumerate(HALVES)
                if half in halves[layer]
            }
            # A Fuser that several layers share draws noise for each of them, and forced gates draw none.
            alone = len(set(users.values())) == len(users)
            alike = not self.training or len({self.fuser_of(layer).gate_override for layer in users}) == 1
            if rows and alone and alike:
                groups.append((group, rows))
        return groups

    def _check_states(self, sources: Sequence[KeyValue], receiver: Sequence[KeyValue]) -> None:
        """Refuse states that do not fit; all layers have the shape of the first."""
        self.all_fusers()[0].check(sources[0], receiver[0])

    def runs_grouped(self) -> bool:
        """Whether Fusers of equal size are computed together, as far as they can be."""
        first = next(self.fusers.parameters(), None)
        if first is None or first.is_meta or self.grouping == "loop":
            return False
        # Gradients go to what the optimiser holds.
        if self.training or torch.is_grad_enabled():
            return self.fusers.trains_grouped
        return self.grouping == "grouped" or first.device.type != "cpu"

    def train_grouped(self) -> bool:
        """Let the Fusers learn together if `grouping` says so for this device, before an optimiser is made of them.

        A CPU trains them one after the other unless ``grouped`` is chosen.

        Returns:
            Whether they do: the optimiser must then hold `c2c.fuser.grouped.learnable_parameters`.
        """
        device = next(self.fusers.parameters(), torch.empty(0)).device.type
        if self.grouping == "grouped" or (self.grouping == "auto" and device not in ("cpu", "meta")):
            self.fusers.train_grouped()
        return self.fusers.trains_grouped

    def _fuse_group(
        self,
        group: FuserGroup,
        rows: dict[tuple[int, int], int],
        sources: Sequence[KeyValue],
        receiver: Sequence[KeyValue],
        fused: list[KeyValue],
        finish: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Fuse the layers of one group into `fused`; `rows` are as `_groups` gives them."""
        # (2 * S, B, Hs, N, Ds) -> (R, B, Hs, N, Ds)
        stacked = StackedLayers.of(sources).states.flatten(0, 1)
        source = select_rows(stacked, [len(HALVES) * self.links[layer].sharer_layer + place for layer, place in rows])
        # R tensors (B, Ht, N, Dt) -> (R, B, Ht, N, Dt)
        target = torch.stack([receiver[layer][place] for layer, place in rows])
        sampled = self.training and self.fuser_of(next(iter(rows))[0]).gate_override is None
        compute = partial(group.fuse, list(rows.values()), sampled=sampled)
        if self.training:
            new = self.apply_in_training(partial(compute, dropout=group.fusers[0].config.dropout), source, target)
        else:
            new = compute(source, target, dropout=0.0)
        # A half that takes no part stays the tensor that came in.
        states = dict(zip(rows, finish(new, target).unbind(), strict=True))
        for layer in dict.fromkeys(layer for layer, _ in rows):
            keys, values = (states.get((layer, place), receiver[layer][place]) for place in range(len(HALVES)))
            fused[layer] = keys, values

    def _fuse_layer(self, layer: int, source: KeyValue, target: KeyValue, halves: Sequence[Half]) -> KeyValue:
        """Fuse one layer by its own Fuser."""
        fuser = self.fuser_of(layer)
        call: Callable[..., KeyValue] = fuser
        if self.fusers.trains_grouped:
            # The gradients must reach the leaves: the Fuser is run with their rows in the place of its parameters.
            for group in self.fusers.groups():
                if fuser in group.fusers:
                    rows = group.parameters_of(group.fusers.index(fuser))
                    call = partial(_call_with, fuser, rows)
        if self.training:
            fused: KeyValue = self.apply_in_training(call, source, target)
            return fused
        return call(source, target, halves)

    def apply_in_training(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Run a module in training, with `autocast` and `recompute`; a recomputation draws the same noise."""
        # Autocast is chosen by the kind of device, cpu or cuda.
        device = next(self.parameters()).device.type
        with nullcontext() if self.autocast is None else torch.autocast(device, self.autocast):
            # checkpoint restores the random generators before it recomputes: dropout and gates are drawn alike.
            if self.recompute and torch.is_grad_enabled():
                return checkpoint(function, *inputs, use_reentrant=False)
            return function(*inputs)

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
        groups = self.fusers.groups() if self.fusers.trains_grouped else []
        for group in groups:
            group.anneal(step)
        members = {id(fuser) for group in groups for fuser in group.fusers}
        for layer in self.links:
            if id(self.fuser_of(layer)) not in members:
                self.fuser_of(layer).anneal(step)

    def gate_logits(self) -> list[tuple[int, Half, Tensor | None]]:
        """(Receiver layer, half, logit or None) for each linked layer and half."""
        return [(layer, half, self.fuser_of(layer).gate_logit(half)) for layer in sorted(self.links) for half in HALVES]

    def open_share(self) -> float:
        """Share of the linked layers' halves that are open at inference, 0 to 1; layers left out count as closed."""
        # Keys and values of all linked layers count, whether or not a variant has gates.
        counts = [len(halves) for halves in self.open_halves().values()]
        return sum(counts) / (len(HALVES) * len(counts)) if counts else 0.0

    def open_share_on_device(self) -> Tensor:
        """`open_share` as a number on the device, float64 ``()``, without a wait for it; gates must not be forced."""
        logits = [logit for _, _, logit in self.gate_logits() if logit is not None]
        # Halves without a gate are open.
        ungated = len(HALVES) * len(self.links) - len(logits)
        if not logits:
            return torch.tensor(float(ungated > 0), dtype=torch.float64, device=next(self.parameters()).device)
        return ((torch.stack(logits).detach() > 0).sum() + ungated).double() / (len(HALVES) * len(self.links))


def _call_with(fuser: Fuser, parameters: dict[str, Tensor], *inputs: Any) -> KeyValue:
    """Run a Fuser with other tensors in the place of its parameters."""
    fused: KeyValue = torch.func.functional_call(fuser, parameters, inputs)
    return fused
