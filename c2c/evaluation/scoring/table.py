"""Scores as a tidy table: one row a run, benchmark, subset and metric."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from c2c.evaluation.protocol import CORRECTED, active
from c2c.evaluation.schema import RECORD_SCHEMA, conform, read_records
from c2c.evaluation.scoring.checks import check_records
from c2c.evaluation.scoring.rules import GRADED, failed, mark
from c2c.files import write_atomically
from c2c.markup import csv_text
from c2c.provenance import stamp
from c2c.stats import bootstrap_mean, wilson_interval

RUN_KEY = ["scale", "receiver", "sharer", "recipe", "alignment", "method", "scoring", "seed", "benchmark"]
SCORE_COLUMNS = [*RUN_KEY, "subset", "metric", "value", "n", "low", "high"]
WHOLE = "all"


def score_records(records: pd.DataFrame, protocol: str = CORRECTED) -> pd.DataFrame:
    """Scores with `SCORE_COLUMNS` in percent: one row per run, benchmark, subset and metric.

    `n` counts questions; subset `all` is the whole benchmark. `low` and `high` bound a 95 % interval of the one seed:
    Wilson's for `accuracy` and `failed`; for `score`, the mean credit of scorings that give parts of a point, a
    bootstrap over questions.
    """
    records = conform(records, RECORD_SCHEMA)
    check_records(records)
    flags = records[[*RUN_KEY, "subset"]].assign(credit=mark(records, protocol), failed=failed(records).astype(float))
    flags["subset"] = flags["subset"].fillna("")
    parts = pd.concat([flags.assign(subset=WHOLE), flags[flags["subset"] != ""]])
    long = parts.melt(id_vars=[*RUN_KEY, "subset"], value_vars=["credit", "failed"], var_name="metric")
    if active(protocol, "failed_left_out"):
        lost = np.concatenate([parts["failed"] == 1] * 2)
        long = long[~(lost & (long["metric"] == "credit"))]
    graded = long["scoring"].isin(GRADED)
    long["metric"] = long["metric"].where(long["metric"] != "credit", np.where(graded, "score", "accuracy"))
    groups = long.groupby([*RUN_KEY, "subset", "metric"], dropna=False)["value"]
    scores = groups.agg(["mean", "count"]).reset_index()
    scores = scores.assign(value=100 * scores["mean"], n=scores["count"])
    bounds = [_interval(str(key[-1]), values.to_numpy()) for key, values in groups]
    scores[["low", "high"]] = 100 * np.array(bounds)
    return scores[SCORE_COLUMNS].sort_values(SCORE_COLUMNS[:11], na_position="first", ignore_index=True)


def scores_text(scores: pd.DataFrame) -> str:
    """The one way in which scores are written as CSV: four decimals, empty where a column has no meaning."""
    return csv_text(scores, 4)


def score_files(records: Iterable[Path], output: Path, protocol: str = CORRECTED) -> None:
    """Score parquet files of records into one CSV, with its provenance beside it."""
    paths = [Path(path) for path in records]
    with stamp(output, inputs=paths, settings={"protocol": protocol}):
        write_atomically(Path(output), scores_text(score_records(read_records(paths), protocol)))


def _interval(metric: str, values: np.ndarray) -> tuple[float, float]:
    if metric == "score":
        mean = bootstrap_mean(values)
        return mean.low, mean.high
    return wilson_interval(round(values.sum()), len(values))
