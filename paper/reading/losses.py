"""The paper's validation losses of pairs that both have trained (its Figure 13b)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from paper.reading.fusers import FuserRun, models_of
from paper.reading.reference import Reference

CONFIG = "config.json"
PLACE, METRIC, STEP = "Figure 13", "validation cross-entropy", "step_"


def paper_losses(folders: Iterable[Path], reference: Reference) -> dict[str, pd.Series]:
    """The paper's validation losses in nats by step (Figure 13b), of each pair that both have."""
    losses: dict[str, pd.Series] = {}
    for folder in folders:
        run, models = FuserRun.of(folder), models_of(folder / CONFIG)
        rows = reference.of_pair(PLACE, METRIC, run.pair, (models["receiver"], models["sharer"]))
        if run.recipe == "c2c" and rows:
            by_step = {int(row["benchmark"].removeprefix(STEP)): row["value"] for row in rows}
            losses[run.pair] = pd.Series(by_step).sort_index()
    return losses
