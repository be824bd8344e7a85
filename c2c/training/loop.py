"""Train a FuserStack: only the Fusers learn, from the Receiver's loss on the response (paper §3.3; spec §5.4)."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor

from c2c.alignment.derangement import derange, with_reading_of
from c2c.errors import RefusedError
from c2c.fuser.stack import FuserStack
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.data import Batch, collate
from c2c.training.examples import Example
from c2c.training.learner import Learner
from c2c.training.loss import response_loss
from c2c.training.processes import Processes

COLUMNS = (
    "step", "loss", "learning_rate", "temperature", "gradient_norm", "validation_loss", "validation_deranged_loss",
    "open_gates", "padding",
)  # fmt: skip


@dataclass
class Trainer(Learner):
    """One training run between two frozen models, or what one of several processes does of it.

    Args:
        pair: The Receiver and the Sharer.
        config: All settings.
        training: Examples to learn from.
        validation: Examples to watch the loss on; nothing is chosen on any others.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.

    Raises:
        RefusedError: If a batch has fewer examples than there are processes.
    """

    pair: Pair
    config: TrainingConfig
    training: Sequence[Example]
    validation: Sequence[Example]
    checkpoints: Path

    columns = COLUMNS

    def __post_init__(self) -> None:
        set_seed(self.config.seed)
        receiver, sharer = self.pair.receiver.model, self.pair.sharer.model
        stack = FuserStack.between(
            sharer.config, receiver.config, layer_alignment=self.config.layer_alignment, **self.config.fuser()
        )
        if self.config.output_init == "zero":
            for layer in stack.links:
                stack.fuser_of(layer).zero_output()
        stack.autocast = None if self.config.autocast == "none" else getattr(torch, self.config.autocast)
        stack.recompute = self.config.recompute == "fusers"
        self.processes = Processes.of_this_run()
        self.config.check_processes(self.processes.count)
        frozen: list[Any] = [receiver, sharer]
        for model in frozen:
            model.to(self.processes.device)
        fused = self.config.response == "fused"
        self.model: RosettaModel = RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=fused)
        self.reencode = self.pair.aligner(self.config.alignment).reencode if fused else None
        self.stack: FuserStack = self.prepare(stack)

    def run(self) -> tuple[FuserStack, pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The FuserStack in eval mode, with the weights that the config keeps, and one row a step: COLUMNS, of which
            `validation_loss` is there where it was evaluated (and `validation_deranged_loss`, with the Sharer's
            readings swapped, where it has any), and `padding` is the share of pads in the batch.
        """
        history = self.learn()
        return self.stack, history

    def _validate(self, progress: state.Progress) -> None:
        """With the loss where the Sharer's readings are swapped."""
        super()._validate(progress)
        if self.deranged:
            progress.history[-1]["validation_deranged_loss"] = self.loss_on(self.deranged)

    def kept(self, step: int) -> FuserStack:
        """The Fusers after one of `keep_steps`, in eval mode; a stack of their own."""
        stack = copy.deepcopy(self.stack).eval()
        stack.load_state_dict(state.kept(self.checkpoints, step, self.progress.kept[str(step)]))
        return stack

    def _step(self, step: int, indices: Sequence[int]) -> tuple[dict[str, Any], int]:
        """With the gates: the temperature of the step, and the share that is open behind it."""
        temperature = self._temperature()
        row, tokens = super()._step(step, indices)
        self.stack.anneal(step)
        return {**row, "temperature": temperature, "open_gates": self.stack.open_share()}, tokens

    def _temperature(self) -> float | None:
        temperatures = [float(buffer) for name, buffer in self.stack.named_buffers() if name.endswith("temperature")]
        return temperatures[0] if temperatures else None

    def collate(self, examples: Sequence[Example]) -> Batch:
        """One batch of this run: its pads, and zeros for the Sharer's cache where the recipe says so."""
        zeroed = self.config.sharer_cache == "zeroed"
        return collate(examples, self.pair, zeroed=zeroed, reencode=self.reencode)

    def _loss(self, batch: Batch) -> Tensor:
        return response_loss(self.model, batch, self.accelerator.device)

    @cached_property
    def deranged(self) -> list[Example]:
        """The validation set with the Sharer's readings swapped; see `swapped`."""
        return swapped(self.validation, self.config, self.processes)


def swapped(examples: Sequence[Example], config: TrainingConfig, processes: Processes) -> list[Example]:
    """Examples of which each Sharer reads another's prompt; none if it reads nothing, or responses are too few."""
    if config.sharer_cache == "zeroed":
        return []
    sizes = [len(example.prompt.receiver_ids) for example in examples]
    try:
        others = derange(sizes, [str(example.response_ids) for example in examples], config.seed)
    except RefusedError as error:
        if processes.is_first:
            print(f"no validation loss with the Sharer's readings swapped: {error}", file=sys.stderr)
        return []
    return [
        own._replace(prompt=with_reading_of(own.prompt, examples[other].prompt))
        for own, other in zip(examples, others, strict=True)
    ]
