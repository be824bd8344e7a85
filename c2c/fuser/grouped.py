"""Fusers of one class and size as one computation: batched matmuls over keys and values of all their layers.

The parameters of such Fusers lie together, one tensor ``(2 * F, ...)`` for each name that the two halves of a Fuser
have in common (``in.weight`` for ``key_in.weight`` and ``value_in.weight``); row ``2 * f`` belongs to the keys of Fuser
f, the next one to its values. The parameters of the modules are views of these rows: files, gates and analyses see the
Fusers as `c2c.fuser.layer` defines them, an optimiser and autograd see few tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from c2c.errors import RefusedError
from c2c.fuser.layer import Fuser
from c2c.fuser.variants import FUSERS
from c2c.types import HALVES, KeyValue

Weights = Mapping[str, Tensor]
"""The rows of a group that take part, ``(R, ...)`` by the names that halves have in common."""


class StackedLayers(Sequence[KeyValue]):
    """Keys and values of several layers in one tensor, read like a list of layers.

    Args:
        states: ``(L, 2, B, H, N, D)``.
    """

    def __init__(self, states: Tensor) -> None:
        self.states = states

    @classmethod
    def of(cls, layers: Sequence[KeyValue]) -> StackedLayers:
        """One tensor of L layers of keys and values ``(B, H, N, D)``, which must have one shape."""
        if isinstance(layers, StackedLayers):
            return layers
        # 2 * L tensors (B, H, N, D) -> (2 * L, B, H, N, D) -> (L, 2, B, H, N, D)
        return cls(torch.stack([states for layer in layers for states in layer]).unflatten(0, (len(layers), -1)))

    def __len__(self) -> int:
        return len(self.states)

    @overload
    def __getitem__(self, layer: int) -> KeyValue: ...
    @overload
    def __getitem__(self, layer: slice) -> StackedLayers: ...
    def __getitem__(self, layer: int | slice) -> KeyValue | StackedLayers:
        if isinstance(layer, slice):
            return StackedLayers(self.states[layer])
        return self.states[layer, 0], self.states[layer, 1]

    def __iter__(self) -> Iterator[KeyValue]:
        # 2 * L views in one operation
        flat = self.states.flatten(0, 1).unbind()
        return iter(list(zip(flat[::2], flat[1::2], strict=True)))

    def columns(self, start: int, end: int) -> StackedLayers:
        """The tokens from `start` to `end`."""
        return StackedLayers(self.states[..., start:end, :])

    def to(self, device: torch.device, dtype: torch.dtype) -> StackedLayers:
        """The same states on another device or in another precision."""
        return StackedLayers(self.states.to(device, dtype))


class FuserGroup:
    """Fusers of one class and config, whose parameters lie together.

    Attributes:
        leaves: ``(2 * F, ...)`` by name; an optimiser that is to train the group holds these.
        compute: `fuse_rows`, or its compiled form.
        learning: Rows that gradients have reached since the last step of an optimiser; see `spare_other_rows`.

    Args:
        fusers: F of them, each of one and the same class and config.
    """

    def __init__(self, fusers: Sequence[Fuser]) -> None:
        self.fusers = list(fusers)
        self.leaves: dict[str, nn.Parameter] = {}
        self.temperatures: Tensor | None = None
        self.compute: Callable[..., Tensor] = fuse_rows
        self.learning: set[int] = set()
        # Where a row's parameter is: a module's own dictionary and its name there, by the name in the group.
        self._slots: dict[str, list[tuple[dict[str, Any], str]]] = {}
        for fuser in self.fusers:
            modules = dict(fuser.named_modules())
            for full_name, _ in fuser.named_parameters():
                path, _, own_name = full_name.rpartition(".")
                half = next(half for half in HALVES if full_name.startswith(f"{half}_"))
                slots = self._slots.setdefault(full_name.removeprefix(f"{half}_"), [])
                slots.append((modules[path]._parameters, own_name))
        # Names come half by half or part by part; rows are sorted as keys and values of each Fuser.
        for slots in self._slots.values():
            assert len(slots) == len(HALVES) * len(self.fusers)

    @property
    def is_gathered(self) -> bool:
        """Whether the modules' parameters are still the rows of `leaves`."""
        if not self.leaves:
            return False
        for name, slots in self._slots.items():
            leaf = self.leaves[name]
            pointer, step = leaf.data_ptr(), leaf.stride(0) * leaf.element_size()
            if [owner[key].data_ptr() for owner, key in slots] != [pointer + i * step for i in range(len(slots))]:
                return False
        return not self.fusers[0].gated or self._has_temperatures()

    def _has_temperatures(self) -> bool:
        storage = self.temperatures
        return storage is not None and all(
            fuser.gate_temperature.data_ptr() == storage.data_ptr() + number * storage.element_size()
            for number, fuser in enumerate(self.fusers)
        )

    # Parameters that are made in inference mode could never learn.
    @torch.inference_mode(False)
    @torch.no_grad()
    def gather(self) -> Self:
        """Lay the modules' parameters together, if they are not: after a load, a move or a change of precision.

        The leaves stay the same tensors, so that an optimiser keeps them.
        """
        if self.is_gathered:
            return self
        for name, slots in self._slots.items():
            rows = [owner[key] for owner, key in slots]
            # One name after the other, so that no more than one of them is in memory twice.
            together = torch.stack([row.data for row in rows])
            leaf = self.leaves.setdefault(name, nn.Parameter(together, requires_grad=rows[0].requires_grad))
            leaf.data = together
            for row, view in zip(rows, leaf.data.unbind(), strict=True):
                row.data = view
        if self.fusers[0].gated:
            self.temperatures = torch.stack([fuser.gate_temperature for fuser in self.fusers])
            for fuser, temperature in zip(self.fusers, self.temperatures.unbind(), strict=True):
                fuser._buffers["gate_temperature"] = temperature
        return self

    def anneal(self, step: int) -> None:
        """Set the temperature of all gates for optimiser step `step`, in one operation."""
        if self.temperatures is not None:
            self.temperatures.fill_(self.fusers[0].temperature_at(step))

    def parameters_of(self, number: int) -> dict[str, Tensor]:
        """The parameters of one Fuser as rows of the leaves, through which gradients reach them."""
        self.learning |= {len(HALVES) * number + place for place in range(len(HALVES))}
        return {
            f"{half}_{name}": leaf[len(HALVES) * number + place]
            for name, leaf in self.leaves.items()
            for place, half in enumerate(HALVES)
        }

    def fuse(self, rows: Sequence[int], source: Tensor, target: Tensor, *, sampled: bool, dropout: float) -> Tensor:
        """Fuse some halves.

        Args:
            rows: R rows of the group.
            source: The Sharer's states that they read, ``(R, B, Hs, N, Ds)``.
            target: The Receiver's states, ``(R, B, Ht, N, Dt)``.
            sampled: Whether gates are relaxed samples, as in training; else they are open.
            dropout: Probability inside the blocks.

        Returns:
            ``(R, B, Ht, N, Dt)``; see `Fuser.forward` for its precision.
        """
        fuser = self.fusers[0]
        if torch.is_grad_enabled():
            self.learning.update(rows)
        weights = {name: select_rows(leaf, rows) for name, leaf in self.leaves.items()}
        gates = None
        if sampled and fuser.gated:
            assert self.temperatures is not None
            # (F,) -> (2 * F,) -> (R,)
            temperatures = select_rows(self.temperatures.repeat_interleave(len(HALVES)), rows)
            gates = sample_gates(
                weights["gate_logit"], temperatures, target.shape, logistic=fuser.config.gate_noise == "logistic"
            )
        precise = fuser.gated and not sampled and not fuser.training
        return self.compute(
            weights,
            source,
            target,
            gates,
            dropout=dropout,
            reads_receiver=fuser.reads_receiver,
            scale_dtype=torch.float32 if precise else None,
        )


def select_rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Some rows of a tensor; a view where their numbers have equal distances, as all rows and those of one half do."""
    if list(rows) == list(range(len(tensor))):
        return tensor
    if are_even(rows):
        return tensor[rows[0] : rows[-1] + 1 : rows[1] - rows[0] if len(rows) > 1 else 1]
    return tensor[list(rows)]


def are_even(rows: Sequence[int]) -> bool:
    """Whether rows have equal distances, upwards, so that they can be a view."""
    step = rows[1] - rows[0] if len(rows) > 1 else 1
    return bool(rows) and step > 0 and list(rows) == list(range(rows[0], rows[-1] + 1, step))


def sample_gates(logits: Tensor, temperatures: Tensor, shape: Sequence[int], *, logistic: bool) -> Tensor:
    """Relaxed samples of R gates; the same numbers in the same order as the Fusers draw one after the other.

    Args:
        logits: ``(R,)``.
        temperatures: ``(R,)``.
        shape: Of the Receiver's states, ``(R, B, Ht, N, Dt)``.
        logistic: Two Gumbel samples a gate instead of one; see `Fuser.gate`.

    Returns:
        ``(R, B, Ht, N, 1)``.
    """
    # One call draws for all halves: (R, 1 or 2, B, Ht, N, 1)
    rows, *states, _ = shape
    uniform = torch.rand((rows, 2 if logistic else 1, *states, 1), dtype=logits.dtype, device=logits.device)
    samples = -torch.log(-torch.log(uniform + 1e-20) + 1e-20)
    noise = samples[:, 0] - samples[:, 1] if logistic else samples[:, 0]
    # (R,) -> (R, 1, 1, 1, 1)
    logits, temperatures = (values.view(-1, 1, 1, 1, 1) for values in (logits, temperatures))
    return torch.sigmoid((logits + noise) / temperatures)


def fuse_rows(
    weights: Weights,
    source: Tensor,
    target: Tensor,
    gates: Tensor | None,
    *,
    dropout: float,
    reads_receiver: bool,
    scale_dtype: torch.dtype | None,
) -> Tensor:
    """`Fuser.forward` of R halves at once.

    Args:
        weights: ``(R, ...)`` by name.
        source: ``(R, B, Hs, N, Ds)``.
        target: ``(R, B, Ht, N, Dt)``.
        gates: ``(R, B, Ht, N, 1)``, or None for gates of 1.
        dropout: Probability inside the blocks.
        reads_receiver: As `Fuser.reads_receiver`.
        scale_dtype: Precision of an open gate of 1, to which weight and projection are promoted; None for theirs.

    Returns:
        ``(R, B, Ht, N, Dt)``.
    """
    rows, batch, heads, tokens, head_dim = target.shape
    dtype = weights["proj_out.weight"].dtype

    def flat(states: Tensor) -> Tensor:
        # (R, B, H, N, D) -> (R, B, N, H, D) -> (R, B * N, H * D)
        return states.transpose(2, 3).reshape(rows, batch * tokens, -1).to(dtype)

    # 1. h = mlp1(W_s sharer + W_r receiver + b): the two parts of the weight in place of a concatenation
    inner = weights["in.weight"]
    width = source.shape[2] * source.shape[4]
    hidden = torch.baddbmm(weights["in.bias"].unsqueeze(1), flat(source), inner[..., :width].mT)
    if reads_receiver:
        hidden = torch.baddbmm(hidden, flat(target), inner[..., width:].mT)
    hidden = _blocks(weights, "mlp1", hidden, dropout)
    # 2. Projection: (R, B * N, width) -> (R, B * N, Ht * Dt) -> (R, B, N, Ht, Dt) -> (R, B, Ht, N, Dt)
    projection = _linear(weights, "proj_out", _blocks(weights, "proj_mlp2", hidden, dropout))
    projection = projection.view(rows, batch, tokens, heads, head_dim).transpose(2, 3)
    # 3. Weights and gates: (R, B * N, Ht) -> (R, B, N, Ht) -> (R, B, Ht, N, 1)
    scale = gates
    if "scalar_head.weight" in weights:
        scalars = torch.sigmoid(_linear(weights, "scalar_head", _blocks(weights, "scalar_mlp2", hidden, dropout)))
        scalars = scalars.view(rows, batch, tokens, heads).transpose(2, 3).unsqueeze(-1)
        scale = scalars if gates is None else gates * scalars
    # 4. out = receiver + gate * weight * projection
    if scale_dtype is not None:
        scale, projection = None if scale is None else scale.to(scale_dtype), projection.to(scale_dtype)
    fused = projection if scale is None else scale * projection
    return target + fused if reads_receiver else fused


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """``(R, B * N, width)`` to ``(R, B * N, output)``."""
    return torch.baddbmm(weights[f"{name}.bias"].unsqueeze(1), x, weights[f"{name}.weight"].mT)


def _blocks(weights: Weights, name: str, x: Tensor, dropout: float) -> Tensor:
    """The residual blocks of a chain (`c2c.fuser.layer.ResidualBlock`); ``(R, B * N, width)`` to the same shape."""
    number = 0
    while f"{name}.blocks.{number}.w1.weight" in weights:
        norm, w1, w2 = (weights[f"{name}.blocks.{number}.{part}.weight"] for part in ("norm", "w1", "w2"))
        # One weight of the norm for each row of the group: (R, width) -> (R, 1, width)
        normed = functional.rms_norm(x, x.shape[-1:], eps=1e-6) * norm.unsqueeze(1)
        inner = functional.gelu(torch.bmm(normed, w1.mT))
        x = x + functional.dropout(torch.bmm(inner, w2.mT), dropout) if dropout else torch.baddbmm(x, inner, w2.mT)
        number += 1
    return x


GROUPED_VARIANTS = ("full", "unweighted", "ungated", "fuse", "project")
"""Variants that `fuse_rows` computes; Fusers of the others run one after the other."""


class FuserList(nn.ModuleList):
    """The Fusers of a stack, and the groups that they form.

    Attributes:
        trains_grouped: Whether an optimiser holds the leaves of the groups, so that gradients must reach those. The
            modules' own parameters then have no gradients.
        compiles: Whether torch.compile turns the computation of a group into kernels of its own.
    """

    trains_grouped: bool = False
    compiles: bool = False

    def __init__(self, fusers: Iterable[Fuser] = ()) -> None:
        super().__init__(fusers)
        self._groups: list[FuserGroup] = []

    def groups(self) -> list[FuserGroup]:
        """Groups of Fusers of one class and config, their parameters laid together."""
        members: dict[Any, list[Fuser]] = {}
        for fuser in self:
            assert isinstance(fuser, Fuser)
            # A subclass from elsewhere may compute anything.
            if fuser.config.variant in GROUPED_VARIANTS and type(fuser) is FUSERS[fuser.config.variant]:
                members.setdefault(fuser.config, []).append(fuser)
        if [group.fusers for group in self._groups] != list(members.values()):
            if self.trains_grouped and self._groups:
                raise RefusedError(
                    "A stack that is trained must keep the Fusers that its optimiser was made for",
                    f"{len(self)} Fusers, of which some are new",
                    "Link all Fusers before the optimiser is made",
                )
            self._groups = [FuserGroup(fusers) for fusers in members.values()]
        for group in self._groups:
            if self.compiles and group.compute is fuse_rows:
                group.compute = torch.compile(fuse_rows, dynamic=True)
            elif not self.compiles:
                group.compute = fuse_rows
        return [group.gather() for group in self._groups]

    def train_grouped(self) -> None:
        """Let gradients reach the leaves of the groups from now on; an optimiser must hold `learnable_parameters`."""
        self.trains_grouped = True
        self.groups()

    def __deepcopy__(self, memo: dict[int, Any]) -> FuserList:
        # A copy has parameters of its own, and lays them together when it needs to.
        fusers: list[Any] = [copy.deepcopy(fuser, memo) for fuser in self]
        copied = FuserList(fusers)
        return copied.train(self.training)


def learnable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """What an optimiser of `module` must hold: leaves in place of the parameters of Fusers that train grouped."""
    leaves: list[nn.Parameter] = []
    members: set[int] = set()
    for part in module.modules():
        if isinstance(part, FuserList) and part.trains_grouped:
            for group in part.groups():
                leaves += group.leaves.values()
                members |= {id(parameter) for fuser in group.fusers for parameter in fuser.parameters()}
    return [*leaves, *(parameter for parameter in module.parameters() if id(parameter) not in members)]


def spare_other_rows(optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
    """Let each step of an optimiser change only rows that gradients have reached, as it does with whole parameters.

    A leaf has a gradient as soon as one of its rows has. Weight decay would then change the rows of Fusers that are
    closed or left out too, whose own parameters an optimiser would skip.

    Args:
        optimizer: Of `learnable_parameters`.
        module: What it trains.
    """
    rows_kept: list[tuple[Tensor, list[int], Tensor]] = []

    def groups() -> Iterator[FuserGroup]:
        for part in module.modules():
            if isinstance(part, FuserList) and part.trains_grouped:
                yield from part.groups()

    def keep(*_: Any) -> None:
        for group in groups():
            others = sorted({*range(len(HALVES) * len(group.fusers))} - group.learning)
            rows_kept.extend((leaf, others, leaf.detach()[others]) for leaf in group.leaves.values() if others)
            group.learning.clear()

    def restore(*_: Any) -> None:
        with torch.no_grad():
            for leaf, rows, weights in rows_kept:
                leaf[rows] = weights
        rows_kept.clear()

    optimizer.register_step_pre_hook(keep)
    optimizer.register_step_post_hook(restore)
