"""A training loop for what is no single FuserStack: any module, one set of examples or several that take turns.

Order, optimiser, schedule, accumulation over micro-batches, clipping and exact resume are those of a Fuser's training
(`c2c.training.loop`), in one process.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from c2c.training.config import TrainingConfig
from c2c.training.examples import Example
from c2c.training.order import by_length, lengths_of, order

COLUMNS = ("step", "set", "loss", "learning_rate", "gradient_norm", "validation_loss")
STATE, PROGRESS = "state.pt", "progress.json"


class Learner(ABC):
    """Trains a module on sets of examples that take turns, a step each.

    Args:
        module: Learns in all of its parameters that require gradients.
        config: Steps, batches, rates; what concerns Fusers is for who builds `module`.
        training: Sets to learn from, by name, in the order of their turns.
        validation: A set to watch the loss on, for each of them.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.
    """

    def __init__(
        self,
        module: nn.Module,
        config: TrainingConfig,
        training: dict[str, Sequence[Example]],
        validation: dict[str, Sequence[Example]],
        checkpoints: Path,
    ) -> None:
        set_seed(config.seed)
        self.module, self.config, self.checkpoints = module, config, checkpoints
        self.training, self.validation = training, validation
        self.names = list(training)
        learned = [each for each in module.parameters() if each.requires_grad]
        rate, decay = config.learning_rate, config.weight_decay
        self.optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=decay, fused=True)
        warmup = int(config.warmup_ratio * config.steps)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup, config.steps)
        self.learned = learned
        self.history: list[dict[str, Any]] = []

    @abstractmethod
    def loss(self, name: str, examples: Sequence[Example]) -> tuple[Tensor, int]:
        """Mean loss per supervised token of some examples of a set, ``()`` in nats, and how many tokens those are."""

    def after_step(self, step: int) -> None:  # noqa: B027  (most have nothing to do)
        """Called when optimiser step `step` is done."""

    def run(self) -> pd.DataFrame:
        """Train to the end, from the last checkpoint if there is one; returns one row a step: COLUMNS."""
        self._resume()
        done, turns = len(self.history), len(self.names)
        # Of the steps that are done each set has had its turns; it goes on behind them.
        starts = {name: (done - place + turns - 1) // turns for place, name in enumerate(self.names)}
        size, seed = self.config.batch_size, self.config.seed
        orders = {name: order(lengths_of(self.training[name]), size, seed, start=starts[name]) for name in self.names}
        for step in tqdm(range(done + 1, self.config.steps + 1), initial=done, total=self.config.steps, unit="step"):
            name = self.names[(step - 1) % turns]
            self.history.append({"step": step, "set": name, **self._step(name, next(orders[name]))})
            self.after_step(step)
            if step % self.config.evaluate_every == 0 or step == self.config.steps:
                self.history[-1]["validation_loss"] = self.validate()
            if step % self.config.checkpoint_every == 0 and step < self.config.steps:
                self._save()
        self.module.eval()
        return pd.DataFrame(self.history).reindex(columns=list(COLUMNS))

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss per supervised token over all validation sets, in eval mode, in nats."""
        self.module.eval()
        total = supervised = 0.0
        for name, examples in self.validation.items():
            for rows in self._parts(range(len(examples)), examples):
                loss, tokens = self.loss(name, [examples[row] for row in rows])
                total, supervised = total + float(loss) * tokens, supervised + tokens
        return total / supervised

    def forget_checkpoints(self) -> None:
        """Remove the resumable states; call it when the results are safe."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _parts(self, indices: Sequence[int], examples: Sequence[Example]) -> list[list[int]]:
        size = self.config.micro_batch_size or self.config.batch_size
        rows = by_length(indices, lengths_of(examples), size)
        return [rows[at : at + size] for at in range(0, len(rows), size)]

    def _step(self, name: str, indices: Sequence[int]) -> dict[str, Any]:
        self.module.train()
        examples, losses = self.training[name], []
        for rows in self._parts(indices, examples):
            loss, tokens = self.loss(name, [examples[row] for row in rows])
            (loss * tokens).backward()
            losses.append((float(loss.detach()), tokens))
        supervised = sum(tokens for _, tokens in losses)
        for parameter in self.learned:
            if parameter.grad is not None:
                parameter.grad /= supervised
        norm = nn.utils.clip_grad_norm_(self.learned, self.config.max_gradient_norm)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        mean = sum(loss * tokens for loss, tokens in losses) / supervised
        return {"loss": mean, "learning_rate": rate, "gradient_norm": float(norm)}

    def _save(self) -> None:
        """Keep everything that the rest depends on; the folder gets its name only when it is complete."""
        unfinished, finished = self.checkpoints / "unfinished", self.checkpoints / f"step-{len(self.history)}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        parts = {"module": self.module, "optimizer": self.optimizer, "schedule": self.schedule}
        state = {name: part.state_dict() for name, part in parts.items()}
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        torch.save({**state, "random": torch.get_rng_state(), "random_cuda": cuda}, unfinished / STATE)
        (unfinished / PROGRESS).write_text(json.dumps(self.history), encoding="utf-8")
        shutil.rmtree(finished, ignore_errors=True)
        unfinished.rename(finished)
        for older in self.checkpoints.glob("step-*"):
            if older != finished:
                shutil.rmtree(older)

    def _resume(self) -> None:
        complete = sorted(self.checkpoints.glob(f"step-*/{PROGRESS}"), key=lambda path: int(path.parent.name[5:]))
        if not complete:
            return
        state = torch.load(complete[-1].parent / STATE, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self.history = json.loads(complete[-1].read_text(encoding="utf-8"))
