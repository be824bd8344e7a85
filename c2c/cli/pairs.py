"""The commands ``c2c check`` and ``c2c plan``: whether two models can be connected, and what that costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from c2c.cli.flags import OptionalPath, OptionalText, PairFlags, Paths, one_of
from c2c.cli.repository import run_module
from c2c.errors import REFUSED, RefusedError
from c2c.training.config import TrainingConfig
from c2c.types import DTYPES

if TYPE_CHECKING:
    from c2c.training.pair_plan import ModelFacts, PairPlan

GPU_WORDS = ("cpu", "h100", "a100", "a800", "…")
TRAINING = TrainingConfig()
NOTE = "Estimates: memory of the longest example and the fullest batch, time by counted operations."


@dataclass(frozen=True, kw_only=True)
class Check(PairFlags):
    """Whether two models can be connected, how they differ, and memory, time and disk of training and answering.

    Only configs and tokenizers are read, no weights. The exit code is 2 if the pair is refused.
    """

    fuser: OptionalText = None
    """trained fusers: do these models meet their contract, weights apart?"""
    device: Annotated[str, one_of(GPU_WORDS)] = ""
    """plan for this device (default: this machine's)"""
    dtype: Annotated[str, one_of(DTYPES)] = "float32"
    """precision of the models"""
    json: bool = False
    """print JSON"""

    def run(self) -> None:
        """Print what was found."""
        from c2c.training.pair_plan import ModelFacts, contract_differences, differences

        receiver, sharer = ModelFacts.read(self.receiver), ModelFacts.read(self.sharer)
        refusals = [text for text in map(_refusal, (receiver, sharer)) if text]
        about: dict[str, Any] = {"eligible": not refusals, "refusals": refusals}
        if not refusals:
            plan = plan_of(receiver, sharer, self.device, TrainingConfig(dtype=self.dtype))
            about["models"] = {"receiver": asdict(receiver.sizes), "sharer": asdict(sharer.sizes)}
            about["differences"] = [asdict(difference) for difference in differences(receiver, sharer)]
            about["plan"] = plan.to_dict() | {"device": plan.gpu or "cpu"}
            if self.fuser:
                about["contract"] = contract_differences(self.fuser, receiver, sharer)
        print(json.dumps(about, indent=1) if self.json else "\n".join(_check_lines(about)))
        if refusals or about.get("contract"):
            sys.exit(REFUSED)


def _refusal(facts: ModelFacts) -> str:
    """Why a model cannot be part of a pair; empty if it can."""
    from c2c.cache.shape import cache_shape

    try:
        cache_shape(facts.config)
    except RefusedError as refusal:
        return f"{facts.name}: {refusal}"
    return ""


def _check_lines(about: dict[str, Any]) -> Iterator[str]:
    if about["refusals"]:
        yield "This pair cannot be connected."
        yield from about["refusals"]
        return
    yield "This pair can be connected."
    for role, sizes in about["models"].items():
        yield (
            f"  {role:9} {sizes['parameters'] / 1e6:,.0f} million parameters, {sizes['layers']} layers, "
            f"{sizes['kv_heads']} KV heads of {sizes['head_dim']}"
        )
    yield "\nDifferences" if about["differences"] else "\nNo differences that matter."
    for row in about["differences"]:
        yield f"  {row['line']:14} {row['receiver']} | {row['sharer']}: {row['meaning']}"
    if "contract" in about:
        yield "\nThe contract of the fusers is met, weights apart." if not about["contract"] else "\nContract not met"
        yield from (f"  {line}" for line in about["contract"])
    yield f"\nCosts on {about['plan']['device']}"
    yield from plan_lines(about["plan"])
    yield f"\n{NOTE} See c2c plan --receiver … --sharer … for other settings."


def plan_of(receiver: ModelFacts, sharer: ModelFacts, device: str, training: TrainingConfig, **values: int) -> PairPlan:
    """The plan of a pair on a device, by default on this machine's."""
    import torch

    from c2c.training.pair_plan import PairPlan, cpu_speed, gpu_speed

    if not device and torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    gpu = "" if device in ("", "cpu") else device
    tflops = gpu_speed(gpu) if gpu else cpu_speed()
    models = (receiver.sizes, sharer.sizes)
    return PairPlan(receiver=models[0], sharer=models[1], training=training, gpu=gpu, tflops=tflops, **values)


def plan_lines(numbers: dict[str, Any]) -> Iterator[str]:
    """Memory, time and disk, in words."""
    yield f"  fusers     {numbers['fuser_parameters'] / 1e6:,.0f} million parameters"
    for name, disk in (("training", numbers["training_disk_gb"]), ("answering", numbers["models_disk_gb"])):
        memory, hours = numbers[f"{name}_memory_gb"], numbers[f"{name}_hours"]
        yield f"  {name:10} {memory:,.1f} GB of memory, {_hours(hours)}, {disk:,.1f} GB of disk"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a pair, or a run of the whole replication, would cost.

    With --receiver and --sharer: memory, time and disk of training and answering for any two models. Without: the plan
    of a scale of the replication, in its repository.
    """

    receiver: OptionalText = None
    """Receiver: folder, model manifest or hub id"""
    sharer: OptionalText = None
    """Sharer: folder, model manifest or hub id"""
    device: Annotated[str, one_of(GPU_WORDS)] = ""
    """plan for this device; of a scale one of config/devices.csv (default: this machine's; of a scale the paper's)"""
    dtype: Annotated[str, one_of(DTYPES)] = "float32"
    """of a pair: precision of the models"""
    steps: int = TRAINING.steps
    """of a pair: optimiser steps"""
    batch_size: int = TRAINING.batch_size
    """of a pair: examples an optimiser step"""
    micro_batch_size: int = TRAINING.micro_batch_size
    """of a pair: examples run at once; 0 for the whole batch"""
    max_length: int = TRAINING.max_length
    """of a pair: longest example in Receiver tokens"""
    prompt_tokens: int = 150
    """of a pair: mean tokens of a prompt"""
    answer_tokens: int = 50
    """of a pair: mean tokens of an answer"""
    questions: int = 1000
    """of a pair: questions that are answered"""
    json: bool = False
    """of a pair: print JSON"""
    scale: str = "paper"
    """of a scale: paper, laptop, smoke, …"""
    configfile: Annotated[Paths, arg(metavar="[FILE ...]")] = ()
    """of a scale: config files instead of its own"""
    gpus: int = 1
    """of a scale: GPUs that jobs share, for wall hours"""
    speed: OptionalPath = None
    """of a scale: speed.json of python -m benchmarks.speed on a GPU"""

    def run(self) -> None:
        """Print the plan."""
        if (self.receiver is None) != (self.sharer is None):
            rule = "A plan of a pair must have both models"
            raise RefusedError(rule, "one of --receiver and --sharer", "Name both, or neither for a scale")
        if self.receiver is not None and self.sharer is not None:
            self._plan_pair(self.receiver, self.sharer)
            return
        files = ["--configfile", *map(str, self.configfile)] if self.configfile else []
        speed = ["--speed", str(self.speed)] if self.speed else []
        numbers = ["--device", self.device, "--gpus", str(self.gpus)]
        run_module("c2c plan", "workflow.plan.report", "--scale", self.scale, *files, *numbers, *speed)

    def _plan_pair(self, receiver: str, sharer: str) -> None:
        from c2c.training.pair_plan import ModelFacts

        names = ("dtype", "steps", "batch_size", "micro_batch_size", "max_length")
        training = TrainingConfig(**{name: getattr(self, name) for name in names})
        for name in ("prompt_tokens", "answer_tokens", "questions"):
            if getattr(self, name) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise RefusedError(f"{flag} must be at least 1", getattr(self, name), f"Raise {flag}")
        values = {name: getattr(self, name) for name in ("prompt_tokens", "answer_tokens", "questions")}
        plan = plan_of(ModelFacts.read(receiver), ModelFacts.read(sharer), self.device, training, **values)
        numbers = plan.to_dict()
        if self.json:
            print(json.dumps(numbers | {"device": plan.gpu or "cpu"}, indent=1))
            return
        print(f"{plan.gpu or 'this CPU'}, {plan.tflops:.3g} TFLOP/s assumed, {self.dtype}")
        print("\n".join(plan_lines(numbers)))
        least = plan.smaller().to_dict()["training_memory_gb"]
        if least < numbers["training_memory_gb"]:
            print(f"  with --micro-batch-size 1 the training takes {least:,.1f} GB of memory")
        print(f"\n{NOTE}")
