"""A whole training as one call: inputs, a learner that learns to the end, and the files that it leaves.

What learns is a subclass's: the fusers of a pair (`c2c.training.fusers`), a latent space (`c2c.training.latent`) or
the Receiver itself (`c2c.training.single`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd
import pyarrow as pa

from c2c.models.loading import model_state
from c2c.models.pair import Pair
from c2c.provenance import file_hash, settings_hash
from c2c.training.config import TrainingConfig
from c2c.training.launch import alone_in
from c2c.training.learner import Learner

HISTORY, ORDER_FILE = "history.csv", "order.parquet"
ORDER = pa.schema([("step", pa.int32()), ("ids", pa.list_(pa.string()))])

SomeLearner = TypeVar("SomeLearner", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class LearningRun(ABC, Generic[SomeLearner]):
    """One training: its settings, and where its inputs and outputs are.

    Args:
        config: All settings.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its `key`.
        output: What the training leaves, a folder or a manifest.
    """

    config: TrainingConfig
    checkpoints: Path
    output: Path

    @abstractmethod
    def models(self) -> list[str]:
        """Where the models are."""

    @abstractmethod
    def sets(self) -> list[Path]:
        """Files of the training and validation sets, and what else the weights depend on."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What provenance states: models and all settings, as JSON has them."""

    @abstractmethod
    def learner(self, checkpoints: Path) -> SomeLearner:
        """Load models and sets and build what learns, with resumable states in `checkpoints`.

        Raises:
            RefusedError: If an input is missing or does not fit.
        """

    @abstractmethod
    def write(self, learner: SomeLearner, history: pd.DataFrame) -> None:
        """Write the output of a learner that has learned to the end."""

    @abstractmethod
    def notes(self, learner: SomeLearner, history: pd.DataFrame) -> dict[str, Any]:
        """What provenance states of a training that has ended: examples, final losses and the like."""

    def files(self) -> list[Path]:
        """The inputs that are files or folders on this machine."""
        return [*(path for path in map(Path, self.models()) if path.exists()), *self.sets()]

    def key(self) -> str:
        """Name of the folder for resumable states: a hash of all that the weights depend on."""
        models = [model_state(model) for model in self.models()]
        sets = [file_hash(path) for path in self.sets()]
        return settings_hash({**self.key_settings(), "models": models, "files": sets})[:16]

    def key_settings(self) -> dict[str, Any]:
        """The settings as they are hashed."""
        return self.settings()


def train(run: LearningRun[Any]) -> dict[str, Any]:
    """Train to the end, or resume an interrupted run of the same settings.

    Returns:
        What provenance states of the training.

    Raises:
        RefusedError: If an input is missing or does not fit, or the same training runs already.
    """
    # A folder for exactly these settings and inputs: other runs may use the same parent.
    checkpoints = run.checkpoints / run.key()
    with alone_in(checkpoints):
        learner = run.learner(checkpoints)
        history = learner.learn()
        # Of several processes one writes; the others wait for it.
        if learner.processes.is_first:
            run.write(learner, history)
            learner.forget_checkpoints()
        learner.processes.end()
        return run.notes(learner, history)


def final_losses(history: pd.DataFrame) -> dict[str, float]:
    """Training and validation loss of the last step."""
    return {name: float(history[name].iloc[-1]) for name in ("loss", "validation_loss")}


def best_step(learner: Learner) -> dict[str, int]:
    """The step whose weights are kept, where it is the best one on the validation set."""
    return {"kept_step": learner.progress.best_step} if learner.config.keep == "best" else {}


def cost(learner: Learner) -> dict[str, Any]:
    """Processes, GPUs, and the seconds at the end of the last step and of steps whose fusers are kept.

    With them the tokens that were run at once at the end, where they are limited.
    """
    progress = learner.progress
    return {
        **({"micro_batch_tokens": learner.token_budget} if learner.token_budget else {}),
        "processes": progress.processes,
        "gpus": progress.processes if learner.processes.device.type == "cuda" else 0,
        "seconds": {**progress.seconds_at, str(progress.steps): progress.seconds},
    }


def order_table(learner: Learner) -> pa.Table:
    """The ids of the examples of each step, as `ORDER_FILE` holds them."""
    return pa.Table.from_pandas(learner.example_ids(), ORDER, preserve_index=False)


def fuser_labels(learner: Learner, pair: Pair, recipe: str, **more: Any) -> dict[str, Any]:
    """What a checkpoint states about fusers: their pair, recipe and training; `more` follows the recipe."""
    config = learner.config
    return {
        "receiver": pair.receiver.name,
        "sharer": pair.sharer.name,
        "recipe": recipe,
        **more,
        "alignment": config.alignment,
        "sharer_cache": config.sharer_cache,
        "include_response": config.response == "fused",
        "seed": config.seed,
        "processes": learner.processes.count,
        "training": {**config.to_dict(), "micro_batch_tokens": learner.token_budget},
    }
