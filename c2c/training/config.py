"""Settings of one training run; the command line's flags are its fields."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.fuser.config import VARIANTS
from c2c.types import DTYPES, GATE_NOISES, LAYER_ALIGNMENTS, PROMPTS, TOKEN_ALIGNMENTS

SHARER_CACHES = ("own", "zeroed")
RESPONSES = ("plain", "fused")
KEPT = ("last", "best")
OUTPUT_INITS = ("default", "zero")
AUTOCASTS = ("none", "bfloat16")
RECOMPUTED = ("none", "fusers")

BOUNDS: dict[str, tuple[int, int]] = {
    "hidden_dim": (1, 2**17),
    "intermediate_dim": (1, 2**17),
    "num_layers": (1, 1000),
    "rank": (1, 2**17),
    "steps": (1, 10**8),
    "batch_size": (1, 10**6),
    "micro_batch_size": (0, 10**6),
    "max_length": (1, 10**8),
    "evaluate_every": (1, 10**8),
    "checkpoint_every": (1, 10**8),
    "validation_limit": (0, 10**9),
    "seed": (0, 2**32 - 1),
}
"""The least and the most of each whole number; the seed's most is numpy's. More would ask for the impossible."""
NUMBERS = (
    "dropout", "initial_temperature", "final_temperature", "learning_rate", "weight_decay", "warmup_ratio",
    "max_gradient_norm",
)  # fmt: skip
POSITIVE = ("initial_temperature", "final_temperature", "learning_rate", "max_gradient_norm")


def _flag(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, **more})


def read_steps(text: str) -> tuple[int, ...]:
    """Steps as a flag gives them, ``50,100``; none for an empty text.

    Raises:
        RefusedError: If a part of it is no whole number.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not re.fullmatch(r"[0-9]{1,9}", part)]:
        raise RefusedError("--keep-steps must be whole numbers with commas between", wrong[0], "Write 50,100")
    return tuple(int(part) for part in parts)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a FuserStack is trained; defaults are the paper's (reference spec §5.2) but for models in fp32.

    Raises:
        RefusedError: If a name is unknown or a number is out of range.
    """

    variant: str = _flag("full", "parts of the Fuser: " + ", ".join(VARIANTS))
    sharer_cache: str = _flag("own", "own, or zeroed (the control recipe adapter)")
    response: str = _flag("plain", "plain, or fused: the response's tokens are fused too, in use as in training")
    dtype: str = _flag("float32", "precision of the two frozen models: " + ", ".join(DTYPES))
    alignment: str = _flag("span", "token alignment: " + ", ".join(TOKEN_ALIGNMENTS))
    prompts: str = _flag("plain", "prompts: " + ", ".join(PROMPTS) + " (messages in each model's own template)")
    layer_alignment: str = _flag("terminal", "layer alignment: " + ", ".join(LAYER_ALIGNMENTS))
    hidden_dim: int = _flag(1024, "width of the Fuser's hidden states")
    intermediate_dim: int = _flag(1024, "inner width of its residual blocks")
    num_layers: int = _flag(3, "depth of the Fuser")
    rank: int = _flag(128, "width of the bottleneck of the variant low_rank; without effect on the others")
    dropout: float = _flag(0.1, "dropout inside the residual blocks")
    gate_noise: str = _flag("gumbel", "noise on the gates: " + ", ".join(GATE_NOISES))
    output_init: str = _flag("default", "initial weights of the projection's last layer: default, or zero")
    initial_temperature: float = _flag(1.0, "gate temperature at the first step")
    final_temperature: float = _flag(0.001, "gate temperature at the last step")
    steps: int = _flag(1929, "optimiser steps")
    batch_size: int = _flag(256, "examples an optimiser step")
    micro_batch_size: int = _flag(0, "examples run at once; 0 for the whole batch")
    learning_rate: float = _flag(1e-4, "peak learning rate of AdamW")
    weight_decay: float = _flag(0.01, "weight decay of AdamW")
    warmup_ratio: float = _flag(0.1, "share of the steps in which the learning rate rises")
    max_gradient_norm: float = _flag(1.0, "gradients are clipped to this norm")
    max_length: int = _flag(2048, "longest example in Receiver tokens; longer ones are left out and counted")
    evaluate_every: int = _flag(100, "steps between two evaluations on the validation set")
    validation_limit: int = _flag(0, "only the first examples of the validation set; 0 for all")
    checkpoint_every: int = _flag(100, "steps between two checkpoints")
    keep: str = _flag("last", "weights that are kept: of the last step, or of the step with the best validation loss")
    keep_steps: tuple[int, ...] = _flag((), "earlier steps whose Fusers are kept too, as in 50,100", parse=read_steps)
    autocast: str = _flag("none", "precision in which the Fusers compute while they learn: " + ", ".join(AUTOCASTS))
    recompute: str = _flag("none", "activations to compute twice, to save memory: " + ", ".join(RECOMPUTED))
    seed: int = _flag(42, "fixes initial weights, order, dropout and gate noise")

    def __post_init__(self) -> None:
        check_choice("--variant", self.variant, VARIANTS)
        check_choice("--sharer-cache", self.sharer_cache, SHARER_CACHES)
        check_choice("--output-init", self.output_init, OUTPUT_INITS)
        check_choice("--response", self.response, RESPONSES)
        check_choice("--prompts", self.prompts, PROMPTS)
        check_choice("--dtype", self.dtype, DTYPES)
        check_choice("--keep", self.keep, KEPT)
        check_choice("--autocast", self.autocast, AUTOCASTS)
        check_choice("--recompute", self.recompute, RECOMPUTED)
        check_choice("--alignment", self.alignment, TOKEN_ALIGNMENTS)
        check_choice("--layer-alignment", self.layer_alignment, LAYER_ALIGNMENTS)
        self._check_whole_numbers()
        self._check_numbers()
        self._check_keep_steps()

    def _check_whole_numbers(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise RefusedError(f"{name} must be a whole number of {least} to {most}", value, f"Correct {name}")
        if self.micro_batch_size > self.batch_size:
            raise RefusedError(
                f"micro_batch_size must be between 0 and batch_size = {self.batch_size}",
                self.micro_batch_size,
                "Choose 0 to run the whole batch at once",
            )

    def _check_numbers(self) -> None:
        for name in NUMBERS:
            value = getattr(self, name)
            # Every comparison with a NaN is false, so a range alone would let it pass.
            if type(value) not in (int, float) or not math.isfinite(value):
                raise RefusedError(f"{name} must be a finite number", value, f"Correct {name}")
            if value < 0 or (value == 0 and name in POSITIVE):
                rule = f"{name} must be {'positive' if name in POSITIVE else 'at least 0'}"
                raise RefusedError(rule, value, f"Correct {name}")
        for name in ("warmup_ratio", "dropout"):
            if getattr(self, name) >= 1:
                raise RefusedError(f"{name} must be in [0, 1)", getattr(self, name), "Choose a share, such as 0.1")
        if self.final_temperature > self.initial_temperature:
            rule = f"final_temperature must be at most initial_temperature = {self.initial_temperature}"
            raise RefusedError(rule, self.final_temperature, "Lower it: a gate's temperature falls")

    def _check_keep_steps(self) -> None:
        if wrong := [step for step in self.keep_steps if type(step) is not int or not 1 <= step < self.steps]:
            rule = f"keep_steps must lie between 1 and {self.steps - 1}, before the last step, which is kept anyway"
            raise RefusedError(rule, wrong[0], "Drop it, or train for more steps")

    def fuser(self) -> dict[str, Any]:
        """Arguments of `FuserConfig.between`."""
        names = ("variant", "hidden_dim", "intermediate_dim", "num_layers", "rank", "dropout", "gate_noise")
        temperatures = ("initial_temperature", "final_temperature")
        return {name: getattr(self, name) for name in (*names, *temperatures)} | {"anneal_steps": self.steps}

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return asdict(self)
