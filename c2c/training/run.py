"""From files to a folder of trained Fusers: config, weights, manifest, history and gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from c2c.analysis.gates import gate_table
from c2c.checkpoint import MANIFEST, save_stack
from c2c.pair import load_pair
from c2c.provenance import file_hash, settings_hash, write_atomically
from c2c.training.config import TrainingConfig
from c2c.training.data import collate, read_lines, tokenise
from c2c.training.loop import Trainer

GATE_EXAMPLES = 128


def train(
    receiver: str,
    sharer: str,
    config: TrainingConfig,
    *,
    recipe: str,
    data: Path,
    validation: Path,
    checkpoints: Path,
    output: Path,
) -> dict[str, Any]:
    """Train the Fusers of one pair, or go on where an interrupted run of the same settings stopped.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        config: All settings.
        recipe: Name that the checkpoint carries.
        data: Training set.
        validation: Validation set.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        output: Folder for ``config.json``, ``model.safetensors``, ``manifest.json``, ``history.csv``, ``gates.csv``.

    Returns:
        What provenance should know: examples used and left out, and the final losses.

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    rows, validation_rows = read_lines(data), read_lines(validation)
    pair = load_pair(receiver, sharer)
    examples = tokenise(rows, pair, config.alignment, config.max_length)
    watched = tokenise(validation_rows, pair, config.alignment, config.max_length)
    files = [data, validation, *(path for path in map(Path, (receiver, sharer)) if path.exists())]
    key = settings_hash({"recipe": recipe, **config.to_dict(), "files": [file_hash(path) for path in files]})[:16]
    trainer = Trainer(pair, config, examples, watched, checkpoints / key)
    stack, history = trainer.run()
    about = {
        "receiver": pair.receiver.name,
        "sharer": pair.sharer.name,
        "recipe": recipe,
        "alignment": config.alignment,
        "sharer_cache": config.sharer_cache,
        "seed": config.seed,
        "training": config.to_dict(),
    }
    (output / MANIFEST).unlink(missing_ok=True)
    write_atomically(output / "history.csv", history.to_csv(index=False))
    shown = [
        watched[at : at + config.batch_size] for at in range(0, min(len(watched), GATE_EXAMPLES), config.batch_size)
    ]
    zeroed = config.sharer_cache == "zeroed"
    gates = gate_table(trainer.model, [collate(each, pair, zeroed=zeroed) for each in shown])
    write_atomically(output / "gates.csv", gates.to_csv(index=False))
    save_stack(stack, output, about=about)
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
