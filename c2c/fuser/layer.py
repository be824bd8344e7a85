"""The Fuser of one Receiver layer: project the Sharer's keys and values, weight them, gate them, add them.

Formulas and parameter names are those of the released fusers (paper §3.3; ``docs/reference-behaviour.md``, "Fuser" and
"Parameter names"). Keys and values have two separate, identical halves that share nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from c2c.errors import RefusedError
from c2c.fuser.config import VARIANTS, FuserConfig
from c2c.types import HALVES, Half, KeyValue


class ResidualBlock(nn.Module):
    """``x + dropout(W2 gelu(W1 rms_norm(x)))`` with exact GELU and no biases; ``(..., width)`` to the same shape."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        # The epsilon is written out: the default of torch depends on the dtype.
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input."""
        # (..., width) -> (..., inner) -> (..., width)
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
    """Fuses one Receiver layer's cache with one Sharer layer's (paper §3.3): the variant ``full``.

    For keys and for values: ``out = receiver + gate · weight · projection``, where projection and weight are functions
    of the Sharer's and the Receiver's states at the same token. In training the gate is a relaxed sample at the
    current temperature; at inference it is 1 if its logit is above 0, else 0, and a closed half costs nothing.

    Attributes:
        weighted: Whether each token and head has a dynamic weight; a variant sets it.
        gated: Whether keys and values each have a learned gate; a variant sets it.
        reads_receiver: Whether the Receiver's cache is an input and is added to the output; a variant sets it.
        gate_override: None: the gates are as learned. True or False: both are exactly 1 or 0, in training too, and in
            variants without gates. It is no part of the config or the state dict.

    Args:
        config: Variant and sizes. `c2c.fuser.variants.create_fuser` chooses the class of the variant.

    Raises:
        RefusedError: If the config is of a variant with a class of its own.
    """

    weighted: ClassVar[bool] = True
    gated: ClassVar[bool] = True
    reads_receiver: ClassVar[bool] = True
    gate_temperature: Tensor
    gate_override: bool | None = None

    def __init__(self, config: FuserConfig) -> None:
        super().__init__()
        if type(self) is Fuser and VARIANTS[config.variant] != "Fuser":
            raise RefusedError(
                "A Fuser must be of the class of its variant",
                {"class": "Fuser", "variant": config.variant},
                "Build it with c2c.fuser.variants.create_fuser",
            )
        self.config = config
        # The reference draws nothing for the gates: their logits start at 0, where a gate is closed at inference.
        if self.gated:
            for half in HALVES:
                self.register_parameter(f"{half}_gate_logit", nn.Parameter(torch.zeros(())))
            # A buffer, so that a checkpoint resumes at the temperature it reached; released fusers store it too.
            self.register_buffer("gate_temperature", torch.tensor(config.initial_temperature))
        self.add_layers()

    def add_layers(self) -> None:
        """Add the modules, in the order in which the reference draws their weights."""
        config = self.config
        width, inner, dropout = config.hidden_dim, config.intermediate_dim, config.dropout
        sharer_width, receiver_width = self.input_widths
        # Concatenation and projection to the width that both branches read (paper §3.3)
        self.add_halves("in", lambda: nn.Linear(sharer_width + receiver_width, width))
        self.add_halves("mlp1", lambda: BlockChain(1, width, inner, dropout))
        if self.weighted:
            # Dynamic weights: one scalar a token and Receiver head
            self.add_halves("scalar_mlp2", lambda: BlockChain(1, width, width, dropout))
            self.add_halves("scalar_head", lambda: nn.Linear(width, config.receiver_heads))
        # Projection into the Receiver's space
        self.add_halves("proj_mlp2", lambda: BlockChain(config.num_layers - 2, width, inner, dropout))
        self.add_halves("proj_out", lambda: nn.Linear(width, config.receiver_width))

    @property
    def input_widths(self) -> tuple[int, int]:
        """Width of what one half reads of the Sharer and of the Receiver at each token; 0 where it reads nothing."""
        return self.config.sharer_width, self.config.receiver_width if self.reads_receiver else 0

    def add_halves(self, name: str, build: Callable[[], nn.Module]) -> None:
        """Add a module for keys and one for values: ``key_<name>``, ``value_<name>``."""
        for half in HALVES:
            self.add_module(f"{half}_{name}", build())

    def layer(self, half: Half, name: str) -> nn.Module:
        """The module ``key_<name>`` or ``value_<name>``."""
        return self.get_submodule(f"{half}_{name}")

    def gate_logit(self, half: Half) -> Tensor | None:
        """The gate's logit ``()``, or None in a variant without gates."""
        return self.get_parameter(f"{half}_gate_logit") if self.gated else None

    def is_open(self, half: Half) -> bool:
        """Whether this half is fused at inference."""
        if self.gate_override is not None:
            return self.gate_override
        logit = self.gate_logit(half)
        return logit is None or bool(logit > 0)

    def zero_output(self) -> None:
        """Let the projection start at zero, so that an open gate changes nothing yet."""
        for half in HALVES:
            for parameter in self.layer(half, "proj_out").parameters():
                nn.init.zeros_(parameter)

    def anneal(self, step: int) -> None:
        """Set the gate's temperature for optimiser step `step`: ``τ0 (τ1 / τ0) ** min(step / anneal_steps, 1)``."""
        if self.gated:
            self.gate_temperature.fill_(self.temperature_at(step))

    def temperature_at(self, step: int) -> float:
        """The gate's temperature of optimiser step `step`; see `anneal`."""
        start, end = self.config.initial_temperature, self.config.final_temperature
        return start * (end / start) ** min(step / self.config.anneal_steps, 1.0)

    def forward(self, sharer: KeyValue, receiver: KeyValue, open_halves: Collection[Half] | None = None) -> KeyValue:
        """Fuse keys and values of the same tokens.

        Args:
            sharer: Keys and values ``(B, Hs, N, Ds)``.
            receiver: Keys and values ``(B, Ht, N, Dt)``.
            open_halves: The halves that are open at inference, from a caller that knows; None asks the gates, which
                waits for the device.

        Returns:
            Keys and values ``(B, Ht, N, Dt)``; in float32 where an open gate of lower precision was applied at
            inference (``docs/reference-behaviour.md``, "Initial weights and precision"), to be rounded once by whoever
            stores them. Inputs of another precision than the Fuser's are cast to it, so Fusers in float32 serve models
            in bfloat16.

        Raises:
            RefusedError: If heads, head dimensions, batch or tokens do not fit.
        """
        # 1. Which halves take part
        self.check(sharer, receiver)
        states: dict[Half, Tensor] = dict(zip(HALVES, receiver, strict=True))
        # A half takes part if its gate is open; in training each gate is sampled, unless it is forced.
        sampled = self.training and self.gate_override is None
        if open_halves is None:
            open_halves = [half for half in HALVES if sampled or self.is_open(half)]
        active: list[Half] = [half for half in HALVES if sampled or half in open_halves]
        # 2. Projection, weights and gates. Each step is done for both halves before the next, since the reference draws
        # its random numbers in this order.
        hidden = self.hidden_states(active, sharer, receiver)
        fused = {half: self.projection(half, hidden[half]) for half in active}
        scales: dict[Half, Tensor] = {}
        if self.weighted:
            scales = {half: self.weights(half, hidden[half]) for half in active}
        if self.gated:
            # Gate before projection: a float32 gate spares weight · projection the rounding to half precision.
            scales = {half: self.gate(half, fused[half]) * scales.get(half, 1.0) for half in active}
        fused = {half: scales.get(half, 1.0) * fused[half] for half in active}
        # 3. The sum: out = receiver + gate * weight * projection, with the coefficient 1 for the Receiver
        if self.reads_receiver:
            fused = {half: states[half] + fused[half] for half in active}
        # A half that takes no part stays the tensor that came in.
        keys, values = (fused.get(half, states[half]) for half in HALVES)
        return keys, values

    def dynamic_weights(self, sharer: KeyValue, receiver: KeyValue) -> tuple[Tensor, Tensor]:
        """The weights of each token and KV head for keys and values, ``(B, Ht, N, 1)`` in (0, 1).

        Raises:
            RefusedError: In a variant without weights.
        """
        if not self.weighted:
            raise RefusedError(
                "Dynamic weights must be those of a weighted variant", self.config.variant, "Use the variant full"
            )
        hidden = self.hidden_states(HALVES, sharer, receiver)
        keys, values = (self.weights(half, hidden[half]) for half in HALVES)
        return keys, values

    def hidden_states(self, halves: Sequence[Half], sharer: KeyValue, receiver: KeyValue) -> dict[Half, Tensor]:
        """``h = mlp1(in(z))``: for each of `halves` the states ``(B, N, width)`` that both branches read."""
        states = dict(zip(HALVES, zip(sharer, receiver, strict=True), strict=True))
        inputs = {half: self.inputs(half, *states[half]) for half in halves}
        return {half: self.layer(half, "mlp1")(self.layer(half, "in")(z)) for half, z in inputs.items()}

    def inputs(self, half: Half, sharer: Tensor, receiver: Tensor) -> Tensor:
        """``z = [sharer, receiver]``: what one half reads at each token, ``(B, N, Cs + Ct)``."""
        # The Sharer comes first, as in the released weights.
        parts = [self.flatten_heads(sharer), self.flatten_heads(receiver)]
        return torch.cat(parts if self.reads_receiver else parts[:1], dim=-1)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        # Not get_parameter: `FuserStack` may run a Fuser with rows of larger tensors as its parameters.
        weight = self.layer("key", "proj_out").weight
        assert isinstance(weight, Tensor)
        return weight.dtype

    def flatten_heads(self, states: Tensor) -> Tensor:
        """``(B, H, N, D)`` to ``(B, N, H · D)`` in the Fuser's own precision."""
        # (B, H, N, D) -> (B, N, H, D) -> (B, N, H * D)
        return states.transpose(1, 2).flatten(2).to(self.dtype)

    def projection(self, half: Half, hidden: Tensor) -> Tensor:
        """``p = proj_out(proj_mlp2(h))``, cut into heads: ``(B, N, width)`` to ``(B, Ht, N, Dt)``."""
        return self.output_heads(half, self.layer(half, "proj_mlp2")(hidden))

    def output_heads(self, half: Half, hidden: Tensor) -> Tensor:
        """``proj_out``, cut into heads: ``(B, N, width)`` to ``(B, Ht, N, Dt)``."""
        flat = self.layer(half, "proj_out")(hidden)
        # (B, N, Ht * Dt) -> (B, N, Ht, Dt) -> (B, Ht, N, Dt)
        return flat.unflatten(-1, (self.config.receiver_heads, self.config.receiver_head_dim)).transpose(1, 2)

    def weights(self, half: Half, hidden: Tensor) -> Tensor:
        """``w = sigmoid(scalar_head(scalar_mlp2(h)))``: ``(B, N, width)`` to ``(B, Ht, N, 1)``."""
        return self.head_weights(half, self.layer(half, "scalar_mlp2")(hidden))

    def head_weights(self, half: Half, hidden: Tensor) -> Tensor:
        """``sigmoid(scalar_head)``: ``(B, N, width)`` to ``(B, Ht, N, 1)``."""
        # (B, N, Ht) -> (B, Ht, N) -> (B, Ht, N, 1)
        return torch.sigmoid(self.layer(half, "scalar_head")(hidden)).transpose(1, 2).unsqueeze(-1)

    def gate(self, half: Half, projection: Tensor) -> Tensor:
        """The gate of an active half: 1, or in training a relaxed sample ``(B, Ht, N, 1)`` at the temperature."""
        logit: Tensor = getattr(self, f"{half}_gate_logit")
        # float32, whatever the precision of the Fuser: the product and the sum with it are then rounded only once.
        if not self.training:
            return torch.ones((1, 1, 1, 1), dtype=torch.float32, device=logit.device)
        # Only a gate that is forced open gets here: a closed half takes no part.
        if self.gate_override is not None:
            return projection.new_ones((1, 1, 1, 1))
        # One Gumbel sample is biased towards open gates (its mean is 0.58); two give the logistic noise of a relaxed
        # Bernoulli variable.
        noise = self.gumbel_noise(projection, logit.dtype)
        if self.config.gate_noise == "logistic":
            noise = noise - self.gumbel_noise(projection, logit.dtype)
        return torch.sigmoid((logit + noise) / self.gate_temperature)

    @staticmethod
    def gumbel_noise(like: Tensor, dtype: torch.dtype) -> Tensor:
        """Gumbel samples ``(B, Ht, N, 1)`` for a projection ``(B, Ht, N, Dt)``."""
        # One sample a row, head and token.
        # Not rand_like: `like` is transposed, and would be filled in the order of its memory, not of its axes.
        uniform = torch.rand((*like.shape[:-1], 1), dtype=dtype, device=like.device)
        return -torch.log(-torch.log(uniform + 1e-20) + 1e-20)

    def check(self, sharer: KeyValue, receiver: KeyValue) -> None:
        """Refuse keys and values whose shapes do not fit.

        Raises:
            RefusedError: If heads, head dimensions, batch or tokens do not fit.
        """
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
