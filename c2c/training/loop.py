"""Train a FuserStack: only the Fusers learn, from the Receiver's loss on the response (paper §3.3; spec §5.4)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from c2c.fuser.stack import FuserStack
from c2c.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.data import Batch, Example, collate, order


@dataclass
class Trainer:
    """One training run between two frozen models.

    Args:
        pair: The Receiver and the Sharer.
        config: All settings.
        training: Examples to learn from.
        validation: Examples to watch the loss on; nothing is chosen on any others.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.
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
        self.accelerator = Accelerator()
        for model in (receiver, sharer):
            model.to(self.accelerator.device)
        fused = self.config.response == "fused"
        self.model = RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=fused)
        self.reencode = self.pair.aligner(self.config.alignment).reencode if fused else None
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimizer = torch.optim.AdamW(stack.parameters(), lr=rate, weight_decay=decay, fused=True)
        warmup = int(self.config.warmup_ratio * self.config.steps)
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, self.config.steps)
        self.stack, self.optimizer, self.schedule = self.accelerator.prepare(stack, optimizer, schedule)

    def run(self) -> tuple[FuserStack, pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The FuserStack in eval mode, and one row a step: step, loss, learning_rate, temperature, gradient_norm,
            validation_loss (where evaluated), open_gates.
        """
        done, history = state.resume(self.accelerator, self.checkpoints)
        batches = order(len(self.training), self.config.batch_size, self.config.seed, start=done)
        bar = tqdm(total=self.config.steps, initial=done, desc="train fuser", unit="step", mininterval=1.0)
        for step in range(done + 1, self.config.steps + 1):
            history.append({"step": step, **self._step(step, next(batches))})
            if step % self.config.evaluate_every == 0 or step == self.config.steps:
                history[-1]["validation_loss"] = self.validation_loss()
            if step % self.config.checkpoint_every == 0 and step < self.config.steps:
                state.save(self.accelerator, self.checkpoints, step, history)
            bar.update()
            bar.set_postfix(loss=f"{history[-1]['loss']:.3f}", refresh=False)
        bar.close()
        stack = self.accelerator.unwrap_model(self.stack).eval()
        return stack, pd.DataFrame(history).reindex(columns=list(COLUMNS))

    def forget_checkpoints(self) -> None:
        """Remove the resumable states; call it when the results are safe."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _step(self, step: int, indices: Sequence[int]) -> dict[str, Any]:
        self.model.train()
        temperature = self._temperature()
        size = self.config.micro_batch_size or len(indices)
        parts = [
            self.collate([self.training[i] for i in indices[at : at + size]]) for at in range(0, len(indices), size)
        ]
        supervised = sum(part.supervised for part in parts)
        total = 0.0
        for part in parts:
            loss = self._loss(part) * (part.supervised / supervised)
            self.accelerator.backward(loss)
            total += float(loss.detach())
        norm = self.accelerator.clip_grad_norm_(self.stack.parameters(), self.config.max_gradient_norm)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        stack = self.accelerator.unwrap_model(self.stack)
        stack.anneal(step)
        return {
            "loss": total,
            "learning_rate": rate,
            "temperature": temperature,
            "gradient_norm": float(norm),
            "open_gates": stack.open_share(),
        }

    def _temperature(self) -> float | None:
        temperatures = [float(buffer) for name, buffer in self.stack.named_buffers() if name.endswith("temperature")]
        return temperatures[0] if temperatures else None

    def collate(self, examples: Sequence[Example]) -> Batch:
        """One batch of this run: its pads, and zeros for the Sharer's cache where the recipe says so."""
        zeroed = self.config.sharer_cache == "zeroed"
        return collate(examples, self.pair, zeroed=zeroed, reencode=self.reencode)

    def _loss(self, batch: Batch) -> Tensor:
        device = self.accelerator.device
        output = self.model(
            batch.kv_cache_index,
            batch.input_ids.to(device),
            batch.attention_mask.to(device),
            labels=batch.labels.to(device),
            sharer_inputs=[batch.sharer_input.to(device)],
        )
        return output.loss

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss per supervised token with hard gates and no dropout, in nats."""
        self.model.eval()
        size = self.config.micro_batch_size or self.config.batch_size
        batches = [self.collate(self.validation[at : at + size]) for at in range(0, len(self.validation), size)]
        losses = [float(self._loss(batch)) * batch.supervised for batch in batches]
        return sum(losses) / sum(batch.supervised for batch in batches)


COLUMNS = ("step", "loss", "learning_rate", "temperature", "gradient_norm", "validation_loss", "open_gates")
