"""From files to a folder of trained Fusers: config, weights, manifest, history and gates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.analysis.gates import gate_table
from c2c.checkpoint import MANIFEST, save_stack
from c2c.fuser.stack import FuserStack
from c2c.pair import load_pair
from c2c.provenance import file_hash, settings_hash, write_atomically
from c2c.training.config import TrainingConfig
from c2c.training.data import read_lines, tokenise
from c2c.training.loop import Trainer

GATE_EXAMPLES = 128


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What one call of ``c2c train`` trains.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        recipe: Name that the checkpoint carries.
        config: All settings.
        data: Training set.
        validation: Validation set.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        output: Folder for ``config.json``, ``model.safetensors``, ``manifest.json``, ``history.csv``, ``gates.csv``.
    """

    receiver: str
    sharer: str
    recipe: str
    config: TrainingConfig
    data: Path
    validation: Path
    checkpoints: Path
    output: Path

    def files(self) -> list[Path]:
        """The inputs that are files or folders here."""
        models = [path for path in map(Path, (self.receiver, self.sharer)) if path.exists()]
        return [*models, self.data, self.validation]

    def settings(self) -> dict[str, Any]:
        """Recipe, models and all settings, as JSON has them."""
        return {"recipe": self.recipe, "receiver": self.receiver, "sharer": self.sharer, **self.config.to_dict()}

    def key(self) -> str:
        """Name of the folder for resumable states: a hash of all that the weights depend on."""
        return settings_hash({**self.settings(), "files": [file_hash(path) for path in self.files()]})[:16]


def train(run: TrainingRun) -> dict[str, Any]:
    """Train the Fusers of one pair, or go on where an interrupted run of the same settings stopped.

    Returns:
        What provenance should know: examples used and left out, and the final losses.

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    rows, validation_rows = read_lines(run.data), read_lines(run.validation)[: run.config.validation_limit or None]
    pair = load_pair(run.receiver, run.sharer)
    examples = tokenise(rows, pair, run.config.alignment, run.config.max_length)
    watched = tokenise(validation_rows, pair, run.config.alignment, run.config.max_length)
    trainer = Trainer(pair, run.config, examples, watched, run.checkpoints / run.key())
    stack, history = trainer.run()
    _write(run, trainer, stack, history)
    trainer.forget_checkpoints()
    last = history.iloc[-1]
    return {
        "examples": {"training": len(examples), "validation": len(watched)},
        "left_out_as_too_long": {
            "training": len(rows) - len(examples),
            "validation": len(validation_rows) - len(watched),
        },
        "final": {"loss": float(last["loss"]), "validation_loss": float(last["validation_loss"])},
    }


def _write(run: TrainingRun, trainer: Trainer, stack: FuserStack, history: pd.DataFrame) -> None:
    """The output folder; its manifest, which says that it is complete, comes last."""
    pair, config = trainer.pair, run.config
    (run.output / MANIFEST).unlink(missing_ok=True)
    write_atomically(run.output / "history.csv", history.to_csv(index=False))
    shown = trainer.validation[:GATE_EXAMPLES]
    size = config.micro_batch_size or config.batch_size
    batches = [trainer.collate(shown[at : at + size]) for at in range(0, len(shown), size)]
    write_atomically(run.output / "gates.csv", gate_table(trainer.model, batches).to_csv(index=False))
    about = {
        "receiver": pair.receiver.name,
        "sharer": pair.sharer.name,
        "recipe": run.recipe,
        "alignment": config.alignment,
        "sharer_cache": config.sharer_cache,
        "include_response": config.response == "fused",
        "seed": config.seed,
        "training": config.to_dict(),
    }
    save_stack(stack, run.output, receiver=pair.receiver.description, sharer=pair.sharer.description, about=about)
