"""Scores as a tidy table: one row a run, benchmark, subset and metric."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from c2c.errors import RefusedError
from c2c.evaluation.protocol import CORRECTED, FAILED_SHARE, active
from c2c.evaluation.schema import RECORD_SCHEMA, conform, read_records
from c2c.evaluation.scoring.checks import check_records
from c2c.evaluation.scoring.rules import GRADED, failed, mark
from c2c.provenance import stamp
from c2c.stats import bootstrap_mean, wilson_interval
from c2c.storage.files import write_atomically
from c2c.storage.markup import csv_text

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
    # Each answer counts in the whole benchmark, and in its subset if it has one.
    parts = pd.concat([flags.assign(subset=WHOLE), flags[flags["subset"] != ""]])
    long = parts.melt(id_vars=[*RUN_KEY, "subset"], value_vars=["credit", "failed"], var_name="metric")
    if active(protocol, "failed_left_out"):
        # `melt` stacks the credits of all rows, then the failures of all rows.
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


def check_failed(records: pd.DataFrame, failed_share: float = FAILED_SHARE) -> None:
    """Refuse records in which too many questions failed.

    Args:
        records: Of `check_records`.
        failed_share: The largest share, in [0, 1], of a method's questions of a benchmark that may have failed.

    Raises:
        RefusedError: With each method, setting and benchmark above that share, and the first error of one; or if the
            share is none.
    """
    if not 0 <= failed_share <= 1:
        raise RefusedError("The share of failed questions must be in [0, 1]", failed_share, "Choose 0.05")
    # Shares of failed questions by run, pair and setting.
    lost = failed(records)
    shares = lost.groupby([records[name] for name in (*RUN_KEY, "pair", "setting")], dropna=False).mean()
    if not (above := shares[shares > failed_share]).empty:
        names = {name: number for number, name in enumerate(shares.index.names)}
        received = {
            " ".join(str(key[names[name]]) for name in ("pair", "method", "setting", "benchmark")): f"{share:.1%}"
            for key, share in above.items()
            if isinstance(key, tuple)
        }
        raise RefusedError(
            f"At most {failed_share:.1%} of a method's questions of a benchmark must have failed",
            {**received, "the first error": records.loc[lost, "error"].iloc[0]},
            "Mend what made them fail and generate anew, or raise failed_share (--failed-share)",
        )


def scores_text(scores: pd.DataFrame) -> str:
    """The one way in which scores are written as CSV: four decimals, empty where a column has no meaning."""
    return csv_text(scores, 4)


def score_files(
    records: Iterable[Path], output: Path, protocol: str = CORRECTED, failed_share: float = FAILED_SHARE
) -> None:
    """Score parquet files of records into one CSV, with its provenance beside it; failed questions are counted there.

    Raises:
        RefusedError: The records are refused, by `check_records` or by `check_failed`.
    """
    paths = [Path(path) for path in records]
    with stamp(output, inputs=paths, settings={"protocol": protocol, "failed_share": failed_share}) as notes:
        answers = read_records(paths)
        scores = score_records(answers, protocol)
        notes["records"] = {"rows": len(answers), "failed": int(failed(answers).sum())}
        if notes["records"]["failed"]:
            print(f"{notes['records']['failed']} of {len(answers)} questions failed", file=sys.stderr)
        check_failed(answers, failed_share)
        write_atomically(Path(output), scores_text(scores))


def _interval(metric: str, values: np.ndarray) -> tuple[float, float]:
    if metric == "score":
        mean = bootstrap_mean(values)
        return mean.low, mean.high
    return wilson_interval(round(values.sum()), len(values))
