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

from c2c.cache import kv_cache
from c2c.cache.rows import masks_in_tokens, rotations_of_positions, splits_windows
from c2c.errors import RefusedError
from c2c.generation.head import logits_at
from c2c.models.contract import weights_fingerprint
from c2c.models.hub import resolve
from c2c.models.loading import LoadedModel, load_model, load_tokenizer
from c2c.models.pair import Pair
from c2c.storage.files import write_atomically
from c2c.storage.manifests import describe_source
from c2c.training.batches import Batch, collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example
from c2c.training.learner import Learner
from c2c.training.processes import Processes
from c2c.training.run import HISTORY, LearningRun, best_step, final_losses
from c2c.training.tokenised_set import TokenisedSet, identity
from c2c.types import IGNORED

COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "validation_loss", "padding")
COMPUTED_IN = ("float32", "bfloat16")


class SingleLearner(Learner):
    """Trains the Receiver on the responses, from the prompts that it reads beside a Sharer.

    Args:
        receiver: All of its weights learn.
        config: As `c2c.training.fusers.FuserLearner` takes it; no earlier step is kept.
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
        # A token is predicted from the one before it: (B, N - 1)
        label_mask = labels[:, 1:] != IGNORED
        # As `RosettaModel` does it: windows in tokens, each row by its own length
        masks: Any = mask
        if splits_windows(model, mask, mask.shape[1]):
            masks = masks_in_tokens(model, mask, mask.shape[1], kv_cache.empty_cache(model.config))
        # The weights stay float32; see the text of this module.
        precision = torch.autocast(device.type, getattr(torch, dtype)) if dtype != "float32" else nullcontext()
        positions = kv_cache.positions_of(mask)
        with (
            precision,
            logits_at(model, functional.pad(label_mask, (0, 1))),
            rotations_of_positions(model, positions),
        ):
            output = model(input_ids=ids, attention_mask=masks, position_ids=positions, use_cache=False)
        return functional.cross_entropy(output.logits[0].float(), labels[:, 1:][label_mask])


@dataclass(frozen=True, kw_only=True)
class SingleRun(LearningRun[SingleLearner]):
    """One call of ``c2c train-single``.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is that the sets were tokenised with; only its tokenizer is read, to compare.
        config: Settings of the training; those of Fusers have no effect. `dtype` is ``float32`` or ``bfloat16``: what
            the Receiver computes in; its weights learn, and are written, in float32.
        tokenised: Training and validation set of a pair, as ``c2c tokenise`` wrote them.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        output: Manifest of the trained model (.json); the model's folder has the same path without the suffix.

    Raises:
        RefusedError: If `dtype` is ``float16``, in which small gradients vanish.
    """

    receiver: str
    sharer: str
    tokenised: Sequence[Path]

    def __post_init__(self) -> None:
        if self.config.dtype not in COMPUTED_IN:
            rule = f"A Receiver must be fine-tuned in {' or '.join(COMPUTED_IN)}; small gradients vanish in float16"
            raise RefusedError(rule, self.config.dtype, "Pass --dtype bfloat16, which has the range of float32")

    def models(self) -> list[str]:
        """Receiver and Sharer."""
        return [self.receiver, self.sharer]

    def sets(self) -> list[Path]:
        """Training and validation set."""
        return list(self.tokenised)

    def settings(self) -> dict[str, Any]:
        """All settings, as JSON has them."""
        return self.config.to_dict()

    def key_settings(self) -> dict[str, Any]:
        """The settings, marked as those of this kind of training."""
        return {"single": self.config.to_dict()}

    def learner(self, checkpoints: Path) -> SingleLearner:
        """The Receiver, with the examples of both sets.

        Raises:
            RefusedError: If an input is missing, or a set was tokenised for other models or settings.
        """
        training, validation = (TokenisedSet(path) for path in self.tokenised)
        receiver, config = load_model(self.receiver), self.config
        sharer = load_tokenizer(resolve(self.sharer))
        made_for = identity(receiver.tokenizer, sharer, config.alignment, config.prompts, config.max_length)
        for tokenised in (training, validation):
            tokenised.check(made_for)
        return SingleLearner(receiver, config, training, validation[: config.validation_limit or None], checkpoints)

    def notes(self, learner: SingleLearner, history: pd.DataFrame) -> dict[str, Any]:
        """Examples, trained parameters, precision, and the final losses."""
        return {
            "examples": {"training": len(learner.training), "validation": len(learner.validation)},
            "parameters": sum(parameter.numel() for parameter in learner.receiver.model.parameters()),
            "precision": {"weights": "float32", "computes": self.config.dtype},
            "final": final_losses(history),
            **({"micro_batch_tokens": learner.token_budget} if learner.token_budget else {}),
            **best_step(learner),
        }

    def write(self, learner: SingleLearner, history: pd.DataFrame) -> None:
        """The folder of the model, and then its manifest, which states that the folder is complete.

        The manifest names the Receiver, so that records of the trained model are those of its pair.
        """
        receiver, folder = learner.receiver, self.output.with_suffix("")
        # A manifest of an earlier training must not stand for a folder that is being written.
        self.output.unlink(missing_ok=True)
        model: Any = receiver.model
        model.cpu().save_pretrained(folder)
        receiver.tokenizer.save_pretrained(folder)
        write_atomically(folder / HISTORY, history.to_csv(index=False))
        revision = weights_fingerprint(receiver.model)
        manifest = describe_source(folder, id=receiver.name, revision=revision, path=str(folder), source="single")
        write_atomically(self.output, json.dumps(manifest, indent=1) + "\n")
