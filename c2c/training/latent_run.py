"""From files to the trained encoders and decoders of a latent space: a folder for each of its ordered pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c2c.checkpoints.checkpoint import save_stack
from c2c.errors import RefusedError
from c2c.models.loading import load_model, model_state
from c2c.models.pair import Pair
from c2c.provenance import file_hash, settings_hash
from c2c.storage.files import write_atomically, written_whole
from c2c.training.config import TrainingConfig
from c2c.training.latent import LatentTrainer, PairExamples, check_pairs
from c2c.training.launch import alone_in
from c2c.training.tokenised import TokenisedSet, identity
from c2c.types import CacheShape

RECIPE, PAIRS = "latent", "pairs"
MOST = {"latent_layers": 1000, "latent_heads": 1024, "latent_head_dim": 2**14}
ORDER = pa.schema([("step", pa.int32()), ("ids", pa.list_(pa.string()))])


@dataclass(frozen=True, kw_only=True)
class LatentRun:
    """What one call of ``c2c train-latent`` trains; each of the lists has one entry an ordered pair.

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
    config: TrainingConfig
    checkpoints: Path
    output: Path

    def __post_init__(self) -> None:
        check_pairs(self.pairs, self.config.batch_size)
        lists = {name: getattr(self, name) for name in ("receivers", "sharers", "train", "validation")}
        if wrong := {name: len(each) for name, each in lists.items() if len(each) != len(self.pairs)}:
            rule = f"Each of the {len(self.pairs)} pairs must have a Receiver, a Sharer and two tokenised sets"
            raise RefusedError(rule, wrong, "Name them in the same order: --pairs A B --receivers … --sharers …")
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                flag = f"--{name.replace('_', '-')}"
                raise RefusedError(f"{flag} must be from 1 to {most}", getattr(self, name), f"Correct {flag}")

    def files(self) -> list[Path]:
        """The inputs that are files or folders here."""
        models = [path for path in map(Path, dict.fromkeys([*self.receivers, *self.sharers])) if path.exists()]
        return [*models, *self.train, *self.validation]

    def settings(self) -> dict[str, Any]:
        """Pairs, models, sizes of the latent cache and all settings, as JSON has them."""
        lists = {name: list(getattr(self, name)) for name in ("pairs", "receivers", "sharers")}
        return {"recipe": RECIPE, **lists, "latent": self.latent._asdict(), **self.config.to_dict()}

    @property
    def latent(self) -> CacheShape:
        """Sizes of the latent cache."""
        return CacheShape(self.latent_layers, self.latent_heads, self.latent_head_dim)

    def key(self) -> str:
        """Name of the folder for resumable states: a hash of all that the weights depend on."""
        models = [model_state(each) for each in dict.fromkeys([*self.receivers, *self.sharers])]
        sets = [file_hash(path) for path in (*self.train, *self.validation)]
        return settings_hash({**self.settings(), "models": models, "files": sets})[:16]


def train_latent(run: LatentRun) -> dict[str, Any]:
    """Train a latent space, or go on where an interrupted run of the same settings stopped.

    Returns:
        What provenance should know: examples and pairs, trained parameters, cost, and the final losses.

    Raises:
        RefusedError: If an input is missing or does not fit, or the same training runs already.
    """
    checkpoints = run.checkpoints / run.key()
    with alone_in(checkpoints):
        return _train(run, checkpoints)


def _train(run: LatentRun, checkpoints: Path) -> dict[str, Any]:
    trainer = LatentTrainer(_examples(run), run.latent, run.config, checkpoints)
    _, history = trainer.run()
    if trainer.processes.is_first:
        _write(run, trainer)
        write_atomically(run.output / "history.csv", history.to_csv(index=False))
        trainer.forget_checkpoints()
    trainer.processes.end()
    last, progress = history.iloc[-1], trainer.progress
    return {
        "examples": {each.name: len(each.training) for each in trainer.pairs},
        "parameters": {
            "encoders": _parameters(trainer.space.encoders),
            "decoders": _parameters(trainer.space.decoders),
        },
        "final": {name: float(last[name]) for name in ("loss", "validation_loss")},
        "cost": {
            "processes": progress.processes,
            "gpus": progress.processes if trainer.processes.device.type == "cuda" else 0,
            "seconds": {str(progress.steps): progress.seconds},
        },
    }


def _examples(run: LatentRun) -> list[PairExamples]:
    """The pairs with their sets; each model is loaded once.

    Raises:
        RefusedError: If a set was tokenised for other models or settings.
    """
    config = run.config
    sets = [tuple(map(TokenisedSet, files)) for files in zip(run.train, run.validation, strict=True)]
    loaded = {name: load_model(name, config.dtype) for name in dict.fromkeys([*run.receivers, *run.sharers])}
    found = []
    for name, receiver, sharer, (training, validation) in zip(run.pairs, run.receivers, run.sharers, sets, strict=True):
        pair = Pair(loaded[receiver], loaded[sharer])
        tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
        for each in (training, validation):
            each.check(identity(*tokenizers, config.alignment, config.prompts, config.max_length))
        found.append(PairExamples(name, pair, training, validation[: config.validation_limit or None]))
    return found


def _write(run: LatentRun, trainer: LatentTrainer) -> None:
    """A checkpoint for each pair, which is used as any pair's Fusers are, and the order of training."""
    config = run.config
    with written_whole(run.output / "order.parquet") as unfinished:
        pq.write_table(pa.Table.from_pandas(trainer.trained(), ORDER, preserve_index=False), unfinished)
    for each in trainer.pairs:
        about = {
            "receiver": each.pair.receiver.name,
            "sharer": each.pair.sharer.name,
            "recipe": RECIPE,
            "together_with": [name for name in run.pairs if name != each.name],
            "alignment": config.alignment,
            "sharer_cache": config.sharer_cache,
            "include_response": False,
            "seed": config.seed,
            "processes": trainer.processes.count,
            "training": config.to_dict(),
        }
        models: dict[str, Any] = {
            "receiver": each.pair.receiver.description,
            "sharer": each.pair.sharer.description,
        }
        save_stack(trainer.stacks[each.name], run.output / PAIRS / each.name, **models, about=about)


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
