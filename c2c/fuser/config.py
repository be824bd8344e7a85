"""Sizes and parts of a Fuser, and the named ablation variants (reference spec §1.1 and §1.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from numbers import Real
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.types import GATE_NOISES, CacheShape

WIDEST, DEEPEST, LONGEST = 2**20, 2**8, 2**53
"""Most that a width, a depth and a number of steps can be: beyond them no matrix fits into any machine's memory, and
steps are no longer exact."""

VARIANTS: dict[str, dict[str, bool]] = {
    "full": {"weighted": True, "gated": True, "reads_receiver": True},
    "unweighted": {"weighted": False, "gated": True, "reads_receiver": True},
    "fuse": {"weighted": False, "gated": False, "reads_receiver": True},
    "project": {"weighted": False, "gated": False, "reads_receiver": False},
    "ungated": {"weighted": True, "gated": False, "reads_receiver": True},
    "projected": {"weighted": True, "gated": True, "reads_receiver": True, "projects_sharer": True},
    "low_rank": {"weighted": True, "gated": True, "reads_receiver": True, "joint": True},
}
"""Ablation levels 0 to 4 of the reference, in order (the paper's rows: project, + fuse (`fuse`), + gate (`full`)); then
the paper's C2C-C (`projected`) and one bottleneck for keys and values together (`low_rank`)."""


@dataclass(frozen=True, kw_only=True)
class FuserConfig:
    """Everything that fixes the parameters and the formula of one Fuser.

    Args:
        sharer_heads: KV heads of the Sharer (Hs).
        sharer_head_dim: Head dimension of the Sharer (Ds).
        receiver_heads: KV heads of the Receiver (Ht).
        receiver_head_dim: Head dimension of the Receiver (Dt).
        hidden_dim: Width of the hidden states.
        intermediate_dim: Inner width of the residual FFN blocks.
        num_layers: Depth; the projection branch has ``num_layers - 2`` blocks of its own. At least 3.
        dropout: Dropout inside the blocks, in training only.
        initial_temperature: Temperature of the gate at the first training step.
        final_temperature: Temperature after `anneal_steps` steps.
        anneal_steps: Optimiser steps over which the temperature falls geometrically.
        weighted: Whether each token and head has a dynamic weight.
        gated: Whether keys and values each have a learned gate.
        reads_receiver: Whether the Receiver's cache is an input and is added to the output.
        gate_noise: ``gumbel``: one Gumbel sample as in the reference; ``logistic``: the difference of two.
        projects_sharer: Whether the Sharer's cache is first brought to the Receiver's width by an MLP of its own.
        joint: Whether keys and values pass one bottleneck of width `rank` together, not two of width `hidden_dim`.
        rank: Width of that bottleneck; without effect unless `joint`.

    Raises:
        RefusedError: If a size or probability is out of range, the noise is unknown, or the parts exclude each other.
    """

    sharer_heads: int
    sharer_head_dim: int
    receiver_heads: int
    receiver_head_dim: int
    hidden_dim: int = 1024
    intermediate_dim: int = 1024
    num_layers: int = 3
    dropout: float = 0.1
    initial_temperature: float = 1.0
    final_temperature: float = 0.001
    anneal_steps: int = 1929
    weighted: bool = True
    gated: bool = True
    reads_receiver: bool = True
    gate_noise: str = "gumbel"
    projects_sharer: bool = False
    joint: bool = False
    rank: int = 128

    def __post_init__(self) -> None:
        for name in ("sharer_heads", "sharer_head_dim", "receiver_heads", "receiver_head_dim"):
            _between(name, getattr(self, name), 1, WIDEST)
        for name in ("hidden_dim", "intermediate_dim", "rank", "sharer_width", "receiver_width"):
            _between(name, getattr(self, name), 1, WIDEST)
        _between("anneal_steps", self.anneal_steps, 1, LONGEST)
        _between("num_layers", self.num_layers, 3, DEEPEST)
        for name in ("dropout", "initial_temperature", "final_temperature"):
            _number(name, getattr(self, name))
        for name in ("weighted", "gated", "reads_receiver", "projects_sharer", "joint"):
            if not isinstance(getattr(self, name), bool):
                raise RefusedError(f"{name} must be True or False", getattr(self, name), "Choose one of them")
        if not 0 <= self.dropout < 1:
            raise RefusedError("dropout must be in [0, 1)", self.dropout, "Choose a probability, such as 0.1")
        if not 0 < self.final_temperature <= self.initial_temperature:
            raise RefusedError(
                "The gate's temperature must fall to a positive value",
                (self.initial_temperature, self.final_temperature),
                "Choose 0 < final_temperature <= initial_temperature",
            )
        check_choice("gate_noise", self.gate_noise, GATE_NOISES)
        if self.joint and self.projects_sharer:
            raise RefusedError(
                "A joint bottleneck must read the Sharer's cache as it is",
                "joint and projects_sharer",
                "Choose the variant low_rank or projected",
            )

    @property
    def sharer_width(self) -> int:
        """Cs = Hs · Ds."""
        return self.sharer_heads * self.sharer_head_dim

    @property
    def receiver_width(self) -> int:
        """Ct = Ht · Dt."""
        return self.receiver_heads * self.receiver_head_dim

    @property
    def joined_width(self) -> int:
        """Width of what one half reads at each token: the Sharer's states, then the Receiver's."""
        sharer = self.receiver_width if self.projects_sharer else self.sharer_width
        return sharer + (self.receiver_width if self.reads_receiver else 0)

    @classmethod
    def between(cls, sharer: CacheShape, receiver: CacheShape, *, variant: str = "full", **sizes: Any) -> FuserConfig:
        """The config that fits two caches, in one of the named variants.

        Raises:
            RefusedError: If the variant is unknown or a size is out of range.
        """
        check_choice("A Fuser variant", variant, VARIANTS)
        for name in sizes:
            check_choice("A size or part of a Fuser", name, [field.name for field in fields(cls)])
        parts: dict[str, Any] = {**VARIANTS[variant], **sizes}
        return cls(
            sharer_heads=sharer.heads,
            sharer_head_dim=sharer.head_dim,
            receiver_heads=receiver.heads,
            receiver_head_dim=receiver.head_dim,
            **parts,
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FuserConfig:
        """The config that `to_dict` wrote.

        Raises:
            RefusedError: If it is no object, a key is unknown or missing, or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise RefusedError("A Fuser's config must be an object", values, "Pass what FuserConfig.to_dict gives")
        for name in values:
            check_choice("A key of a Fuser's config", name, [field.name for field in fields(cls)])
        missing = [f"no {field.name}" for field in fields(cls) if field.default is MISSING and field.name not in values]
        if missing:
            raise RefusedError(
                "A Fuser's config must hold the heads of both caches", missing, "Pass what FuserConfig.to_dict gives"
            )
        return cls(**values)


def _number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not _is_finite(value):
        raise RefusedError(f"{name} must be a number that is finite", value, f"Set {name} to a number, such as 0.1")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _between(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RefusedError(
            f"{name} must be a whole number of at least {least}, and at most {most}",
            value,
            f"Set {name} to {least} or more",
        )
