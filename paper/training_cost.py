"""What training cost: hours up to each step that is kept and to the last, from the provenance files of the fusers."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from c2c.provenance import SUFFIX, stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import read_object
from paper.command import REMEDY, command
from paper.reading.fusers import FuserRun

COLUMNS = [
    *(*FuserRun._fields, "step", "last", "processes", "gpus"),
    *("hours", "shared_hours", "shared_runs", "gpu_hours"),
]


def cost(stamps: Iterable[Path]) -> pd.DataFrame:
    """One row a fuser and step: COLUMNS.

    `hours` is what the steps took that the weights come from, with validation and checkpoints, over all starts of an
    interrupted run. `shared_hours` is the run's share of passes of the frozen models that `shared_runs` runs use: those
    of fusers trained together, divided among the ones that used each, or the computation of stored states, which is
    needed whole before the first step, in equal parts. The two add up to what the run took. `gpu_hours` is each of them
    times its GPUs, as in the paper's Table 12, and 0 where a CPU trained.

    Args:
        stamps: The provenance file of each Fuser's folder.

    Raises:
        RefusedError: A file does not say what the training cost.
    """
    costs = {path: _cost(path) for path in stamps}
    states = Counter(cost["shared"]["states"] for cost in costs.values() if "states" in cost.get("shared", {}))
    rows = [row for path, cost in costs.items() for row in _rows(path, cost, states)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _cost(path: Path) -> dict[str, Any]:
    cost: dict[str, Any] | None = read_object(path, REMEDY).get("training", {}).get("cost")
    if not cost:
        raise RefusedError("A fuser's provenance must say what its training cost", str(path), "Train it again")
    return cost


def _rows(path: Path, cost: dict[str, Any], states: Mapping[str, int]) -> list[list[object]]:
    """One row a step; `states` has how many runs were trained from stored states, by the hash of their index."""
    run = FuserRun.of(Path(str(path).removesuffix(SUFFIX)))
    shared_cost = cost.get("shared", {"seconds": {}, "runs": 1})
    runs = states[shared_cost["states"]] if "states" in shared_cost else shared_cost["runs"]
    gpus, shared_gpus = cost["gpus"], shared_cost.get("gpus", cost["gpus"])
    rows: list[list[object]] = []
    steps = sorted(map(int, cost["seconds"]))
    for step in steps:
        hours = cost["seconds"][str(step)] / 3600
        seconds = (
            shared_cost["seconds"] / runs if "states" in shared_cost else shared_cost["seconds"].get(str(step), 0.0)
        )
        shared_hours = seconds / 3600
        gpu_hours = hours * gpus + shared_hours * shared_gpus
        rows.append([*run, step, step == steps[-1], cost["processes"], gpus, hours, shared_hours, runs, gpu_hours])
    return rows


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
