"""Encoders and decoders of a shared latent space, trained together on all of its ordered pairs (paper, Table 14).

The pairs learn in turn, one a step, so that what a model's encoder or decoder becomes is right for all of its pairs.
Each pair has its own examples, in an order of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor

from c2c.cache_shape import cache_shape
from c2c.errors import RefusedError
from c2c.fuser.latent import LatentSpace, LatentStack
from c2c.fuser.stack import FuserStack
from c2c.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.training.config import TrainingConfig
from c2c.training.data import Batch, collate
from c2c.training.examples import Example
from c2c.training.learner import Learner
from c2c.training.loop import swapped
from c2c.training.loss import response_loss
from c2c.training.order import lengths_of, order
from c2c.training.processes import Processes
from c2c.training.state import Progress
from c2c.types import CacheShape

COLUMNS = (
    "step", "pair", "loss", "learning_rate", "temperature", "gradient_norm", "validation_loss",
    "validation_deranged_loss", "open_gates", "padding",
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


class LatentTrainer(Learner):
    """One training run of a whole latent space, or what one of several processes does of it.

    Attributes:
        space: The encoders and decoders that learn.
        stacks: The encoder and decoder of each pair, by its name, with the weights of `space`.

    Args:
        pairs: The ordered pairs, which learn in this order, over and over.
        latent: Sizes of the latent cache.
        config: All settings; `steps` are those of all pairs together. No earlier step is kept.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.

    Raises:
        RefusedError: If there is no pair, a name stands twice, responses are to be fused, or a batch has fewer examples
            than there are processes.
    """

    columns = COLUMNS

    def __init__(
        self, pairs: Sequence[PairExamples], latent: CacheShape, config: TrainingConfig, checkpoints: Path
    ) -> None:
        check_pairs([each.name for each in pairs])
        if config.response != "plain":
            raise RefusedError("A latent space is trained with plain responses", config.response, "Pass plain")
        set_seed(config.seed)
        self.pairs, self.config, self.checkpoints = list(pairs), replace(config, keep_steps=()), checkpoints
        self.processes = Processes.of_this_run()
        self.processes.check_batch(config.batch_size)
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
        self.models = {
            each.name: RosettaModel.of_stacks(
                each.pair.receiver.model, [each.pair.sharer.model], [self.stacks[each.name]]
            )
            for each in pairs
        }
        self.deranged = [swapped(each.validation, config, self.processes) for each in pairs]
        self._turn_to(self.pairs[0])
        self.space = self.prepare(self.space)

    def run(self) -> tuple[dict[str, LatentStack], pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The stack of each pair in eval mode, with the weights that the config keeps, and one row a step: COLUMNS,
            of which `pair` is the one that learned, and the validation losses are means over all pairs.
        """
        history = self.learn()
        for model in self.models.values():
            model.eval()
        return self.stacks, history

    def trained(self) -> pd.DataFrame:
        """The pair of each step, and the ids of its examples: columns step, pair and ids."""
        done = self.progress.trained
        turns = [self._pair_of(step) for step in range(1, len(done) + 1)]
        ids = [[turn.training[index].id for index in batch] for turn, batch in zip(turns, done, strict=True)]
        return pd.DataFrame({"step": range(1, len(ids) + 1), "pair": [turn.name for turn in turns], "ids": ids})

    def validation_loss(self) -> float:
        """Mean over the pairs."""
        return self._mean_loss([each.validation for each in self.pairs])

    def collate(self, examples: Sequence[Example]) -> Batch:
        """One batch of the pair whose turn it is."""
        return collate(examples, self.turn.pair, zeroed=self.config.sharer_cache == "zeroed")

    def _stack(self, pair: Pair) -> LatentStack:
        stack = self.space.stack(pair.receiver.name, pair.sharer.name)
        stack.autocast = None if self.config.autocast == "none" else getattr(torch, self.config.autocast)
        stack.recompute = self.config.recompute == "fusers"
        return stack

    def _turn_to(self, pair: PairExamples) -> None:
        self.turn, self.model = pair, self.models[pair.name]
        self.training, self.lengths = pair.training, lengths_of(pair.training)

    def _pair_of(self, step: int) -> PairExamples:
        return self.pairs[(step - 1) % len(self.pairs)]

    def _batches(self, start: int) -> Iterator[list[int]]:
        """Each pair's batches in its own order; those of `start` steps are done, of all pairs together."""
        count, size, seed = len(self.pairs), self.config.batch_size, self.config.seed
        done = [len(range(number, start, count)) for number in range(count)]
        own = [
            order(lengths_of(each.training), size, seed, start=before)
            for each, before in zip(self.pairs, done, strict=True)
        ]
        for step in itertools.count(start):
            yield next(own[step % count])

    def _step(self, step: int, indices: Sequence[int]) -> tuple[dict[str, Any], int]:
        self._turn_to(self._pair_of(step))
        temperature = next((float(each) for name, each in self.space.named_buffers() if "temperature" in name), None)
        row, tokens = super()._step(step, indices)
        decoders = [each for each in self.space.decoders if isinstance(each, FuserStack)]
        for decoder in decoders:
            decoder.anneal(step)
        open_gates = fmean(decoder.open_share() for decoder in decoders)
        return {"pair": self.turn.name, **row, "temperature": temperature, "open_gates": open_gates}, tokens

    def _validate(self, progress: Progress) -> None:
        """With the loss where the Sharers' readings are swapped, where there are any."""
        super()._validate(progress)
        if all(self.deranged):
            progress.history[-1]["validation_deranged_loss"] = self._mean_loss(self.deranged)

    def _mean_loss(self, examples: Sequence[Sequence[Example]]) -> float:
        losses = []
        for each, watched in zip(self.pairs, examples, strict=True):
            self._turn_to(each)
            losses.append(self.loss_on(watched))
        return fmean(losses)

    def _loss(self, batch: Batch) -> Tensor:
        return response_loss(self.model, batch, self.accelerator.device)


def check_pairs(names: Sequence[str]) -> None:
    """Refuse no pair, or one that stands twice.

    Raises:
        RefusedError: If so.
    """
    if not names or len(set(names)) < len(names):
        raise RefusedError("A latent space has pairs, each once", list(names), "Name each ordered pair once")
