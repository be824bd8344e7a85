"""The config of a Fuser: its variant and its sizes. Imports no torch."""

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

VARIANTS = {
    "full": "Fuser",
    "unweighted": "UnweightedFuser",
    "fuse": "UngatedUnweightedFuser",
    "project": "ProjectionFuser",
    "ungated": "UngatedFuser",
    "projected": "ProjectedFuser",
    "low_rank": "LowRankFuser",
}
"""Each variant and its class in `c2c.fuser.variants`. The first five are the reference's ablation levels 0 to 4 (the
paper's rows are `project`, `fuse` and `full`; ``docs/reference-behaviour.md``, "Variants of the Fuser"); `projected` is
the paper's C2C-C, and `low_rank` has one bottleneck for keys and values together."""

SWITCHES = ("weighted", "gated", "reads_receiver", "projects_sharer", "joint")
SWITCHES_OF_VARIANTS = {
    "full": (True, True, True, False, False),
    "unweighted": (False, True, True, False, False),
    "fuse": (False, False, True, False, False),
    "project": (False, False, False, False, False),
    "ungated": (True, False, True, False, False),
    "projected": (True, True, True, True, False),
    "low_rank": (True, True, True, False, True),
}
"""How files of Fusers name a variant: by these switches, as they did before variants were classes, so that all versions
of this package read all files. The file of a variant that is not listed here names it as ``variant`` instead."""


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
        variant: One of `VARIANTS`.
        gate_noise: ``gumbel``: one Gumbel sample as in the reference; ``logistic``: the difference of two.
        rank: Width of the bottleneck of `low_rank`; without effect on other variants.

    Raises:
        RefusedError: If a size or probability is out of range, or the variant or the noise is unknown.
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
    variant: str = "full"
    gate_noise: str = "gumbel"
    rank: int = 128

    def __post_init__(self) -> None:
        for name in ("sharer_heads", "sharer_head_dim", "receiver_heads", "receiver_head_dim"):
            _between(name, getattr(self, name), 1, WIDEST)
        for name in ("hidden_dim", "intermediate_dim", "rank", "sharer_width", "receiver_width"):
            _between(name, getattr(self, name), 1, WIDEST)
        _between("anneal_steps", self.anneal_steps, 1, LONGEST)
        _between("num_layers", self.num_layers, 3, DEEPEST)
        # Kinds before values: comparing a text with a number would raise a TypeError.
        for name in ("dropout", "initial_temperature", "final_temperature"):
            _number(name, getattr(self, name))
        if not 0 <= self.dropout < 1:
            raise RefusedError("dropout must be in [0, 1)", self.dropout, "Choose a probability, such as 0.1")
        if not 0 < self.final_temperature <= self.initial_temperature:
            raise RefusedError(
                "The gate's temperature must fall to a positive value",
                (self.initial_temperature, self.final_temperature),
                "Choose 0 < final_temperature <= initial_temperature",
            )
        check_choice("A Fuser variant", self.variant, VARIANTS)
        check_choice("gate_noise", self.gate_noise, GATE_NOISES)

    @property
    def sharer_width(self) -> int:
        """Cs = Hs · Ds."""
        return self.sharer_heads * self.sharer_head_dim

    @property
    def receiver_width(self) -> int:
        """Ct = Ht · Dt."""
        return self.receiver_heads * self.receiver_head_dim

    @classmethod
    def between(cls, sharer: CacheShape, receiver: CacheShape, *, variant: str = "full", **sizes: Any) -> FuserConfig:
        """The config that fits two caches, in one of the named variants.

        Raises:
            RefusedError: If the variant is unknown or a size is out of range.
        """
        check_choice("A Fuser variant", variant, VARIANTS)
        for name in sizes:
            check_choice("A size or part of a Fuser", name, [field.name for field in fields(cls)])
        return cls(
            sharer_heads=sharer.heads,
            sharer_head_dim=sharer.head_dim,
            receiver_heads=receiver.heads,
            receiver_head_dim=receiver.head_dim,
            variant=variant,
            **sizes,
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them, the variant by its switches (`SWITCHES_OF_VARIANTS`)."""
        values = asdict(self)
        if self.variant not in SWITCHES_OF_VARIANTS:
            return values
        # The keys of files and their order are those of earlier versions, so that equal Fusers have equal files.
        switches = dict(zip(SWITCHES, SWITCHES_OF_VARIANTS[self.variant], strict=True))
        return {name: {**values, **switches}[name] for name in FILE_KEYS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FuserConfig:
        """The config that `to_dict` wrote, in this version or an earlier one.

        Raises:
            RefusedError: If it is no object, a key is unknown or missing, a value is out of range, or the switches are
                not those of a variant.
        """
        if not isinstance(values, Mapping):
            raise RefusedError("A Fuser's config must be an object", values, "Pass what FuserConfig.to_dict gives")
        # Files of earlier versions lack the fields that came later, which have defaults.
        names = [field.name for field in fields(cls)]
        for name in values:
            check_choice("A key of a Fuser's config", name, [*names, *SWITCHES])
        missing = [f"no {field.name}" for field in fields(cls) if field.default is MISSING and field.name not in values]
        if missing:
            raise RefusedError(
                "A Fuser's config must hold the heads of both caches", missing, "Pass what FuserConfig.to_dict gives"
            )
        variant = values["variant"] if "variant" in values else _variant_of(values)
        return cls(**{name: values[name] for name in names if name in values} | {"variant": variant})


FILE_KEYS = (
    *("sharer_heads", "sharer_head_dim", "receiver_heads", "receiver_head_dim", "hidden_dim", "intermediate_dim"),
    *("num_layers", "dropout", "initial_temperature", "final_temperature", "anneal_steps"),
    *("weighted", "gated", "reads_receiver", "gate_noise", "projects_sharer", "joint", "rank"),
)
"""Keys of a Fuser in a file, in their order."""


def _variant_of(values: Mapping[str, Any]) -> str:
    """The variant that the switches of a file name; a switch that is missing is that of the variant ``full``."""
    switches = {
        name: values.get(name, default) for name, default in zip(SWITCHES, SWITCHES_OF_VARIANTS["full"], strict=True)
    }
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise RefusedError(f"{name} must be True or False", value, "Choose one of them")
    for variant, pattern in SWITCHES_OF_VARIANTS.items():
        if tuple(switches.values()) == pattern:
            return variant
    raise RefusedError(
        f"{', '.join(SWITCHES[:-1])} and joint must be those of one variant of the Fuser",
        switches,
        f"Choose one of the variants {', '.join(SWITCHES_OF_VARIANTS)}",
    )


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
