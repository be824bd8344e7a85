"""Accuracy and loss by training step of the test bed's channels, with intervals over seeds, and what bounds them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from c2c.errors import RefusedError
from c2c.stats import Estimate, Spread
from c2c.testbed.card.records import (
    ADAPTER,
    BOUNDS,
    CHOICE,
    EXACT,
    MATCHED,
    NONE,
    RECEIVER,
    REMEDY,
    TEXT,
    CellIds,
    MessageRecords,
)
from paper.reading.files import read_csv
from paper.reading.messages import load_records
from paper.writing.columns import counts, decimals, estimates, titles
from paper.writing.output import run_table, write_table

COLUMNS = ["pair", "task", "seed", "channel", "message", "step", "loss", "accuracy", "exact"]
"""Of a curve; `accuracy` and `exact` are shares, `loss` is in nats a value."""
KEY = COLUMNS[:6]
SUFFIX = ".curves.csv"
"""Of a file of curves, which lies next to the records of the same seed."""
CHANCE = "chance"
"""Of a guess among the options, as a row of the table like a bound."""
MEASURES = {CHOICE: "accuracy", EXACT: "exact"}


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Curves of some files, with `COLUMNS`; a file next to records has its ids in its path where it lacks them.

    What a channel got that was trained without a message is called the message `adapter`.

    Raises:
        RefusedError: A file lacks a column.
    """
    frames = []
    for path in paths:
        frame = read_csv(path)
        ids = {"pair": path.parent.parent.name, "task": path.parent.name, "seed": _seed_of(path)}
        frame = frame.assign(**{name: value for name, value in ids.items() if name not in frame})
        if "training" in frame:
            frame.loc[frame["training"] == ADAPTER, "message"] = ADAPTER
        if gaps := [name for name in COLUMNS if name not in frame]:
            raise RefusedError(f"{path.name} must have the columns of a training curve", gaps, REMEDY)
        frames.append(frame[COLUMNS])
    curves = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)
    return curves.drop_duplicates(KEY).sort_values(KEY, ignore_index=True)


def _seed_of(path: Path) -> int:
    digits = path.name.removesuffix(SUFFIX).removeprefix("seed")
    return int(digits) if digits.isdigit() else 0


def over_seeds(values: pd.Series) -> Estimate:
    """The mean of one value a seed with the t interval of their number; no interval for one seed."""
    numbers = values.dropna().to_numpy(float)
    if not len(numbers):
        return Estimate(float("nan"), float("nan"), float("nan"), 0, 0)
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Estimate(mean, float("nan"), float("nan"), 1, 1)
    error = float(numbers.std(ddof=1)) / len(numbers) ** 0.5
    half = Spread(0.0, error, 1.0, len(numbers) - 1.0).half_width()
    return Estimate(mean, mean - half, mean + half, len(numbers), len(numbers))


def build(records: MessageRecords, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, message and step, with the accuracy in percent and the loss; bounds have no step."""
    rows = []
    keys = ["pair", "task", "channel", "message", "step"]
    for values, group in curves.groupby(keys, sort=False):
        ids = {"scale": records.scale, **dict(zip(keys, values, strict=True))}
        loss = over_seeds(group["loss"])
        for measure in records.measures(str(ids["task"])) if ids["task"] in set(records.frame["task"]) else []:
            share = over_seeds(group[MEASURES[measure]]).scaled(100)
            bounds = {name: getattr(share, name) for name in ("value", "low", "high", "seeds")}
            rows.append(ids | {"measure": measure} | bounds | {"loss": loss.value})
    for pair, task in records.tasks:
        for measure in records.measures(task):
            for channel, message in {**BOUNDS, TEXT: MATCHED}.items():
                frame = records.answers(CellIds(pair, task, channel), message, measure)
                if frame is not None:
                    ids = {"scale": records.scale, "pair": pair, "task": task, "channel": channel, "message": message}
                    value = 100 * float(frame.to_numpy().mean())
                    rows.append(ids | {"step": None, "measure": measure, "value": value, "seeds": frame.shape[1]})
        options = records.options(CellIds(pair, task, RECEIVER), BOUNDS[RECEIVER])
        if CHOICE in records.measures(task) and options is not None:
            chance = 100 * float((1 / np.isfinite(options).sum(axis=-1)).mean())
            ids = {"scale": records.scale, "pair": pair, "task": task, "channel": CHANCE, "message": NONE}
            rows.append(ids | {"step": None, "measure": CHOICE, "value": chance})
    columns = ["scale", *keys, "measure", "value", "low", "high", "seeds", "loss"]
    return pd.DataFrame(rows, columns=columns).astype({"step": "Int64", "seeds": "Int64"})


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Channel": titles(frame, "channel"),
            "Message": titles(frame, "message"),
            "Step": counts(frame, "step"),
            "Measure": list(frame["measure"]),
            "Right, % [95 %]": estimates(frame),
            "Loss, nats": decimals(frame, "loss"),
            "Seeds": counts(frame, "seeds"),
        }
    )


def write(records: MessageRecords, curves: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(records, curves)
    notes = [
        "On persons and values that no training example has. Intervals are over seeds; of one seed there is none. "
        "Adapter: trained and asked without a message; the lowest loss that it reaches is had by knowing the format "
        "and how frequent each value is, and above it a loss says nothing of a message."
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records, curves=read)
