"""Settings of one training; the flags of the command line and the config's blocks follow from its fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from c2c.errors import RefusedError
from c2c.fuser.config import VARIANTS, FuserConfig
from c2c.settings import AUTO, check_values, setting, whole_number_or, whole_numbers
from c2c.types import DTYPES, GATE_NOISES, GROUPINGS, LAYER_ALIGNMENTS, PROMPTS, TOKEN_ALIGNMENTS

SHARER_CACHES = ("own", "zeroed")
RESPONSES = ("plain", "fused")
FINAL_WEIGHTS = ("last", "best")
OUTPUT_INITS = ("default", "zero", "ridge")
AUTOCASTS = ("none", "bfloat16")
RECOMPUTED = ("none", "fusers")
COMPILED = ("none", "fusers")

STATES_TOKEN_BUDGET, STATES_LIMIT_GB = 8192, 20.0
"""Of stored states: tokens of a batch in which they are computed, and most GB that they may take."""

WIDEST, LONGEST, GREATEST_SEED = 2**17, 10**8, 2**32 - 1
"""Greatest width of a layer, greatest number of steps or tokens, and numpy's greatest seed."""


def read_steps(text: str) -> tuple[int, ...]:
    """Steps as the flag ``--keep-steps`` gives them: ``50,100``.

    Raises:
        RefusedError: If a part of the text is no whole number.
    """
    return whole_numbers(text, "--keep-steps", "50,100")


def read_budget(text: str) -> int | str:
    """Tokens as the flag ``--micro-batch-tokens`` gives them: ``8192`` or ``auto``.

    Raises:
        RefusedError: If the text is neither.
    """
    return whole_number_or(AUTO, text, "--micro-batch-tokens")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the fusers of a pair are trained; defaults are the paper's, but for models in fp32.

    Sources: paper §3.3 and §4.1; ``docs/reference-behaviour.md``, "Training".

    Raises:
        RefusedError: If a name is unknown, a number is out of range, or two settings exclude each other.
    """

    variant: str = setting("full", "parts of the Fuser", choices=tuple(VARIANTS), block=None)
    sharer_cache: str = setting(
        "own", "the Sharer's cache; zeroed for the adapter control", choices=SHARER_CACHES, block=None
    )
    response: str = setting(
        "plain", "whether the response's tokens are fused too, in use as in training", choices=RESPONSES, block=None
    )
    dtype: str = setting("float32", "precision of the two frozen models", choices=DTYPES, block=None)
    alignment: str = setting("span", "token alignment", choices=TOKEN_ALIGNMENTS, block=None)
    prompts: str = setting(
        "plain", "plain text, or chat (messages in each model's own template)", choices=PROMPTS, block=None
    )
    layer_alignment: str = setting(
        "terminal", "which Sharer layer a Receiver layer reads", choices=LAYER_ALIGNMENTS, block="fuser"
    )
    hidden_dim: int = setting(
        FuserConfig.hidden_dim, "width of the Fuser's hidden states", least=1, most=WIDEST, block="fuser"
    )
    intermediate_dim: int = setting(
        FuserConfig.intermediate_dim, "inner width of the Fuser's residual blocks", least=1, most=WIDEST, block="fuser"
    )
    num_layers: int = setting(FuserConfig.num_layers, "depth of the Fuser", least=3, most=256, block="fuser")
    rank: int = setting(
        FuserConfig.rank,
        "width of the bottleneck of the variant low_rank; without effect on the others",
        least=1,
        most=WIDEST,
        block="fuser",
    )
    dropout: float = setting(
        FuserConfig.dropout, "dropout inside the Fuser's residual blocks", least=0, below=1, block="fuser"
    )
    gate_noise: str = setting(
        FuserConfig.gate_noise, "noise on the gates in training", choices=GATE_NOISES, block="fuser"
    )
    output_init: str = setting(
        "default",
        "initial weights of the projection's last layer; ridge: zeros, on top of a closed form",
        choices=OUTPUT_INITS,
        block="run",
    )
    ridge_examples: int = setting(
        512,
        "training examples that the closed form is fitted on; with output_init ridge",
        least=1,
        most=10**6,
        block="run",
    )
    initial_temperature: float = setting(
        FuserConfig.initial_temperature, "temperature of the gates at the first step", above=0, block="fuser"
    )
    final_temperature: float = setting(
        FuserConfig.final_temperature,
        "temperature of the gates at the last step, at most the initial one",
        above=0,
        block="fuser",
    )
    steps: int = setting(FuserConfig.anneal_steps, "optimiser steps", least=1, most=LONGEST)
    batch_size: int = setting(256, "examples an optimiser step", least=1, most=10**6)
    micro_batch_size: int = setting(
        0, "examples run at once, at most batch_size; 0 for the whole batch", least=0, most=10**6
    )
    micro_batch_tokens: int | str = setting(
        0,
        "Receiver tokens run at once, pads included; auto: as many as fit, measured before the first step; "
        "halved where memory does not suffice; 0 for no such limit",
        least=0,
        most=10**9,
        words=(AUTO,),
        parse=read_budget,
    )
    learning_rate: float = setting(1e-4, "peak learning rate of AdamW", above=0)
    weight_decay: float = setting(0.01, "weight decay of AdamW", least=0)
    warmup_ratio: float = setting(0.1, "share of the steps in which the learning rate rises", least=0, below=1)
    max_gradient_norm: float = setting(1.0, "gradients are clipped to this norm", above=0)
    max_length: int = setting(
        2048, "longest example in Receiver tokens; longer ones are left out and counted", least=2, most=LONGEST
    )
    evaluate_every: int = setting(100, "steps between two evaluations on the validation set", least=1, most=LONGEST)
    validation_limit: int = setting(0, "only the first examples of the validation set; 0 for all", least=0, most=10**9)
    checkpoint_every: int = setting(100, "steps between two checkpoints", least=1, most=LONGEST)
    keep: str = setting(
        "last",
        "weights that are kept, of all trainings alike: of the last step, or of the one with the best validation loss",
        choices=FINAL_WEIGHTS,
    )
    keep_steps: tuple[int, ...] = setting(
        (), "earlier steps whose Fusers are kept too, as in 50,100", least=1, most=LONGEST, parse=read_steps
    )
    autocast: str = setting(
        "none",
        "precision in which the Fusers compute while they learn; none is that of their weights, float32",
        choices=AUTOCASTS,
    )
    recompute: str = setting("none", "activations that are computed twice, to save memory", choices=RECOMPUTED)
    grouping: str = setting(
        "auto", "whether Fusers of equal size are computed together; auto: not on a CPU", choices=GROUPINGS
    )
    compile: str = setting("none", "what torch.compile turns into kernels of its own", choices=COMPILED)
    log_every: int = setting(
        10, "steps between two readings of losses and norms, for which a device is waited for", least=1, most=LONGEST
    )
    seed: int = setting(
        42, "fixes initial weights, order, dropout and gate noise", least=0, most=GREATEST_SEED, block=None
    )
    order_seed: int = setting(
        -1,
        "fixes the order of the examples alone; -1 for that of each training's seed",
        least=-1,
        most=GREATEST_SEED,
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.micro_batch_size > self.batch_size:
            rule = f"micro_batch_size must be at most batch_size, {self.batch_size}"
            raise RefusedError(rule, self.micro_batch_size, "Lower it; 0 runs the whole batch at once")
        if self.compile == "fusers" and self.grouping == "loop":
            rule = "Fusers that are compiled must be computed together"
            raise RefusedError(rule, "grouping loop", "Set grouping to auto or grouped, or compile to none")
        if self.final_temperature > self.initial_temperature:
            rule = f"final_temperature must be at most initial_temperature, {self.initial_temperature}"
            raise RefusedError(rule, self.final_temperature, "Lower it: a gate's temperature falls")
        if wrong := [step for step in self.keep_steps if type(step) is not int or not 1 <= step < self.steps]:
            rule = f"keep_steps must lie between 1 and {self.steps - 1}, before the last step, which is kept anyway"
            raise RefusedError(rule, wrong[0], "Drop it, or train for more steps")

    @property
    def seed_of_order(self) -> int:
        """The seed that fixes the order of the examples."""
        return self.seed if self.order_seed < 0 else self.order_seed

    def check_processes(self, processes: int) -> None:
        """Refuse a number of processes that cannot share a batch.

        Raises:
            RefusedError: If there are more processes than examples in a batch.
        """
        if processes > self.batch_size:
            rule = f"A batch must have an example for each of the {processes} processes"
            raise RefusedError(rule, f"batch_size {self.batch_size}", "Raise batch_size, or start fewer processes")

    def check_intervals(self) -> None:
        """Refuse a training without one checkpoint or one evaluation before its end, as a config must not ask for it.

        Raises:
            RefusedError: If `checkpoint_every` or `evaluate_every` is beyond the last step.
        """
        for name in ("checkpoint_every", "evaluate_every"):
            if getattr(self, name) > self.steps:
                rule = f"{name} must be at most steps, {self.steps}"
                raise RefusedError(rule, getattr(self, name), "Lower it, so that it happens at least once")

    def fuser(self) -> dict[str, Any]:
        """Arguments of `FuserConfig.between`."""
        names = ("variant", "hidden_dim", "intermediate_dim", "num_layers", "rank", "dropout", "gate_noise")
        temperatures = ("initial_temperature", "final_temperature")
        return {name: getattr(self, name) for name in (*names, *temperatures)} | {"anneal_steps": self.steps}

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return asdict(self)
