"""The paper's validation losses of pairs that both have trained (its Figure 13b)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from paper.reading.curves import CONFIG
from paper.reading.fusers import FuserRun, models_of
from paper.reading.reference import Reference

PLACE, METRIC, STEP = "Figure 13", "validation cross-entropy", "step_"


def paper_losses(folders: Iterable[Path], reference: Reference) -> dict[str, pd.Series]:
    """`losses_by_pair` of the trainings in some folders of fusers."""
    return losses_by_pair({FuserRun.of(folder): models_of(folder / CONFIG) for folder in folders}, reference)


def losses_by_pair(models: Mapping[FuserRun, Mapping[str, str]], reference: Reference) -> dict[str, pd.Series]:
    """The paper's validation losses in nats by step (Figure 13b), of each pair that both have.

    Args:
        models: Receiver and Sharer of each training.
        reference: The paper's values.
    """
    losses: dict[str, pd.Series] = {}
    for run, roles in models.items():
        rows = reference.of_pair(PLACE, METRIC, run.pair, (roles["receiver"], roles["sharer"]))
        if run.recipe == "c2c" and rows:
            by_step = {int(row["benchmark"].removeprefix(STEP)): row["value"] for row in rows}
            losses[run.pair] = pd.Series(by_step).sort_index()
    return losses
