"""The Receiver itself, fine-tuned as a whole on a Fuser's training set: what the data alone does (paper, Table 6).

A step of full fine-tuning is often smaller than what half precision can tell apart, so weights, gradients and optimiser
are float32 whatever the run's `dtype`, as a Fuser's are. `dtype` is what the Receiver computes in: bfloat16 is
autocast, in training and in validation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn import functional

from c2c.cache import kv_cache, rope
from c2c.cache.windows import masks_in_tokens, splits_windows
from c2c.errors import RefusedError
from c2c.generation.head import logits_at
from c2c.models.contract import weights_fingerprint
from c2c.models.hub import resolve
from c2c.models.loading import LoadedModel, load_model, load_tokenizer, model_state
from c2c.models.pair import Pair
from c2c.provenance import file_hash, settings_hash
from c2c.storage.files import write_atomically
from c2c.storage.manifests import describe_source
from c2c.training.config import TrainingConfig
from c2c.training.data import Batch, collate
from c2c.training.examples import Example
from c2c.training.launch import alone_in
from c2c.training.learner import Learner
from c2c.training.processes import Processes
from c2c.training.tokenised import TokenisedSet, identity
from c2c.types import IGNORED

COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "validation_loss", "padding")
COMPUTED_IN = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class SingleRun:
    """What one call of ``c2c train-single`` trains.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is that the sets were tokenised with; only its tokenizer is read, to compare.
        config: Settings of the training; those of Fusers have no effect. `dtype` is ``float32`` or ``bfloat16``: what
            the Receiver computes in; its weights learn, and are written, in float32.
        tokenised: Training and validation set of a pair, as ``c2c tokenise`` wrote them.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        output: Manifest of the trained model (.json); its folder, without the suffix, stands beside it.

    Raises:
        RefusedError: If `dtype` is ``float16``, in which small gradients vanish.
    """

    receiver: str
    sharer: str
    config: TrainingConfig
    tokenised: Sequence[Path]
    checkpoints: Path
    output: Path

    def __post_init__(self) -> None:
        if self.config.dtype not in COMPUTED_IN:
            rule = f"A Receiver must be fine-tuned in {' or '.join(COMPUTED_IN)}; small gradients vanish in float16"
            raise RefusedError(rule, self.config.dtype, "Pass --dtype bfloat16, which has the range of float32")

    def files(self) -> list[Path]:
        """The inputs that are files or folders here."""
        return [*(path for path in map(Path, (self.receiver, self.sharer)) if path.exists()), *self.tokenised]

    def key(self) -> str:
        """Name of the folder for resumable states: a hash of all that the weights depend on."""
        models = [model_state(each) for each in (self.receiver, self.sharer)]
        sets = [file_hash(path) for path in self.tokenised]
        return settings_hash({"single": self.config.to_dict(), "models": models, "files": sets})[:16]


class SingleLearner(Learner):
    """Trains the Receiver on the responses, from the prompts that it reads beside a Sharer.

    Args:
        receiver: All of its weights learn.
        config: As `c2c.training.loop.Trainer` takes it; no earlier step is kept.
        training: Examples to learn from.
        validation: Examples to watch the loss on.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.
    """

    columns = COLUMNS

    def __init__(
        self,
        receiver: LoadedModel,
        config: TrainingConfig,
        training: Sequence[Example],
        validation: Sequence[Example],
        checkpoints: Path,
    ) -> None:
        set_seed(config.seed)
        self.receiver, self.config, self.checkpoints = receiver, replace(config, keep_steps=()), checkpoints
        self.training, self.validation = training, validation
        self.processes = Processes.of_this_run()
        self.model = self.prepare(receiver.model.requires_grad_(True))

    def collate(self, examples: Sequence[Example]) -> Batch:
        """As a Fuser's training does it; what a Sharer would read is left empty."""
        return collate(examples, Pair(self.receiver, self.receiver), zeroed=True)

    def _loss(self, batch: Batch) -> Tensor:
        """As a Fuser's training computes it, but for the fusion."""
        model, device, dtype = self.receiver.model, self.receiver.model.device, self.config.dtype
        ids, mask, labels = batch.input_ids.to(device), batch.attention_mask.to(device), batch.labels.to(device)
        supervised = labels[:, 1:] != IGNORED
        masks: Any = mask
        if splits_windows(model, mask, mask.shape[1]):
            masks = masks_in_tokens(model, mask, mask.shape[1], kv_cache.empty_cache(model.config))
        reduced = torch.autocast(device.type, getattr(torch, dtype)) if dtype != "float32" else nullcontext()
        positions = kv_cache.positions_of(mask)
        with reduced, logits_at(model, functional.pad(supervised, (0, 1))), rope.of_positions(model, positions):
            output = model(input_ids=ids, attention_mask=masks, position_ids=positions, use_cache=False)
        return functional.cross_entropy(output.logits[0].float(), labels[:, 1:][supervised])


def train_single(run: SingleRun) -> dict[str, Any]:
    """Fine-tune the Receiver, or go on where an interrupted run of the same settings stopped.

    The manifest names the Receiver, so that records of the trained model stand among those of its pair.

    Returns:
        What provenance should know: examples, trained parameters, precision, and the final losses.

    Raises:
        RefusedError: If an input is missing, the sets were tokenised for other models or settings, or the same training
            runs already.
    """
    checkpoints = run.checkpoints / run.key()
    with alone_in(checkpoints):
        return _train(run, checkpoints)


def _train(run: SingleRun, checkpoints: Path) -> dict[str, Any]:
    training, validation = (TokenisedSet(path) for path in run.tokenised)
    receiver, config = load_model(run.receiver), run.config
    sharer = load_tokenizer(resolve(run.sharer))
    made_for = identity(receiver.tokenizer, sharer, config.alignment, config.prompts, config.max_length)
    for each in (training, validation):
        each.check(made_for)
    watched = validation[: config.validation_limit or None]
    learner = SingleLearner(receiver, config, training, watched, checkpoints)
    history = learner.learn()
    _write(run, receiver, history)
    learner.forget_checkpoints()
    last = history.iloc[-1]
    kept = {"kept_step": learner.progress.best_step} if config.keep == "best" else {}
    return {
        "examples": {"training": len(training), "validation": len(watched)},
        "parameters": sum(each.numel() for each in receiver.model.parameters()),
        "precision": {"weights": "float32", "computes": config.dtype},
        "final": {name: float(last[name]) for name in ("loss", "validation_loss")},
        **kept,
    }


def _write(run: SingleRun, receiver: LoadedModel, history: pd.DataFrame) -> None:
    """The folder of the model; its manifest, which says that it is complete, comes last."""
    folder = run.output.with_suffix("")
    run.output.unlink(missing_ok=True)
    model: Any = receiver.model
    model.cpu().save_pretrained(folder)
    receiver.tokenizer.save_pretrained(folder)
    write_atomically(folder / "history.csv", history.to_csv(index=False))
    revision = weights_fingerprint(receiver.model)
    manifest = describe_source(folder, id=receiver.name, revision=revision, path=str(folder), source="single")
    write_atomically(run.output, json.dumps(manifest, indent=1) + "\n")
