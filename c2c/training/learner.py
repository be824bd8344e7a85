"""The loop of a training: batches, optimiser, schedule, validation, checkpoints and exact resume.

Subclasses say which module learns and from which loss: the fusers of a pair (`c2c.training.fusers`), a latent space
(`c2c.training.latent`) or the Receiver itself (`c2c.training.single`). See ``docs/reference-behaviour.md``, "Training".
"""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import get_linear_schedule_with_warmup

from c2c.errors import RefusedError
from c2c.fuser.grouped import learnable_parameters, spare_other_rows
from c2c.fuser.stack import FuserStack
from c2c.models.memory_meter import MEMORY_SHARE, MemoryMeter, is_out_of_memory, most_rows
from c2c.settings import AUTO
from c2c.training import state
from c2c.training.batch_order import Lengths, batch_order, by_length, lengths_of
from c2c.training.batches import Batch
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example
from c2c.training.prefetch import Prefetch
from c2c.training.processes import Processes
from c2c.training.progress_bar import ProgressBar
from c2c.training.utilisation import peak_flops

Module = TypeVar("Module", bound=nn.Module)


class Learner(ABC):
    """One training, or the part of it that one of several processes does.

    A subclass sets `config`, `training`, `validation` and `checkpoints` (see `c2c.training.fusers.FuserLearner`),
    `processes` and `model`; then it calls `prepare`.
    """

    columns: ClassVar[Sequence[str]]
    """Of the history."""
    label: str = ""
    """What messages begin with, where several learners train in one process."""

    config: TrainingConfig
    training: Sequence[Example]
    validation: Sequence[Example]
    checkpoints: Path
    processes: Processes
    model: Any
    """What runs: a module that is set to training and to evaluation."""
    meter: MemoryMeter | None = None
    """Measures memory where `micro_batch_tokens` is ``auto``; that of this process's device if None."""
    prefetch: Prefetch | None = None
    """Collates ahead, where `prefetches` says so."""
    left_out: Mapping[str, Mapping[str, int]]
    """Lines of the training and validation set that were left out, by reason; not every run counts them."""

    def prepare(self, module: Module) -> Module:
        """Make optimiser and schedule of the module that learns, and put it where this process computes."""
        self.accelerator = self.processes.accelerator
        self.progress = state.Progress()
        self.lengths = lengths_of(self.training)
        # As if for evaluation: not wrapped, since `Processes` exchanges the gradients.
        prepared: Module = self.accelerator.prepare_model(module, evaluation_mode=True)
        self.module: nn.Module = prepared
        state.keep_rows_apart(self.accelerator)
        # On its device a module may lay its parameters together, before an optimiser holds them.
        for part in module.modules():
            if isinstance(part, FuserStack):
                part.grouping, part.fusers.compiles = self.config.grouping, self.config.compile == "fusers"
                part.train_grouped()
        self.parameters = learnable_parameters(module)
        rate, decay = self.config.learning_rate, self.config.weight_decay
        # Weight decay on all parameters, norms and biases included, as the reference has it.
        optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=decay, fused=True)
        spare_other_rows(optimizer, module)
        warmup = int(self.config.warmup_ratio * self.config.steps)
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, self.config.steps)
        self.optimizer, self.schedule = self.accelerator.prepare(optimizer, schedule)
        # Raised to 1 at the first step that is not finite, from which on the optimiser changes nothing.
        self.failed = torch.zeros((), device=self.processes.device)
        # After the weights are drawn, which must be the same in all processes.
        self.processes.seed_noise(self.config.seed)
        return prepared

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Batch:
        """One batch of this run."""

    @abstractmethod
    def _loss(self, batch: Batch) -> Tensor:
        """Mean loss per supervised token, ``()`` in nats."""

    def learn(self) -> pd.DataFrame:
        """Train to the end, from the last checkpoint if there is one; the module then has the weights that are kept.

        Returns:
            One row a step: `columns`.

        Raises:
            RefusedError: As `steps`.
        """
        for _ in self.steps():
            pass
        return self.history()

    def history(self) -> pd.DataFrame:
        """One row a step that is done: `columns`."""
        return pd.DataFrame(self.progress.history).reindex(columns=list(self.columns))

    def steps(self) -> Iterator[int]:
        """Train step by step, so that several learners can take turns (`c2c.training.together`).

        Yields:
            How many steps are done: those of the last checkpoint first, then after each further one.

        Raises:
            RefusedError: At the step at which a loss or the gradients are not finite, and if what was saved is of
                another number of processes, or of a newer version of this package, or the longest example does not fit
                into memory.
        """
        self.progress = progress = state.resume(self.processes, self.checkpoints)
        if progress.steps and self.processes.is_first:
            print(f"{self.label}resumes: {progress.steps} of {self.config.steps} steps are done", file=sys.stderr)
        if self.config.micro_batch_tokens == AUTO and not progress.micro_batch_tokens:
            progress.micro_batch_tokens = self._measure_budget()
            # At once, so that no start of this training measures another budget.
            state.save(self.processes, self.checkpoints, progress)
        yield progress.steps
        config, start = self.config, time.perf_counter()
        batches = self._batches(progress.steps)
        if self.prefetches:
            batches = self.prefetch = Prefetch(batches, self._collate_parts)
        show, device = self.processes.is_first, self.processes.device
        intervals = (config.log_every, config.evaluate_every, config.checkpoint_every)
        peak = (peak_flops(self.processes.device, config.dtype) or 0.0) * self.processes.count
        # Tokens of the steps whose rows are still on the device, and when each step ended
        unread_steps: list[tuple[int, float]] = []
        with ProgressBar(config.steps, progress.steps, show, device, self.label) as bar:
            for step in range(progress.steps + 1, config.steps + 1):
                # Learn from one batch.
                indices = next(batches)
                if peak and bar.token_share is None:
                    bar.token_share = self._flops_of_token(indices) / peak
                row, tokens = self._step(step, indices)
                progress.history.append({"step": step, **row})
                progress.trained.append(indices)
                unread_steps.append((tokens, time.perf_counter()))
                # Read losses and norms from the device, all at once, before anything depends on them.
                if step == config.steps or any(step % every == 0 for every in intervals) or step in config.keep_steps:
                    rows = progress.history[-len(unread_steps) :]
                    self._read_rows(rows)
                    for row, (tokens, clock) in zip(rows, unread_steps, strict=True):
                        bar.advance(row, tokens, clock)
                    unread_steps.clear()
                # Validate, keep the weights of the step, and save a state to resume from.
                if step % config.evaluate_every == 0 or step == config.steps:
                    self._validate(progress)
                    bar.validated(progress.history[-1])
                progress.seconds += time.perf_counter() - start
                start = time.perf_counter()
                if step in config.keep_steps:
                    self._keep(step)
                if step % config.checkpoint_every == 0 and step < config.steps:
                    state.save(self.processes, self.checkpoints, progress)
                # The time of others' turns does not count.
                progress.seconds += time.perf_counter() - start
                yield step
                start = time.perf_counter()
        if self.prefetch:
            self.prefetch.close()
        self.module.eval()
        if progress.best:
            self.module.load_state_dict(progress.best)

    def example_ids(self) -> pd.DataFrame:
        """The ids of the examples of each step that was trained: columns step and ids."""
        ids = [[self.training[index].id for index in batch] for batch in self.progress.trained]
        return pd.DataFrame({"step": range(1, len(ids) + 1), "ids": ids})

    def forget_checkpoints(self) -> None:
        """Remove the resumable states; call it when the results are safe."""
        state.forget(self.checkpoints)

    @torch.no_grad()
    def loss_on(self, examples: Sequence[Example]) -> float:
        """Mean loss per supervised token in evaluation mode (hard gates, no dropout), in nats."""
        self.model.eval()
        token_count, losses = 0, torch.zeros((), dtype=torch.float64, device=self.processes.device)
        # A mean over tokens, so that it does not depend on how examples are batched.
        for part in self._parts(examples, range(len(examples))):
            batch = self.collate([examples[index] for index in part])
            losses += self._loss(batch).double() * batch.supervised
            token_count += batch.supervised
        # The only wait for the device
        total, count = self.processes.sum(float(losses), token_count)
        return total / count

    def _batches(self, start: int) -> Iterator[list[int]]:
        """The examples of each step behind `start`."""
        return batch_order(self.lengths, self.config.batch_size, self.config.seed_of_order, start=start)

    def _validate(self, progress: state.Progress) -> None:
        """Add the validation loss to the last row, and keep the weights if `keep` is ``best`` and they are."""
        losses = [row["validation_loss"] for row in progress.history if "validation_loss" in row]
        row = progress.history[-1]
        # The earlier losses were read before, so that a step is not compared with itself.
        row["validation_loss"] = self.loss_on(self.validation)
        self._check_finite("The validation loss", row["validation_loss"], row["step"])
        if self.config.keep == "best" and row["validation_loss"] < min(losses, default=math.inf):
            progress.best_step = row["step"]
            # A copy: the weights learn on in place.
            progress.best = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def _keep(self, step: int) -> None:
        # Keys are texts, as JSON has them when a run resumes.
        self.progress.seconds_at[str(step)] = self.progress.seconds
        self.progress.shared_seconds_at[str(step)] = self.progress.shared_seconds
        with self.processes.together():
            if self.processes.is_first:
                self.progress.kept[str(step)] = state.save_weights(self.checkpoints, step, self.module.state_dict())

    def _check_finite(self, quantity: str, value: float, step: int) -> None:
        """Stop a training that can no longer learn, before the step spoils the weights; all processes see one value.

        Raises:
            RefusedError: If `value` is not finite.
        """
        if math.isfinite(value):
            return
        # The same command would reach the same step, so saved states only serve to examine it.
        steps = state.steps_of(self.checkpoints)
        there = f"step {steps[-1]} in {self.checkpoints}" if steps else "no step, since none was saved yet"
        raise RefusedError(
            f"{quantity} must be a finite number at every step",
            f"{value} at {self.label}step {step} of {self.config.steps}",
            f"The training has stopped; saved is {there}. Lower learning_rate ({self.config.learning_rate}) or raise "
            f"warmup_ratio; where dtype is float16, choose bfloat16 or float32. The training then begins anew",
        )

    def _read_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace what is still on the device in rows of the history by numbers, and stop at one that is not finite.

        Raises:
            RefusedError: At the first step whose loss or gradients are not finite.
        """
        cells = [(row, name) for row in rows for name, value in row.items() if isinstance(value, Tensor)]
        if not cells:
            return
        # One transfer for all of them
        numbers = torch.stack([row[name].double() for row, name in cells]).tolist()
        for (row, name), number in zip(cells, numbers, strict=True):
            row[name] = number
        for row in rows:
            self._check_finite("The loss", row["loss"], row["step"])
            self._check_finite("The norm of the gradients", row["gradient_norm"], row["step"])

    def _step(self, step: int, indices: Sequence[int]) -> tuple[dict[str, Any], int]:
        """Learn from one batch, without a wait for the device.

        Returns:
            What its row of the history holds, losses and norms as tensors ``()`` on the device, and the tokens that the
            Receivers read.
        """
        self.model.train()
        # The part of the batch that this process runs; the mean is over the tokens of all processes.
        parts, losses = self._learn_parts(indices)
        tokens, columns = self.processes.sum(
            sum(part.tokens for part in parts), sum(part.input_ids.numel() for part in parts)
        )
        mean = self.processes.sum_on_device(losses)
        # Gradients of all processes, clipped together; then one step of the optimiser.
        self.processes.sum_gradients(self.parameters)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_gradient_norm)
        rate = self.schedule.get_last_lr()[0]
        # What is not finite stops the training when it is read; until then the weights stay as they were before it.
        finite = torch.isfinite(mean) & torch.isfinite(norm)
        self.failed = torch.maximum(self.failed, (~finite).float())
        self.optimizer.optimizer.found_inf = self.failed
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        row = {
            "loss": mean,
            "learning_rate": rate,
            "gradient_norm": norm.detach(),
            "padding": 1 - tokens / columns,
        }
        return row, int(tokens)

    def _learn_parts(self, indices: Sequence[int]) -> tuple[list[Batch], Tensor]:
        """The gradients of a batch, micro-batch by micro-batch, in smaller ones where memory does not suffice.

        Returns:
            The micro-batches of this process, and the sum of their shares of the loss, ``()`` in float64.
        """
        while True:
            noise = self._noise_state()
            ahead = self.prefetch.take() if self.prefetch else None
            parts = self._collate_parts(indices) if ahead is None else ahead
            (supervised,) = self.processes.sum(sum(part.supervised for part in parts))
            losses = torch.zeros((), dtype=torch.float64, device=self.processes.device)
            error: Exception | None = None
            try:
                # Each micro-batch adds its share of the gradients.
                for part in parts:
                    loss = self._loss(part) * (part.supervised / supervised)
                    self.accelerator.backward(loss)
                    losses += loss.detach().double()
            except (torch.OutOfMemoryError, RuntimeError) as failure:
                if not is_out_of_memory(failure):
                    raise
                error = failure
            # All processes cut alike, so all repeat the step if one lacks memory.
            if not self.token_budget or not self.processes.sum(float(error is not None))[0]:
                if error is not None:
                    raise error
                return parts, losses
            self._halve_budget(error)
            # With the error, whose frames hold activations
            del parts, losses, error
            self.optimizer.zero_grad()
            self._set_noise_state(noise)
            if self.processes.device.type == "cuda":
                torch.cuda.empty_cache()

    def _collate_parts(self, indices: Sequence[int]) -> list[Batch]:
        """The micro-batches of a step that this process runs."""
        parts = [self.collate([self.training[index] for index in part]) for part in self._parts(self.training, indices)]
        # From pinned memory a batch is moved while the device computes.
        return [part.pinned() for part in parts] if self.processes.device.type == "cuda" else parts

    @property
    def prefetches(self) -> bool:
        """Whether the next batch is collated in a thread; a CPU has no time to spare for it."""
        return self.processes.device.type == "cuda"

    def _flops_of_token(self, indices: Sequence[int]) -> float:
        """Operations for one token of the Receiver, forward and backward, counted in a pass that teaches nothing.

        Counting changes the last bits of what is counted, so that no step of the training itself can be.
        """
        noise = self._noise_state()
        # One example, which fits where micro-batches of a budget may not, and which every process has.
        batch = self.collate([self.training[indices[0]]])
        with FlopCounterMode(display=False) as counter:
            self.model.train()
            self.accelerator.backward(self._loss(batch))
        self.optimizer.zero_grad()
        self._set_noise_state(noise)
        return counter.get_total_flops() / batch.tokens

    @property
    def token_budget(self) -> int:
        """Receiver tokens that are run at once, pads included; 0 for no limit, and before memory is measured."""
        setting = self.config.micro_batch_tokens
        return self.progress.micro_batch_tokens or (setting if isinstance(setting, int) else 0)

    def _measure_budget(self) -> int:
        """The most tokens that fit, by forward and backward passes that teach nothing, the same in all processes.

        Raises:
            RefusedError: If memory cannot be measured on this device, or does not suffice for one example.
        """
        pools, noise = self._pools(), self._noise_state()
        size = self._most_rows(math.ceil(self.config.batch_size / len(pools)))
        self.model.train()
        with self.processes.together():
            meter = self.meter or MemoryMeter(self.processes.device)
            free = meter.free()
            # Beside a micro-batch a device holds the gradients of those before it, and from the first step on AdamW's
            # two moments of each parameter.
            parameter_bytes = sum(parameter.numel() * parameter.element_size() for parameter in self.parameters)
            for parameter in self.parameters:
                # Filled, since zeros take no memory before they are written.
                parameter.grad = torch.full_like(parameter, 0)
            # Long examples need the most memory; those with long responses have the logits of more tokens.
            orders = {
                tuple(sorted(pool, key=lambda row: key(*self.lengths[row]), reverse=True)[:size])
                for pool in pools
                for key in (lambda prompt, response: prompt + response, lambda prompt, response: (response, prompt))
            }
            budgets = [
                self._tokens_that_fit(meter, rows, size, MEMORY_SHARE * free - 3 * parameter_bytes) for rows in orders
            ]
        self.optimizer.zero_grad()
        self._set_noise_state(noise)
        # No micro-batch has more tokens than this, so that a budget beyond it limits nothing.
        bound = size * sum(max(lengths[part] for lengths in self.lengths) for part in (0, 1))
        budget = int(self.processes.least(min(*budgets, bound)))
        if self.processes.is_first:
            free_gb = f"{free / 1e9:.1f} GB are free"
            print(f"{self.label}micro_batch_tokens: {budget} tokens are run at once ({free_gb})", file=sys.stderr)
        return budget

    def _tokens_that_fit(self, meter: MemoryMeter, rows: Sequence[int], most: int, allowance: float) -> float:
        """The largest micro-batch of the first of some examples that fits, in tokens; infinite if all of `most` fit.

        Raises:
            RefusedError: If memory does not suffice for the first of them.
        """

        def peak_of(count: int) -> int | None:
            # A batch across two epochs may have an example twice.
            examples = [self.training[row] for row in islice(cycle(rows), count)]
            peak = meter.peak_of(lambda: self.accelerator.backward(self._loss(self.collate(examples))))
            if peak is None and count == 1:
                length = sum(self.lengths[rows[0]])
                remedy = "Set recompute to fusers, autocast to bfloat16, or a smaller max_length"
                raise RefusedError("Memory must suffice for the longest example", f"{length} tokens", remedy)
            return peak

        count = most_rows(peak_of, allowance, most)
        if count == most:
            return math.inf
        # One example is run whatever it takes.
        longest = [self.lengths[row] for row in islice(cycle(rows), max(count, 1))]
        return len(longest) * sum(max(lengths[part] for lengths in longest) for part in (0, 1))

    def _pools(self) -> Sequence[range]:
        """Numbers of the training examples, those together that may be run together."""
        return [range(len(self.training))]

    def _halve_budget(self, error: Exception | None) -> None:
        """Run half as many tokens at once from now on.

        Raises:
            torch.OutOfMemoryError: If a micro-batch is a single example already.
        """
        budget = self.token_budget
        if budget < 2:
            raise error or torch.OutOfMemoryError("another process lacks memory for a single example")
        self.progress.micro_batch_tokens = budget // 2
        if self.prefetch:
            self.prefetch.forget()
        if self.processes.is_first:
            shortage = f"memory does not suffice for {budget} tokens at once: {budget // 2} from now on"
            print(f"{self.label}{shortage}", file=sys.stderr)

    def _noise_state(self) -> list[Tensor]:
        """State of the random generators that dropout and gates draw from."""
        device = self.processes.device
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]

    def _set_noise_state(self, states: Sequence[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.processes.device)

    def _parts(self, examples: Sequence[Example], indices: Sequence[int]) -> Sequence[list[int]]:
        """Which of some examples, those with these numbers, this process runs together; perhaps none."""
        lengths = self.lengths if examples is self.training else lengths_of(examples)
        return self.processes.share(self._cut(indices, lengths))

    def _cut(self, indices: Sequence[int], lengths: Lengths) -> list[list[int]]:
        """Examples that are run together; those that are alike are, and have fewer pads than in the file's order."""
        size = self._most_rows(len(indices))
        return self._within_limits(by_length(indices, lengths, size), lengths, size)

    def _most_rows(self, count: int) -> int:
        """Most examples that are run together, of some that all processes share."""
        # No micro-batch is larger than an equal share, so that every process gets one where the numbers divide.
        return min(self.config.micro_batch_size or self.config.batch_size, math.ceil(count / self.processes.count))

    def _within_limits(self, rows: Sequence[int], lengths: Lengths, size: int) -> list[list[int]]:
        parts = [list(rows[at : at + size]) for at in range(0, len(rows), size)]
        budget = self.token_budget
        return [piece for part in parts for piece in within_budget(part, lengths, budget)] if budget else parts

    def parts_in_order(self, examples: Sequence[Example]) -> list[list[int]]:
        """Numbers of some examples in their order, in parts that this process runs at once."""
        size = self.config.micro_batch_size or self.config.batch_size
        return self._within_limits(range(len(examples)), lengths_of(examples), size)


def within_budget(rows: Sequence[int], lengths: Lengths, budget: int) -> list[list[int]]:
    """Neighbours whose padded prompts and responses have at most `budget` Receiver tokens together.

    Args:
        rows: Numbers of examples, those of similar length next to each other.
        lengths: Of all examples.
        budget: Columns times rows; a longer example is run alone.
    """
    parts: list[list[int]] = [[]]
    for row in rows:
        # Prompts and responses are padded apart.
        columns = sum(max(lengths[number][part] for number in [*parts[-1], row]) for part in (0, 1))
        if parts[-1] and columns * (len(parts[-1]) + 1) > budget:
            parts.append([])
        parts[-1].append(row)
    return parts
