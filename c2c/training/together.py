"""Several trainings of a pair in one process, on the same batches: the frozen models read each batch once for all.

Learners take turns after each step, with random states of their own, so that each ends with the bytes that it would
have alone. One that is behind, after a resume, catches up first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.fusion.prompt import read_sections
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.settings import AUTO
from c2c.training.batches import Batch
from c2c.training.examples import Example
from c2c.training.fusers import FuserLearner, TrainingRun
from c2c.training.launch import alone_in
from c2c.training.state import Progress
from c2c.types import KeyValue

MEMO_BYTES = 4 * 2**30
"""States of a step that are held for the other learners; what does not fit is read again by each."""
COMMON = (
    "dtype",
    "alignment",
    "prompts",
    "max_length",
    "batch_size",
    "micro_batch_size",
    "micro_batch_tokens",
    "seed_of_order",
)
"""Settings on which batches, and what models read of them, depend."""

T = TypeVar("T")


class Moment:
    """A point in time of the host, or of the GPU, which the host does not wait for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = time.perf_counter()
        self.event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record(torch.cuda.current_stream(device))

    @property
    def is_past(self) -> bool:
        """Whether the device has come so far."""
        return self.event is None or self.event.query()

    def seconds_since(self, begin: Moment) -> float:
        """Seconds from `begin`, after a wait for the device."""
        if self.event is None or begin.event is None:
            return self.seconds - begin.seconds
        self.event.synchronize()
        return begin.event.elapsed_time(self.event) / 1000


@dataclass
class FrozenPass:
    """A pass of a frozen model, and whose time it is.

    Args:
        begin: When it began.
        end: When it ended.
        users: Progress of the learners that used it, the one that made it first.
        steps: The step of each of them.
    """

    begin: Moment
    end: Moment
    users: list[Progress]
    steps: list[int] = field(default_factory=list)

    def charge(self) -> None:
        """Give each user its share of the seconds, which the first one has borne until now."""
        seconds = self.end.seconds_since(self.begin)
        self.users[0].charge(self.steps[0], -seconds, 0.0)
        for progress, step in zip(self.users, self.steps, strict=True):
            progress.charge(step, 0.0, seconds / len(self.users))


class SharedPasses:
    """Passes of the frozen models over the batches of a step, each made once until `forget` is called.

    Args:
        pair: The models; where only adapters train, the Sharer never runs.
        limit: Bytes of states that are held.
        runs: Trainings that share the passes.

    Attributes:
        user: Progress of the learner that asks; None where no training bears the time.
    """

    def __init__(self, pair: Pair, limit: int = MEMO_BYTES, runs: int = 1) -> None:
        self.model = RosettaModel([pair.receiver.model, pair.sharer.model])
        self.device: torch.device = pair.receiver.model.device
        self.limit, self.bytes, self.runs = limit, 0, runs
        self.user: Progress | None = None
        self._memo: dict[tuple[Any, ...], list[KeyValue]] = {}
        self._passes: dict[tuple[Any, ...], FrozenPass] = {}
        self._uncharged: list[FrozenPass] = []

    def forget(self) -> None:
        """Drop all states: every learner has done the step."""
        self._memo.clear()
        self.bytes = 0
        # A pass that a single learner used is that learner's own.
        for frozen_pass in self._passes.values():
            frozen_pass.steps = [progress.steps for progress in frozen_pass.users]
            if len(frozen_pass.users) > 1:
                self._uncharged.append(frozen_pass)
        self._passes.clear()
        while self._uncharged and self._uncharged[0].end.is_past:
            self._uncharged.pop(0).charge()

    def charge_all(self) -> None:
        """Share out what `forget` has left because the device had not come so far."""
        while self._uncharged:
            self._uncharged.pop(0).charge()

    def cost(self, progress: Progress) -> dict[str, Any]:
        """A run's share of the passes in seconds at its kept steps and its end, and how many runs share them."""
        return {
            "seconds": {**progress.shared_seconds_at, str(progress.steps): progress.shared_seconds},
            "runs": self.runs,
        }

    @torch.no_grad()
    def fill(self, batch: Batch, examples: Sequence[Example], device: torch.device) -> Batch:
        """The batch with the Receiver's prefix up to the first fused section, and the Sharer's cache."""
        widths = tuple(index.shape[1] for index in batch.kv_cache_index)
        prefix = self._once(
            ("receiver", widths, *_bytes(batch.input_ids, batch.attention_mask)),
            lambda: self._read_prefix(batch, device),
        )
        sharer_input = batch.sharer_input
        if not sharer_input.zeroed:
            layers = self._once(
                ("sharer", *_bytes(sharer_input.input_ids, sharer_input.attention_mask)),
                lambda: self.model.read_sharer(0, sharer_input),
            )
            sharer_input = replace(sharer_input, layers=layers)
        return replace(batch, prefix=prefix, sharer_input=sharer_input)

    def _read_prefix(self, batch: Batch, device: torch.device) -> list[KeyValue]:
        ids, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
        positions, cache = kv_cache.positions_of(mask), None
        for section in read_sections(batch.kv_cache_index, ids, 1)[:-1]:
            cache = self.model.read_receiver(ids, mask, positions, cache, section)
            if section.sharers:
                break
        assert cache is not None, "a prompt has a section before the last one"
        return kv_cache.layers_of(cache)

    def _once(self, key: tuple[Any, ...], compute_layers: Callable[[], list[KeyValue]]) -> list[KeyValue]:
        if key in self._memo:
            frozen_pass = self._passes.get(key)
            # A learner that uses a pass twice has one share of it.
            if frozen_pass and self.user is not None and not any(user is self.user for user in frozen_pass.users):
                frozen_pass.users.append(self.user)
            return self._memo[key]
        begin = Moment(self.device)
        layers = compute_layers()
        size = sum(states.numel() * states.element_size() for layer in layers for states in layer)
        if self.bytes + size <= self.limit:
            self._memo[key] = layers
            self.bytes += size
            if self.user is not None:
                self._passes[key] = FrozenPass(begin, Moment(self.device), [self.user])
        return layers


class RandomStates(NamedTuple):
    """The states of all generators that a training draws from."""

    python: Any
    numpy: Any
    cpu: Tensor
    gpus: list[Tensor]

    @classmethod
    def current(cls) -> RandomStates:
        """As they are now."""
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), gpus)

    def restore(self) -> None:
        """Set all generators to these states."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.gpus:
            torch.cuda.set_rng_state_all(self.gpus)


class Turn:
    """A learner that advances step by step, with random states of its own.

    Args:
        build: Makes the learner; its initial weights are the first draws.

    Attributes:
        done: Steps that are done; -1 before the last checkpoint is loaded.
        ended: Whether no step is left.
    """

    def __init__(self, build: Callable[[], FuserLearner]) -> None:
        self.learner = build()
        self.done, self.ended = -1, False
        self._steps: Iterator[int] = self.learner.steps()
        self._random = RandomStates.current()

    def advance(self) -> None:
        """Do the next step."""
        self._random.restore()
        try:
            self.done = next(self._steps)
        except StopIteration:
            self.ended = True
        self._random = RandomStates.current()


def learn_together(turns: Sequence[Turn], passes: SharedPasses) -> None:
    """Train all learners to the end; those with the fewest steps advance first."""
    while active := [turn for turn in turns if not turn.ended]:
        step = min(turn.done for turn in active)
        for turn in active:
            if turn.done == step:
                passes.user = turn.learner.progress
                turn.advance()
        passes.forget()
    passes.user = None
    passes.charge_all()


def train_together(runs: Sequence[TrainingRun], memo_bytes: int = MEMO_BYTES) -> list[dict[str, Any]]:
    """Train all runs to the end, or resume them; outputs are written when all have ended.

    Args:
        runs: Of one pair and set.
        memo_bytes: States that are held for the other runs.

    Returns:
        For each run what provenance states of it.

    Raises:
        RefusedError: If runs do not fit each other, an input is missing or does not fit, or one of the runs trains
            already.
    """
    check_runs(runs)
    with ExitStack() as locks:
        folders = [run.checkpoints / run.key() for run in runs]
        for folder in folders:
            locks.enter_context(alone_in(folder))
        inputs = runs[0].inputs()
        passes = SharedPasses(inputs.pair, memo_bytes, len(runs))
        inputs = inputs._replace(states=passes)
        turns = []
        for run, folder in zip(runs, folders, strict=True):
            turn = Turn(lambda run=run, folder=folder: run.learner_of(inputs, folder))  # type: ignore[misc]
            turn.learner.label = f"{run.output.parent.name}/{run.output.name} "
            turns.append(turn)
        learn_together(turns, passes)
        learners = [turn.learner for turn in turns]
        if learners[0].processes.is_first:
            # States to resume from are removed last: a process that is killed before writes all outputs again.
            for run, learner in zip(runs, learners, strict=True):
                run.write(learner, learner.history())
                passes.forget()
            for learner in learners:
                learner.forget_checkpoints()
        learners[0].processes.end()
        return [run.notes(learner, learner.history()) for run, learner in zip(runs, learners, strict=True)]


def check_runs(runs: Sequence[TrainingRun]) -> None:
    """Refuse runs that cannot share the passes of the frozen models.

    Raises:
        RefusedError: If there is none, two have one output, they differ in models, sets or settings that batches
            depend on, memory is to be measured, states are stored, or a response is fused.
    """
    if not runs:
        raise RefusedError("There must be a run to train", "none", "Name its recipe, seed and output")
    outputs = [str(run.output.resolve()) for run in runs]
    if len(set(outputs)) < len(outputs):
        rule = "Runs that train together must have outputs of their own"
        raise RefusedError(rule, outputs, "Give each its folder")
    first = runs[0]
    for run in runs:
        values = {
            "models": (run.models(), first.models()),
            "sets": (run.sets(), first.sets()),
            **{name: (getattr(run.config, name), getattr(first.config, name)) for name in COMMON},
        }
        for name, (value, first_value) in values.items():
            if value != first_value:
                name = "order_seed" if name == "seed_of_order" else name
                rule = f"Runs that train together must have the same {name}, {first_value}"
                remedy = "Set order_seed alike for all of them" if name == "order_seed" else "Train them apart"
                raise RefusedError(rule, f"{value} of {run.output}", remedy)
        if run.config.micro_batch_tokens == AUTO:
            rule = "Runs that train together must have a number of micro_batch_tokens, since they share memory"
            raise RefusedError(rule, f"{AUTO} of {run.output}", "Pass a number, or 0, or train it with c2c train")
        if run.config.response == "fused" or run.states:
            setting = "a fused response" if run.config.response == "fused" else "stored states"
            rule = "Runs that train together must share passes over the prompts, and leave the response unfused"
            raise RefusedError(rule, f"{setting} of {run.output}", "Train it with c2c train")


def _bytes(*tensors: Tensor) -> tuple[bytes, ...]:
    return tuple(tensor.numpy().tobytes() for tensor in tensors)
