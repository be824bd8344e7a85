"""The Fuser of one Receiver layer: project the Sharer's keys and values, weight them, gate them, add them.

The formulas are those of the reference spec §1.2, parameter names those of the published fusers (§1.4). Keys and
values have two separate, identical halves that share nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from c2c.errors import RefusedError
from c2c.fuser.config import FuserConfig
from c2c.types import HALVES, Half, KeyValue


class ResidualBlock(nn.Module):
    """``x + dropout(W2 gelu(W1 rms_norm(x)))`` with exact GELU and no biases; ``(..., width)`` to the same shape."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input."""
        inner = self.w2(functional.gelu(self.w1(self.norm(x))))
        return x + functional.dropout(inner, self.dropout, self.training)


class BlockChain(nn.Module):
    """Residual blocks one after the other."""

    def __init__(self, count: int, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width, inner, dropout) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to the same shape."""
        for block in self.blocks:
            x = block(x)
        return x


class Fuser(nn.Module):
    """Fuses one Receiver layer's cache with one Sharer layer's (paper §3.3; reference spec §1.2).

    For keys and for values: ``out = receiver + gate · weight · projection``, where projection and weight are functions
    of the Sharer's and the Receiver's states at the same token. In training the gate is a relaxed sample at the
    current temperature; at inference it is 1 if its logit is above 0, else 0, and a closed half costs nothing.

    Attributes:
        gate_override: None: the gates are as learned. True or False: both are exactly 1 or 0, in training too, and in
            variants without gates. It is no part of the config or the state dict.

    Args:
        config: Sizes and parts. `c2c.fuser.variants.create_fuser` chooses the class that it asks for.

    Raises:
        RefusedError: If the config asks for another class.
    """

    gate_temperature: Tensor
    gate_override: bool | None = None

    def __init__(self, config: FuserConfig) -> None:
        super().__init__()
        if type(self) is Fuser and (config.joint or config.projects_sharer):
            raise RefusedError(
                "A Fuser of the published form must have no joint bottleneck and no projection of the Sharer's cache",
                {"joint": config.joint, "projects_sharer": config.projects_sharer},
                "Build it with c2c.fuser.variants.create_fuser",
            )
        self.config = config
        if config.gated:
            for half in HALVES:
                self.register_parameter(f"{half}_gate_logit", nn.Parameter(torch.zeros(())))
            self.register_buffer("gate_temperature", torch.tensor(config.initial_temperature))
        self._add_parts()

    def _add_parts(self) -> None:
        """Modules in the order in which the reference draws their weights (reference spec §1.3)."""
        config = self.config
        width, inner, dropout = config.hidden_dim, config.intermediate_dim, config.dropout
        self._add_halves("in", lambda: nn.Linear(config.joined_width, width))
        self._add_halves("mlp1", lambda: BlockChain(1, width, inner, dropout))
        if config.weighted:
            self._add_halves("scalar_mlp2", lambda: BlockChain(1, width, width, dropout))
            self._add_halves("scalar_head", lambda: nn.Linear(width, config.receiver_heads))
        self._add_halves("proj_mlp2", lambda: BlockChain(config.num_layers - 2, width, inner, dropout))
        self._add_halves("proj_out", lambda: nn.Linear(width, config.receiver_width))

    def _add_halves(self, part: str, build: Callable[[], nn.Module]) -> None:
        for half in HALVES:
            self.add_module(f"{half}_{part}", build())

    def _part(self, half: Half, part: str) -> nn.Module:
        return self.get_submodule(f"{half}_{part}")

    def gate_logit(self, half: Half) -> Tensor | None:
        """The gate's logit ``()``, or None in a variant without gates."""
        return self.get_parameter(f"{half}_gate_logit") if self.config.gated else None

    def is_open(self, half: Half) -> bool:
        """Whether this half takes part at inference."""
        if self.gate_override is not None:
            return self.gate_override
        logit = self.gate_logit(half)
        return logit is None or bool(logit > 0)

    def zero_output(self) -> None:
        """Let the projection start at zero, so that an open gate changes nothing yet (``zero_init`` of spec §1.1)."""
        for half in HALVES:
            for parameter in self._part(half, "proj_out").parameters():
                nn.init.zeros_(parameter)

    def anneal(self, step: int) -> None:
        """Set the gate's temperature for optimiser step `step`: ``τ0 (τ1 / τ0) ** min(step / anneal_steps, 1)``."""
        if self.config.gated:
            first, last = self.config.initial_temperature, self.config.final_temperature
            self.gate_temperature.fill_(first * (last / first) ** min(step / self.config.anneal_steps, 1.0))

    def forward(self, sharer: KeyValue, receiver: KeyValue, open_halves: Collection[Half] | None = None) -> KeyValue:
        """Fuse keys and values of the same tokens.

        Args:
            sharer: Keys and values ``(B, Hs, N, Ds)``.
            receiver: Keys and values ``(B, Ht, N, Dt)``.
            open_halves: The halves that are open at inference, from a caller that knows; None asks the gates, which
                waits for the device.

        Returns:
            Keys and values ``(B, Ht, N, Dt)``; in float32 where an open gate of lower precision was applied at
            inference (reference spec §1.3), to be rounded once by whoever stores them. Inputs of another precision
            than the Fuser's are cast to it, so Fusers in float32 serve models in bfloat16.

        Raises:
            RefusedError: If heads, head dimensions, batch or tokens do not fit.
        """
        self._check(sharer, receiver)
        own: dict[Half, Tensor] = dict(zip(HALVES, receiver, strict=True))
        sampled = self.training and self.gate_override is None
        if open_halves is None:
            open_halves = [half for half in HALVES if sampled or self.is_open(half)]
        active: list[Half] = [half for half in HALVES if sampled or half in open_halves]
        # Each step is done for both halves before the next: the order in which random numbers are drawn is the spec's.
        hidden = self._hidden(active, sharer, receiver)
        projected = {half: self._project(half, hidden[half]) for half in active}
        scales: dict[Half, Tensor] = {}
        if self.config.weighted:
            scales = {half: self._weight(half, hidden[half]) for half in active}
        if self.config.gated:
            # Gate before projection: a float32 gate spares weight · projection the rounding to half precision.
            scales = {half: self._gate(half, projected[half]) * scales.get(half, 1.0) for half in active}
        projected = {half: scales.get(half, 1.0) * projected[half] for half in active}
        if self.config.reads_receiver:
            projected = {half: own[half] + projected[half] for half in active}
        keys, values = (projected.get(half, own[half]) for half in HALVES)
        return keys, values

    def dynamic_weights(self, sharer: KeyValue, receiver: KeyValue) -> tuple[Tensor, Tensor]:
        """The weights of each token and KV head for keys and values, ``(B, Ht, N, 1)`` in (0, 1).

        Raises:
            RefusedError: In a variant without weights.
        """
        if not self.config.weighted:
            raise RefusedError(
                "Dynamic weights must be those of a weighted variant", "weighted=False", "Use the variant full"
            )
        hidden = self._hidden(HALVES, sharer, receiver)
        keys, values = (self._weight(half, hidden[half]) for half in HALVES)
        return keys, values

    def _hidden(self, halves: Sequence[Half], sharer: KeyValue, receiver: KeyValue) -> dict[Half, Tensor]:
        """For each of `halves` the states ``(B, N, width)`` that its projection and its weights are computed from."""
        pairs = zip(HALVES, sharer, receiver, strict=True)
        joined = {half: self._join(half, theirs, own) for half, theirs, own in pairs if half in halves}
        return {half: self._part(half, "mlp1")(self._part(half, "in")(states)) for half, states in joined.items()}

    def _join(self, half: Half, sharer: Tensor, receiver: Tensor) -> Tensor:
        """What one half reads at each token, ``(B, N, joined_width)``."""
        read = [self._flat(sharer), self._flat(receiver)] if self.config.reads_receiver else [self._flat(sharer)]
        return torch.cat(read, dim=-1)

    def _flat(self, states: Tensor) -> Tensor:
        """``(B, H, N, D)`` to ``(B, N, H·D)`` in the Fuser's own precision."""
        return states.transpose(1, 2).flatten(2).to(self.get_parameter("key_proj_out.weight").dtype)

    def _project(self, half: Half, hidden: Tensor) -> Tensor:
        return self._to_heads(half, self._part(half, "proj_mlp2")(hidden))

    def _to_heads(self, half: Half, states: Tensor) -> Tensor:
        flat = self._part(half, "proj_out")(states)
        return flat.unflatten(-1, (self.config.receiver_heads, self.config.receiver_head_dim)).transpose(1, 2)

    def _weight(self, half: Half, hidden: Tensor) -> Tensor:
        return self._score(half, self._part(half, "scalar_mlp2")(hidden))

    def _score(self, half: Half, states: Tensor) -> Tensor:
        return torch.sigmoid(self._part(half, "scalar_head")(states)).transpose(1, 2).unsqueeze(-1)

    def _gate(self, half: Half, projected: Tensor) -> Tensor:
        logit = self.get_parameter(f"{half}_gate_logit")
        if not self.training:
            return torch.ones((1, 1, 1, 1), dtype=torch.float32, device=logit.device)
        if self.gate_override is not None:
            return projected.new_ones((1, 1, 1, 1))
        noise = self._gumbel(projected, logit.dtype)
        if self.config.gate_noise == "logistic":
            noise = noise - self._gumbel(projected, logit.dtype)
        return torch.sigmoid((logit + noise) / self.gate_temperature)

    @staticmethod
    def _gumbel(like: Tensor, dtype: torch.dtype) -> Tensor:
        # Not rand_like: `like` is transposed, and would be filled in the order of its memory, not of its axes.
        uniform = torch.rand((*like.shape[:-1], 1), dtype=dtype, device=like.device)
        return -torch.log(-torch.log(uniform + 1e-20) + 1e-20)

    def _check(self, sharer: KeyValue, receiver: KeyValue) -> None:
        config = self.config
        for states, heads, width, name in (
            (sharer, config.sharer_heads, config.sharer_head_dim, "Sharer"),
            (receiver, config.receiver_heads, config.receiver_head_dim, "Receiver"),
        ):
            for tensor in states:
                if tensor.dim() != 4 or tensor.shape[1] != heads or tensor.shape[3] != width:
                    raise RefusedError(
                        f"The {name}'s keys and values must be (B, {heads}, N, {width})",
                        tuple(tensor.shape),
                        f"Use a Fuser that was made for this {name}'s config",
                    )
        if sharer[0].shape[0] != receiver[0].shape[0] or sharer[0].shape[2] != receiver[0].shape[2]:
            raise RefusedError(
                "Sharer and Receiver must have the same batch and as many tokens",
                (tuple(sharer[0].shape), tuple(receiver[0].shape)),
                "Align the Sharer's tokens with the Receiver's first (c2c.alignment.tokens)",
            )
