"""Changes of a training that were tried on its validation set, side by side: ``paper/tries.csv``.

    python -m paper.tries --fusers results/laptop/fusers/<pair>/c2c/span/seed0 results/try_*/fusers/*/*/*/seed0

Nothing here was asked a question of a benchmark: a change is chosen by its validation loss, and then run as a scale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from c2c.provenance import SUFFIX, stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import read_object
from c2c.testbed.card.numbers import DECIMALS
from paper.command import REMEDY, command
from paper.reading.files import read_csv
from paper.reading.fusers import FuserRun

SETTINGS = ("variant", "sharer_cache", "layer_alignment", "hidden_dim", "steps", "batch_size", "learning_rate")
"""Flags of ``c2c train`` in which tries differ; what else differs is seen in the fuser's provenance."""


def row(folder: Path) -> dict[str, Any]:
    """One try: its scale, run and settings, and its validation losses.

    Those are the loss at its best, at the last step, and at the last step where the Sharer reads another prompt.

    Raises:
        RefusedError: The folder is no trained fuser's, its provenance is missing, or it was never validated.
    """
    run, stamp_file = FuserRun.of(folder), folder.with_name(folder.name + SUFFIX)
    if not (folder / "history.csv").is_file() or not stamp_file.is_file():
        raise RefusedError("A try must be a trained Fuser with its provenance file", str(folder), "Train it first")
    # What was trained, and how it was validated.
    command = read_object(stamp_file, REMEDY)["command"]
    history = read_csv(folder / "history.csv", index_col="step")
    if gaps := {"validation_loss", "validation_deranged_loss"} - set(history):
        raise RefusedError("A try must be validated, with swapped readings too", sorted(gaps), f"Train {folder} anew")
    losses = history["validation_loss"].dropna()
    if losses.empty:
        raise RefusedError("A try must be validated", str(folder), "Lower training.evaluate_every")
    # The settings in which tries differ, from the flags of the training's command.
    settings = {name: command[command.index("--" + name.replace("_", "-")) + 1] for name in SETTINGS}
    best = {"best_step": int(losses.idxmin()), "best_validation_loss": losses.min()}
    return {
        "scale": folder.resolve().parts[-6],
        **run._asdict(),
        **settings,
        **best,
        "validation_loss": losses.iloc[-1],
        "validation_deranged_loss": history["validation_deranged_loss"].iloc[-1],
    }


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fusers", nargs="+", type=Path, required=True, help="folders of trained fusers")
    parser.add_argument("--output", type=Path, default=Path("paper/tries.csv"))
    options = parser.parse_args(arguments)
    frame = pd.DataFrame([row(folder) for folder in options.fusers]).sort_values(["pair", "best_validation_loss"])
    with stamp(options.output, inputs=[folder / "history.csv" for folder in options.fusers]):
        write_atomically(options.output, frame.to_csv(index=False, float_format=f"%.{DECIMALS}f", lineterminator="\n"))
    print(frame.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
