"""Several processes that train one FuserStack: each learns from rows of its own, and their gradients are summed.

Models and Fusers are whole in each process. No module is wrapped: the frozen models have nothing to exchange, and the
Fusers' gradients are summed once a step, after the last micro-batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, broadcast_object_list, gather_object, set_seed
from torch import Tensor, distributed, nn

from c2c.errors import RefusedError, system_error

BUCKET = 2**25
"""Numbers that are summed in one exchange: 128 MiB in float32."""

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a training run, as one of them sees them.

    Args:
        accelerator: Gives the device of this process.
    """

    accelerator: Accelerator

    @classmethod
    def of_this_run(cls) -> Processes:
        """Join the others that a launcher has started (gloo between CPUs, NCCL between GPUs), or be alone."""
        on_cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
        # Batches are split here, so that the schedule takes one step for all processes, not one for each.
        split = DataLoaderConfiguration(split_batches=True)
        return cls(Accelerator(cpu=on_cpu, mixed_precision="no", dataloader_config=split))

    @property
    def count(self) -> int:
        """How many there are."""
        return self.accelerator.num_processes

    @property
    def rank(self) -> int:
        """The number of this one, from 0."""
        return self.accelerator.process_index

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where the models of this process are."""
        return self.accelerator.device

    def seed_noise(self, seed: int) -> None:
        """Let each process draw dropout and gate noise of its own; the first draws as if it were alone."""
        if self.rank:
            set_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """The parts that this process does: every one in `count`, since neighbours are of similar length."""
        return parts[self.rank :: self.count]

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all processes, in float64."""
        if self.count == 1:
            return list(values)
        return self._total(torch.tensor(values, dtype=torch.float64)).tolist()

    def least(self, value: float) -> float:
        """The smallest of all processes' values."""
        if self.count == 1:
            return value
        smallest = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(smallest, distributed.ReduceOp.MIN)
        return float(smallest)

    def sum_on_device(self, value: Tensor) -> Tensor:
        """A number on the device ``()``, summed over all processes, without a wait for it."""
        return value if self.count == 1 else self._total(value.clone())

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give each parameter the sum of all processes' gradients, in place.

        A parameter for which no process has a gradient stays without one, as in a process that is alone.
        """
        if self.count == 1:
            return
        # Processes must exchange the same parameters: those for which any of them has a gradient.
        counts = self._total(torch.tensor([float(parameter.grad is not None) for parameter in parameters])).tolist()
        shared_parameters = [parameter for parameter, number in zip(parameters, counts, strict=True) if number]
        for bucket in _buckets(shared_parameters):
            gradients = [torch.zeros_like(item) if item.grad is None else item.grad for item in bucket]
            # One exchange a bucket: (numbers in all gradients,)
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(flat)
            sizes = [parameter.numel() for parameter in bucket]
            for parameter, gradient_sum in zip(bucket, flat.split(sizes), strict=True):
                parameter.grad = gradient_sum.view_as(parameter).clone()

    def agree(self, text: str) -> str:
        """The text of the first process, in all of them."""
        texts = [text]
        broadcast_object_list(texts)
        return texts[0]

    def wait(self) -> None:
        """Return when all processes have called this."""
        self.accelerator.wait_for_everyone()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block when all processes have done it; all raise what one refuses, or the system refuses one.

        Otherwise the others would wait for it, or end with an error of the connection, which says nothing.

        Raises:
            RefusedError: If a process refuses.
            OSError: If the system refuses a process.
        """
        error: Exception | None = None
        try:
            yield
        except RefusedError as refusal:
            error = refusal
        except Exception as exception:
            error = system_error(exception)
            if error is None:
                raise
            error.__cause__ = exception if error is not exception else None
        # The first of them is enough: this process's own, else one of another process.
        for failure in self._errors(error):
            raise failure

    def _errors(self, error: Exception | None) -> list[Exception]:
        """Those of all processes, this one's own first."""
        local = [error] if error else []
        if self.count == 1:
            return local
        words: tuple[object, ...] = ()
        if isinstance(error, RefusedError):
            words = (error.rule, str(error.received), error.remedy)
        elif isinstance(error, OSError):
            words = (error.errno, error.strerror, error.filename)
        # Words instead of errors: not every error can be pickled. Refusals of a subclass are refusals, too.
        failures = gather_object([(isinstance(error, RefusedError), words)])
        refusals = [RefusedError(*parts) for is_refusal, parts in failures if is_refusal]
        system_errors = [OSError(*parts) for is_refusal, parts in failures if parts and not is_refusal]
        return [*local, *refusals, *system_errors]

    def end(self) -> None:
        """Leave the others; nothing can be exchanged afterwards."""
        if self.count > 1:
            self.wait()
            distributed.destroy_process_group()

    def _total(self, values: Tensor) -> Tensor:
        values = values.to(self.device)
        distributed.all_reduce(values)
        return values


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Neighbours of at most `BUCKET` numbers together, or one that is larger."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(item.numel() for item in [*bucket, parameter]) > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
