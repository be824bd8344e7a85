"""From files to a folder of trained Fusers: config, weights, manifest, history and gates."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.checkpoints.checkpoint import save_stack, write_stack
from c2c.checkpoints.checkpoint_folder import FILES, PART
from c2c.errors import RefusedError
from c2c.fuser.stack import FuserStack
from c2c.models.contract import ContractCheck
from c2c.models.loading import model_state
from c2c.models.pair import Pair, load_pair
from c2c.provenance import file_hash, settings_hash
from c2c.storage.folders import exchange
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example, Examples, read_lines
from c2c.training.gates import gate_table
from c2c.training.launch import alone_in
from c2c.training.loop import Trainer
from c2c.training.tokenised import TokenisedSet, identity

HISTORY, GATES, ORDER_FILE = "history.csv", "gates.csv", "order.parquet"
GATE_EXAMPLES = 128
ORDER = pa.schema([("step", pa.int32()), ("ids", pa.list_(pa.string()))])


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What one call of ``c2c train`` trains.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        recipe: Name that the checkpoint carries.
        config: All settings.
        data: Training set, JSON lines; it is tokenised before the training.
        validation: Validation set, the same format.
        tokenised: Instead of the two: training and validation set as ``c2c tokenise`` wrote them.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        kept: Folder for the Fusers of the steps that the config keeps, a checkpoint each, ``step<step>``; that of the
            output with ``.steps`` behind its name if None.
        output: Folder for ``config.json``, ``model.safetensors``, ``manifest.json``, ``history.csv``, ``gates.csv`` and
            ``order.parquet``, the ids of the examples of each step.

    Raises:
        RefusedError: If there are no training and validation set, or two of them.
    """

    receiver: str
    sharer: str
    recipe: str
    config: TrainingConfig
    data: Path | None = None
    validation: Path | None = None
    tokenised: Sequence[Path] = ()
    checkpoints: Path
    kept: Path | None = None
    output: Path

    def __post_init__(self) -> None:
        lines = [path for path in (self.data, self.validation) if path is not None]
        if sorted((len(lines), len(self.tokenised))) != [0, 2]:
            raise RefusedError(
                "Training must have a training and a validation set",
                f"{len(lines)} of JSON lines, {len(self.tokenised)} tokenised",
                "Pass --data and --validation, or both files to --tokenised",
            )

    def sets(self) -> list[Path]:
        """Training and validation set."""
        return [path for path in (self.data, self.validation, *self.tokenised) if path is not None]

    def files(self) -> list[Path]:
        """The inputs that are files or folders here."""
        return [*(path for path in map(Path, (self.receiver, self.sharer)) if path.exists()), *self.sets()]

    def settings(self) -> dict[str, Any]:
        """Recipe, models and all settings, as JSON has them."""
        return {"recipe": self.recipe, "receiver": self.receiver, "sharer": self.sharer, **self.config.to_dict()}

    def key(self) -> str:
        """Name of the folder for resumable states: a hash of all that the weights depend on."""
        models = [model_state(each) for each in (self.receiver, self.sharer)]
        sets = [file_hash(path) for path in self.sets()]
        return settings_hash({**self.settings(), "models": models, "files": sets})[:16]


def train(run: TrainingRun) -> dict[str, Any]:
    """Train the Fusers of one pair, or go on where an interrupted run of the same settings stopped.

    Returns:
        What provenance should know: examples used and left out, and the final losses.

    Raises:
        RefusedError: If an input is missing or does not fit, or the same training runs already.
    """
    checkpoints = run.checkpoints / run.key()
    with alone_in(checkpoints):
        return _train(run, checkpoints)


def _train(run: TrainingRun, checkpoints: Path) -> dict[str, Any]:
    sets = [] if run.tokenised else [read_lines(path) for path in (run.data, run.validation) if path is not None]
    stored = [TokenisedSet(path) for path in run.tokenised]
    pair = load_pair(run.receiver, run.sharer, run.config.dtype)
    (examples, left_out), (watched, left_out_watched) = (
        _stored(stored, run.config, pair) if stored else [_tokenise(rows, pair, run.config) for rows in sets]
    )
    watched = watched[: run.config.validation_limit or None]
    trainer = Trainer(pair, run.config, examples, watched, checkpoints)
    stack, history = trainer.run()
    if trainer.processes.is_first:
        _write(run, trainer, stack, history)
        trainer.forget_checkpoints()
    trainer.processes.end()
    last, progress = history.iloc[-1], trainer.progress
    kept = {"kept_step": progress.best_step} if run.config.keep == "best" else {}
    return {
        "examples": {"training": len(examples), "validation": len(watched)},
        "left_out": {"training": left_out, "validation": left_out_watched},
        "padding": float(history["padding"].mean()),
        "final": {"loss": float(last["loss"]), "validation_loss": float(last["validation_loss"])},
        "cost": {
            "processes": progress.processes,
            "gpus": progress.processes if trainer.processes.device.type == "cuda" else 0,
            "seconds": {**progress.seconds_at, str(progress.steps): progress.seconds},
        },
        **kept,
    }


def _tokenise(
    rows: list[dict[str, Any]], pair: Pair, config: TrainingConfig
) -> tuple[Sequence[Example], dict[str, int]]:
    """Examples of JSON lines, and how many lines were left out and why."""
    tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
    examples = Examples(*tokenizers, config.alignment, config.prompts, config.max_length)
    kept = list(examples.of(rows))
    return kept, dict(examples.left_out)


def _stored(
    stored: Sequence[TokenisedSet], config: TrainingConfig, pair: Pair
) -> list[tuple[Sequence[Example], dict[str, int]]]:
    """Tokenised sets, and what was left out when they were made; refused if they are of another pair."""
    tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
    made_for = identity(*tokenizers, config.alignment, config.prompts, config.max_length)
    for each in stored:
        each.check(made_for)
    return [(each, each.about.get("left_out", {})) for each in stored]


def _write(run: TrainingRun, trainer: Trainer, stack: FuserStack, history: pd.DataFrame) -> None:
    """The output folder: Fusers, history, gates and order, which take the places of older ones together."""
    pair, config = trainer.pair, run.config
    shown = trainer.validation[:GATE_EXAMPLES]
    size = config.micro_batch_size or config.batch_size
    batches = [trainer.collate(shown[at : at + size]) for at in range(0, len(shown), size)]
    gates = gate_table(trainer.model, batches)
    models: dict[str, Any] = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    about = {
        "receiver": pair.receiver.name,
        "sharer": pair.sharer.name,
        "recipe": run.recipe,
        "alignment": config.alignment,
        "sharer_cache": config.sharer_cache,
        "include_response": config.response == "fused",
        "seed": config.seed,
        "processes": trainer.processes.count,
        "training": config.to_dict(),
    }
    _write_kept(run, trainer, {**models, "about": about})
    with exchange(run.output, (HISTORY, GATES, ORDER_FILE, *FILES), PART) as unfinished:
        history.to_csv(unfinished / HISTORY, index=False)
        gates.to_csv(unfinished / GATES, index=False)
        order = pa.Table.from_pandas(trainer.trained(), ORDER, preserve_index=False)
        pq.write_table(order, unfinished / ORDER_FILE)
        write_stack(stack, unfinished, **models, about=about, check=ContractCheck())


def _write_kept(run: TrainingRun, trainer: Trainer, told: dict[str, Any]) -> None:
    """A checkpoint for each step that is kept, and no other; the folder is there if the run names it."""
    folder = run.kept or run.output.with_name(run.output.name + ".steps")
    for older in folder.glob("step*"):
        shutil.rmtree(older)
    if run.kept:
        folder.mkdir(parents=True, exist_ok=True)
    for step in run.config.keep_steps:
        about = {**told["about"], "step": step}
        save_stack(trainer.kept(step), folder / f"step{step}", **{**told, "about": about})
