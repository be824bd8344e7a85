"""What training cost: hours up to each step that is kept and to the last, from the provenance files of the fusers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from c2c.errors import RefusedError
from c2c.provenance import SUFFIX, stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import read_object
from paper.command import REMEDY, command
from paper.reading.fusers import FuserRun

COLUMNS = [*FuserRun._fields, "step", "last", "processes", "gpus", "hours", "gpu_hours"]


def cost(stamps: Iterable[Path]) -> pd.DataFrame:
    """One row a fuser and step: COLUMNS.

    `hours` is what the steps took that the weights come from, with validation and checkpoints, over all starts of an
    interrupted run. `gpu_hours` is that times the GPUs, as in the paper's Table 12, and 0 where a CPU trained.

    Args:
        stamps: The provenance file of each Fuser's folder.

    Raises:
        RefusedError: A file does not say what the training cost.
    """
    rows = [row for path in stamps for row in _rows(path)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(path: Path) -> list[list[object]]:
    run = FuserRun.of(Path(str(path).removesuffix(SUFFIX)))
    cost = read_object(path, REMEDY).get("training", {}).get("cost")
    if not cost:
        raise RefusedError("A fuser's provenance must say what its training cost", str(path), "Train it again")
    steps = {int(step): seconds / 3600 for step, seconds in cost["seconds"].items()}
    return [
        [*run, step, step == max(steps), cost["processes"], cost["gpus"], hours, hours * cost["gpus"]]
        for step, hours in sorted(steps.items())
    ]


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamps", type=Path, nargs="+", required=True, help="provenance files of fusers")
    parser.add_argument("--output", type=Path, required=True, help="the table (.csv)")
    arguments = parser.parse_args()
    with stamp(arguments.output, inputs=arguments.stamps):
        write_atomically(arguments.output, cost(arguments.stamps).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    sys.exit(main())
