"""Encoders and decoders of a shared latent space, trained together on all of its ordered pairs (paper, Table 14).

Each step has examples of every pair, so that what a model's encoder or decoder becomes is right for all of its pairs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError
from c2c.fuser.latent import LatentSpace, LatentStack
from c2c.fuser.stack import FuserStack
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.training.config import TrainingConfig
from c2c.training.data import Batch, collate
from c2c.training.examples import Example
from c2c.training.learner import Learner
from c2c.training.loop import swapped
from c2c.training.loss import response_loss
from c2c.training.order import Lengths, lengths_of, order
from c2c.training.processes import Processes
from c2c.training.state import Progress
from c2c.types import CacheShape

COLUMNS = (
    "step", "loss", "learning_rate", "temperature", "gradient_norm", "validation_loss", "validation_deranged_loss",
    "open_gates", "padding",
)  # fmt: skip


@dataclass(frozen=True)
class PairExamples:
    """An ordered pair of a latent space, and what it learns from.

    Args:
        name: Id of the pair.
        pair: Receiver and Sharer; pairs with a model in common hold the same one.
        training: Examples to learn from.
        validation: Examples to watch the loss on.
    """

    name: str
    pair: Pair
    training: Sequence[Example]
    validation: Sequence[Example]


class PairExample(NamedTuple):
    """An example, and whose it is: the number of its pair."""

    number: int
    example: Example


@dataclass(frozen=True)
class PairBatch(Batch):
    """A batch of one pair, with the pair's number."""

    number: int


class Joined(Sequence[PairExample]):
    """The training sets of all pairs, one behind the other; examples are read when they are asked for."""

    def __init__(self, parts: Sequence[Sequence[Example]]) -> None:
        self.parts = parts
        self.starts = [sum(map(len, parts[:number])) for number in range(len(parts))]
        self.lengths: Lengths = [length for part in parts for length in lengths_of(part)]

    def __len__(self) -> int:
        return len(self.lengths)

    def pair_of(self, index: int) -> int:
        """The number of the pair that an example belongs to."""
        return bisect_right(self.starts, index) - 1

    def __getitem__(self, index: Any) -> Any:
        number = self.pair_of(index)
        return PairExample(number, self.parts[number][index - self.starts[number]])


class LatentTrainer(Learner):
    """One training run of a whole latent space, or what one of several processes does of it.

    Attributes:
        space: The encoders and decoders that learn.
        stacks: The encoder and decoder of each pair, by its name, with the weights of `space`.

    Args:
        pairs: The ordered pairs.
        latent: Sizes of the latent cache.
        config: All settings; each step has as many examples of every pair, `batch_size` in all; no earlier step is
            kept.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.

    Raises:
        RefusedError: If there is no pair, a name stands twice, responses are to be fused, or a batch has fewer examples
            than there are processes, or not as many of each pair.
    """

    columns = COLUMNS

    def __init__(
        self, pairs: Sequence[PairExamples], latent: CacheShape, config: TrainingConfig, checkpoints: Path
    ) -> None:
        check_pairs([each.name for each in pairs], config.batch_size)
        if config.response != "plain":
            raise RefusedError("A latent space must be trained with plain responses", config.response, "Pass plain")
        set_seed(config.seed)
        self.pairs, self.config, self.checkpoints = list(pairs), replace(config, keep_steps=()), checkpoints
        self.processes = Processes.of_this_run()
        config.check_processes(self.processes.count)
        models = {loaded.name: loaded.model for each in pairs for loaded in (each.pair.receiver, each.pair.sharer)}
        frozen: list[Any] = list(models.values())
        for model in frozen:
            model.to(self.processes.device)
        sharers, receivers = (
            {getattr(each.pair, role).name: cache_shape(getattr(each.pair, role).model.config) for each in pairs}
            for role in ("sharer", "receiver")
        )
        self.space = LatentSpace(
            sharers, receivers, latent, layer_alignment=config.layer_alignment, **config.fuser()
        )  # fmt: skip
        self.stacks = {each.name: self._stack(each.pair) for each in pairs}
        self.models = [
            RosettaModel.of_stacks(each.pair.receiver.model, [each.pair.sharer.model], [self.stacks[each.name]])
            for each in pairs
        ]
        self.model = nn.ModuleList(self.models)
        self.training: Any = Joined([each.training for each in pairs])
        self.validation: Any = Joined([each.validation for each in pairs])
        self.deranged: Any = Joined([swapped(each.validation, config, self.processes) for each in pairs])
        self.space = self.prepare(self.space)

    def run(self) -> tuple[dict[str, LatentStack], pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The stack of each pair in eval mode, with the weights that the config keeps, and one row a step: COLUMNS,
            of which the validation losses are those of all pairs together.
        """
        history = self.learn()
        self.model.eval()
        return self.stacks, history

    def trained(self) -> pd.DataFrame:
        """The examples of each step: columns step and ids, each of them ``<pair>/<id>``."""
        read = [[self.training[index] for index in batch] for batch in self.progress.trained]
        ids = [[f"{self.pairs[each.number].name}/{each.example.id}" for each in batch] for batch in read]
        return pd.DataFrame({"step": range(1, len(ids) + 1), "ids": ids})

    def collate(self, examples: Sequence[Any]) -> PairBatch:
        """One batch of some examples of one pair."""
        number, zeroed = examples[0].number, self.config.sharer_cache == "zeroed"
        batch = collate([each.example for each in examples], self.pairs[number].pair, zeroed=zeroed)
        return PairBatch(**vars(batch), number=number)

    def _stack(self, pair: Pair) -> LatentStack:
        stack = self.space.stack(pair.receiver.name, pair.sharer.name)
        stack.autocast = None if self.config.autocast == "none" else getattr(torch, self.config.autocast)
        stack.recompute = self.config.recompute == "fusers"
        return stack

    def _batches(self, start: int) -> Iterator[list[int]]:
        """As many examples of each pair, in an order of its own."""
        size, seed = self.config.batch_size // len(self.pairs), self.config.seed
        own = [order(lengths_of(part), size, seed, start=start) for part in self.training.parts]
        for batches in zip(*own, strict=True):
            pairs = zip(self.training.starts, batches, strict=True)
            yield [first + index for first, batch in pairs for index in batch]

    def _parts(self, examples: Any, indices: Sequence[int]) -> Sequence[list[int]]:
        """Which examples this process runs together: never those of two pairs."""
        own: dict[int, list[int]] = {}
        for index in indices:
            own.setdefault(examples.pair_of(index), []).append(index)
        return self.processes.share([part for each in own.values() for part in self._cut(each, examples.lengths)])

    def _step(self, step: int, indices: Sequence[int]) -> tuple[dict[str, Any], int]:
        temperature = next((float(each) for name, each in self.space.named_buffers() if "temperature" in name), None)
        row, tokens = super()._step(step, indices)
        decoders = [each for each in self.space.decoders if isinstance(each, FuserStack)]
        for decoder in decoders:
            decoder.anneal(step)
        open_gates = fmean(decoder.open_share() for decoder in decoders)
        return {**row, "temperature": temperature, "open_gates": open_gates}, tokens

    def _validate(self, progress: Progress) -> None:
        """With the loss where the Sharers' readings are swapped, where there are any."""
        super()._validate(progress)
        if all(self.deranged.parts):
            progress.history[-1]["validation_deranged_loss"] = self.loss_on(self.deranged)

    def _loss(self, batch: Batch) -> Tensor:
        assert isinstance(batch, PairBatch)
        return response_loss(self.models[batch.number], batch, self.accelerator.device)


def check_pairs(names: Sequence[str], batch_size: int) -> None:
    """Refuse no pair, one that stands twice, and a batch that has not as many examples of each.

    Raises:
        RefusedError: If so.
    """
    if not names or len(set(names)) < len(names):
        raise RefusedError("A latent space must have pairs, each once", list(names), "Name each ordered pair once")
    if batch_size % len(names):
        rule = f"A batch must have as many examples of each of the {len(names)} pairs"
        raise RefusedError(rule, f"batch_size {batch_size}", f"Choose a multiple of {len(names)}")
