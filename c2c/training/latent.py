"""Encoders and decoders of a shared latent space, trained together on all of its ordered pairs (paper, Table 14).

Each step has examples of every pair, so that what a model's encoder or decoder becomes is right for all of its pairs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq
from accelerate.utils import set_seed
from torch import Tensor, nn

from c2c.cache.shape import cache_shape
from c2c.checkpoints.checkpoint import save_stack
from c2c.errors import RefusedError
from c2c.fuser.latent import LatentSpace, LatentStack
from c2c.fuser.stack import FuserStack
from c2c.models.loading import load_model
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.storage.files import write_atomically, written_whole
from c2c.training.batch_order import Lengths, batch_order, lengths_of
from c2c.training.batches import Batch, collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example
from c2c.training.fusers import FusionLearner, deranged_examples
from c2c.training.loss import response_loss
from c2c.training.processes import Processes
from c2c.training.run import HISTORY, ORDER_FILE, LearningRun, cost, final_losses, fuser_labels, order_table
from c2c.training.tokenised_set import TokenisedSet, identity
from c2c.types import CacheShape

RECIPE, PAIRS = "latent", "pairs"
MOST = {"latent_layers": 1000, "latent_heads": 1024, "latent_head_dim": 2**14}
"""Greatest sizes of a latent cache."""


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


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """A batch of one pair, with the pair's number."""

    number: int


class ConcatenatedSets(Sequence[PairExample]):
    """The sets of all pairs, one after the other; an example is read when it is indexed."""

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


class LatentLearner(FusionLearner):
    """Training of a whole latent space, or the part of it that one of several processes does.

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

    def __init__(
        self, pairs: Sequence[PairExamples], latent: CacheShape, config: TrainingConfig, checkpoints: Path
    ) -> None:
        check_pairs([part.name for part in pairs], config.batch_size)
        if config.response != "plain":
            raise RefusedError("A latent space must be trained with plain responses", config.response, "Pass plain")
        # The seed comes first: initial weights are the first draws.
        set_seed(config.seed)
        self.pairs, self.config, self.checkpoints = list(pairs), replace(config, keep_steps=()), checkpoints
        self.processes = Processes.of_this_run()
        config.check_processes(self.processes.count)
        # Pairs share models: each is moved once.
        models = {lm.name: lm.model for part in pairs for lm in (part.pair.receiver, part.pair.sharer)}
        frozen: list[Any] = list(models.values())
        for model in frozen:
            model.to(self.processes.device)
        sharers, receivers = (
            {getattr(part.pair, role).name: cache_shape(getattr(part.pair, role).model.config) for part in pairs}
            for role in ("sharer", "receiver")
        )
        # An encoder for each Sharer, a decoder for each Receiver, and a stack of both for each pair.
        self.space = LatentSpace(
            sharers, receivers, latent, layer_alignment=config.layer_alignment, **config.fuser()
        )  # fmt: skip
        self.stacks = {part.name: self._stack(part.pair) for part in pairs}
        self.models = [
            RosettaModel.of_stacks(part.pair.receiver.model, [part.pair.sharer.model], [self.stacks[part.name]])
            for part in pairs
        ]
        self.model = nn.ModuleList(self.models)
        self.training: Any = ConcatenatedSets([part.training for part in pairs])
        self.validation: Any = ConcatenatedSets([part.validation for part in pairs])
        self.deranged = ConcatenatedSets(
            [deranged_examples(part.validation, config, self.processes) for part in pairs]
        )  # fmt: skip
        self.space = self.prepare(self.space)

    def run(self) -> tuple[dict[str, LatentStack], pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The stack of each pair in eval mode, with the weights that the config keeps, and one row a step: the
            columns of a pair's fusers, of which the validation losses are those of all pairs together.
        """
        history = self.learn()
        self.model.eval()
        return self.stacks, history

    @property
    def gated_stacks(self) -> Sequence[FuserStack]:
        """The decoders; encoders have no gates."""
        return [decoder for decoder in self.space.decoders if isinstance(decoder, FuserStack)]

    def deranged_validation(self) -> Any:
        """The deranged sets of all pairs, or nothing if a pair has none."""
        return self.deranged if all(self.deranged.parts) else ()

    def example_ids(self) -> pd.DataFrame:
        """The examples of each step: columns step and ids, each of them ``<pair>/<id>``."""
        steps = [[self.training[index] for index in batch] for batch in self.progress.trained]
        ids = [[f"{self.pairs[number].name}/{example.id}" for number, example in batch] for batch in steps]
        return pd.DataFrame({"step": range(1, len(ids) + 1), "ids": ids})

    def collate(self, examples: Sequence[Any]) -> PairBatch:
        """One batch of some examples of one pair."""
        number, zeroed = examples[0].number, self.config.sharer_cache == "zeroed"
        batch = collate([item.example for item in examples], self.pairs[number].pair, zeroed=zeroed)
        return PairBatch(**vars(batch), number=number)

    def _stack(self, pair: Pair) -> LatentStack:
        stack = self.space.stack(pair.receiver.name, pair.sharer.name)
        self.configure(stack)
        return stack

    def _batches(self, start: int) -> Iterator[list[int]]:
        """As many examples of each pair, in an order of its own."""
        size, seed = self.config.batch_size // len(self.pairs), self.config.seed_of_order
        # The same seed for all pairs; sets of equal lengths have the same order.
        orders = [batch_order(lengths_of(part), size, seed, start=start) for part in self.training.parts]
        for batches in zip(*orders, strict=True):
            pairs = zip(self.training.starts, batches, strict=True)
            yield [start + index for start, batch in pairs for index in batch]

    def _pools(self) -> Sequence[range]:
        """The examples of each pair."""
        ends = [*self.training.starts[1:], len(self.training)]
        return [range(start, end) for start, end in zip(self.training.starts, ends, strict=True)]

    def _parts(self, examples: Any, indices: Sequence[int]) -> Sequence[list[int]]:
        """Which examples this process runs together: never those of two pairs."""
        by_pair: dict[int, list[int]] = {}
        for index in indices:
            by_pair.setdefault(examples.pair_of(index), []).append(index)
        # A micro-batch runs through one RosettaModel.
        parts = [part for numbers in by_pair.values() for part in self._cut(numbers, examples.lengths)]
        return self.processes.share(parts)

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


@dataclass(frozen=True, kw_only=True)
class LatentRun(LearningRun[LatentLearner]):
    """One call of ``c2c train-latent``; each of the lists has one entry an ordered pair.

    Args:
        pairs: Ids of the pairs.
        receivers: Where their Receivers are; the same place is the same model.
        sharers: Where their Sharers are.
        train: Their training sets, as ``c2c tokenise`` wrote them.
        validation: Their validation sets.
        latent_layers: Layers of the latent cache.
        latent_heads: Its heads.
        latent_head_dim: Size of a head.
        config: All other settings; each step has as many examples of every pair, `batch_size` in all.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        output: Folder for ``history.csv``, ``order.parquet`` and ``pairs/<pair>``, a checkpoint each.

    Raises:
        RefusedError: If the lists differ in length, a pair stands twice, or a batch has not as many examples of each.
    """

    pairs: Sequence[str]
    receivers: Sequence[str]
    sharers: Sequence[str]
    train: Sequence[Path]
    validation: Sequence[Path]
    latent_layers: int
    latent_heads: int
    latent_head_dim: int

    def __post_init__(self) -> None:
        check_pairs(self.pairs, self.config.batch_size)
        lists = {name: getattr(self, name) for name in ("receivers", "sharers", "train", "validation")}
        if wrong := {name: len(items) for name, items in lists.items() if len(items) != len(self.pairs)}:
            rule = f"Each of the {len(self.pairs)} pairs must have a Receiver, a Sharer and two tokenised sets"
            raise RefusedError(rule, wrong, "Name them in the same order: --pairs A B --receivers … --sharers …")
        if self.config.output_init == "ridge":
            rule = "A latent space must start from random weights: a closed form reads the Sharer's own cache"
            raise RefusedError(rule, "output_init ridge", "Leave output_init out")
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                flag = f"--{name.replace('_', '-')}"
                raise RefusedError(f"{flag} must be from 1 to {most}", getattr(self, name), f"Correct {flag}")

    def models(self) -> list[str]:
        """All Receivers, then all Sharers, each once."""
        return list(dict.fromkeys([*self.receivers, *self.sharers]))

    def sets(self) -> list[Path]:
        """Training sets, then validation sets."""
        return [*self.train, *self.validation]

    def settings(self) -> dict[str, Any]:
        """Pairs, models, sizes of the latent cache and all settings, as JSON has them."""
        lists = {name: list(getattr(self, name)) for name in ("pairs", "receivers", "sharers")}
        return {"recipe": RECIPE, **lists, "latent": self.latent._asdict(), **self.config.to_dict()}

    @property
    def latent(self) -> CacheShape:
        """Sizes of the latent cache."""
        return CacheShape(self.latent_layers, self.latent_heads, self.latent_head_dim)

    def learner(self, checkpoints: Path) -> LatentLearner:
        """The latent space, with the examples of all pairs; each model is loaded once.

        Raises:
            RefusedError: If a set was tokenised for other models or settings.
        """
        config, parts = self.config, []
        sets = [tuple(map(TokenisedSet, files)) for files in zip(self.train, self.validation, strict=True)]
        models = {source: load_model(source, config.dtype) for source in self.models()}
        rows = zip(self.pairs, self.receivers, self.sharers, sets, strict=True)
        for name, receiver, sharer, (training, validation) in rows:
            pair = Pair(models[receiver], models[sharer])
            tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
            for token_set in (training, validation):
                token_set.check(identity(*tokenizers, config.alignment, config.prompts, config.max_length))
            parts.append(PairExamples(name, pair, training, validation[: config.validation_limit or None]))
        return LatentLearner(parts, self.latent, config, checkpoints)

    def notes(self, learner: LatentLearner, history: pd.DataFrame) -> dict[str, Any]:
        """Examples by pair, trained parameters, final losses and cost."""
        return {
            "examples": {part.name: len(part.training) for part in learner.pairs},
            "parameters": {
                "encoders": sum(parameter.numel() for parameter in learner.space.encoders.parameters()),
                "decoders": sum(parameter.numel() for parameter in learner.space.decoders.parameters()),
            },
            "final": final_losses(history),
            "cost": cost(learner),
        }

    def write(self, learner: LatentLearner, history: pd.DataFrame) -> None:
        """The order of training, a checkpoint for each pair, which is used as any pair's fusers, and the history."""
        with written_whole(self.output / ORDER_FILE) as unfinished:
            pq.write_table(order_table(learner), unfinished)
        for part in learner.pairs:
            other_pairs = [name for name in self.pairs if name != part.name]
            about = fuser_labels(learner, part.pair, RECIPE, together_with=other_pairs)
            # The run's own settings, which may name steps that a latent space does not keep.
            about["training"] |= {"keep_steps": self.config.to_dict()["keep_steps"]}
            models: dict[str, Any] = {
                "receiver": part.pair.receiver.description,
                "sharer": part.pair.sharer.description,
            }
            save_stack(learner.stacks[part.name], self.output / PAIRS / part.name, **models, about=about)
        write_atomically(self.output / HISTORY, history.to_csv(index=False))
