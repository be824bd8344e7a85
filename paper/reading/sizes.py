"""Parameters of models as records name them, from ``config/models.tsv``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pandas as pd

PATH = Path(__file__).parents[2] / "config/models.tsv"


@cache
def _sizes() -> dict[str, float]:
    table = pd.read_csv(PATH, sep="\t", keep_default_na=False)
    ids = table["hub_id"].where(table["hub_id"] != "", table["model"])
    return dict(zip(ids, table["parameters_m"].astype(float), strict=True))


def parameters(model: str) -> float | None:
    """Millions of parameters of a model by its hub id (or its name in the generated world); None where unlisted."""
    return _sizes().get(model)


def family(title: str) -> str:
    """The title of a model without its size, as in "Qwen2.5-Coder" for "Qwen2.5-Coder-0.5B"."""
    return re.sub(r"-\d+(\.\d+)?[MB]\b.*", "", title)
