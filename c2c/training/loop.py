"""Train a FuserStack: only the Fusers learn, from the Receiver's loss on the response (paper §3.3; spec §5.4)."""

from __future__ import annotations

import copy
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from c2c.controls import derange, with_reading_of
from c2c.errors import RefusedError
from c2c.fuser.stack import FuserStack
from c2c.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.data import Batch, collate
from c2c.training.examples import Example
from c2c.training.loss import response_loss
from c2c.training.order import Lengths, by_length, lengths_of, order
from c2c.training.processes import Processes
from c2c.training.progress_bar import ProgressBar


@dataclass
class Trainer:
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
        self.processes.check_batch(self.config.batch_size)
        self.accelerator = self.processes.accelerator
        for model in (receiver, sharer):
            model.to(self.accelerator.device)
        fused = self.config.response == "fused"
        self.model = RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=fused)
        self.reencode = self.pair.aligner(self.config.alignment).reencode if fused else None
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimizer = torch.optim.AdamW(stack.parameters(), lr=rate, weight_decay=decay, fused=True)
        warmup = int(self.config.warmup_ratio * self.config.steps)
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, self.config.steps)
        self.progress = state.Progress()
        self.lengths = lengths_of(self.training)
        # As if for evaluation: not wrapped, since `Processes` exchanges the gradients.
        self.stack: FuserStack = self.accelerator.prepare_model(stack, evaluation_mode=True)
        self.optimizer, self.schedule = self.accelerator.prepare(optimizer, schedule)
        self.processes.seed_noise(self.config.seed)

    def run(self) -> tuple[FuserStack, pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The FuserStack in eval mode, with the weights that the config keeps, and one row a step: COLUMNS, of which
            `validation_loss` is there where it was evaluated (and `validation_deranged_loss`, with the Sharer's
            readings swapped, where it has any), and `padding` is the share of pads in the batch.
        """
        self.progress = progress = state.resume(self.processes, self.checkpoints)
        config, begun = self.config, time.perf_counter() - self.progress.seconds
        batches = order(self.lengths, config.batch_size, config.seed, start=progress.steps)
        with ProgressBar(config.steps, progress.steps, self.processes.is_first, self.processes.device) as bar:
            for step in range(progress.steps + 1, config.steps + 1):
                indices = next(batches)
                row, tokens = self._step(step, indices)
                progress.history.append({"step": step, **row})
                progress.trained.append(indices)
                if step % config.evaluate_every == 0 or step == config.steps:
                    self._validate(progress)
                    bar.validated(progress.history[-1])
                progress.seconds = time.perf_counter() - begun
                if step in config.keep_steps:
                    self._keep(step)
                if step % config.checkpoint_every == 0 and step < config.steps:
                    state.save(self.processes, self.checkpoints, progress)
                bar.advance(progress.history[-1], tokens)
        stack = self.stack.eval()
        if progress.best:
            stack.load_state_dict(progress.best)
        return stack, pd.DataFrame(progress.history).reindex(columns=list(COLUMNS))

    def trained(self) -> pd.DataFrame:
        """The ids of the examples of each step that was trained: columns step and ids."""
        ids = [[self.training[index].id for index in batch] for batch in self.progress.trained]
        return pd.DataFrame({"step": range(1, len(ids) + 1), "ids": ids})

    def _validate(self, progress: state.Progress) -> None:
        """Note the validation losses of the last step, and keep its weights if they are the best and are asked for."""
        losses = [row["validation_loss"] for row in progress.history if "validation_loss" in row]
        row = progress.history[-1]
        row["validation_loss"] = self.loss_on(self.validation)
        if self.deranged:
            row["validation_deranged_loss"] = self.loss_on(self.deranged)
        if self.config.keep == "best" and row["validation_loss"] < min(losses, default=math.inf):
            progress.best_step = row["step"]
            progress.best = {name: tensor.detach().clone() for name, tensor in self.stack.state_dict().items()}

    def _keep(self, step: int) -> None:
        self.progress.seconds_at[str(step)] = self.progress.seconds
        if self.processes.is_first:
            state.keep(self.checkpoints, step, self.stack.state_dict())

    def kept(self, step: int) -> FuserStack:
        """The Fusers after one of `keep_steps`, in eval mode; a stack of their own."""
        stack = copy.deepcopy(self.stack).eval()
        stack.load_state_dict(state.kept(self.checkpoints, step))
        return stack

    def forget_checkpoints(self) -> None:
        """Remove the resumable states; call it when the results are safe."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _step(self, step: int, indices: Sequence[int]) -> tuple[dict[str, Any], int]:
        """Learn from one batch; what its row of the history holds, and the tokens that the Receiver read."""
        self.model.train()
        temperature = self._temperature()
        own = [self.collate([self.training[index] for index in part]) for part in self._parts(indices, self.lengths)]
        supervised, tokens, columns = self.processes.sum(
            sum(part.supervised for part in own),
            sum(part.tokens for part in own),
            sum(part.input_ids.numel() for part in own),
        )
        total = 0.0
        for part in own:
            loss = self._loss(part) * (part.supervised / supervised)
            self.accelerator.backward(loss)
            total += float(loss.detach())
        self.processes.sum_gradients(list(self.stack.parameters()))
        norm = self.accelerator.clip_grad_norm_(self.stack.parameters(), self.config.max_gradient_norm)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.stack.anneal(step)
        row = {
            "loss": self.processes.sum(total)[0],
            "learning_rate": rate,
            "temperature": temperature,
            "gradient_norm": float(norm),
            "open_gates": self.stack.open_share(),
            "padding": 1 - tokens / columns,
        }
        return row, int(tokens)

    def _parts(self, indices: Sequence[int], lengths: Lengths) -> Sequence[list[int]]:
        """Which of some examples this process runs together; perhaps none.

        Those that are alike lie together: they have fewer pads than in the order of the file.
        """
        most = math.ceil(len(indices) / self.processes.count)
        size = min(self.config.micro_batch_size or self.config.batch_size, most)
        rows = by_length(indices, lengths, size)
        return self.processes.share([rows[at : at + size] for at in range(0, len(rows), size)])

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
        """The validation set with the Sharer's readings swapped; empty where it has none, or too few responses."""
        if self.config.sharer_cache == "zeroed":
            return []
        sizes = [len(example.prompt.receiver_ids) for example in self.validation]
        golds = [str(example.response_ids) for example in self.validation]
        try:
            others = derange(sizes, golds, self.config.seed)
        except RefusedError as error:
            if self.processes.is_first:
                print(f"no validation loss with the Sharer's readings swapped: {error}", file=sys.stderr)
            return []
        return [
            own._replace(prompt=with_reading_of(own.prompt, self.validation[other].prompt))
            for own, other in zip(self.validation, others, strict=True)
        ]

    @torch.no_grad()
    def loss_on(self, examples: Sequence[Example]) -> float:
        """Mean loss per supervised token with hard gates and no dropout, in nats."""
        self.model.eval()
        total = supervised = 0.0
        for part in self._parts(range(len(examples)), lengths_of(examples)):
            batch = self.collate([examples[index] for index in part])
            total += float(self._loss(batch)) * batch.supervised
            supervised += batch.supervised
        total, supervised = self.processes.sum(total, supervised)
        return total / supervised


COLUMNS = (
    "step", "loss", "learning_rate", "temperature", "gradient_norm", "validation_loss", "validation_deranged_loss",
    "open_gates", "padding",
)  # fmt: skip
