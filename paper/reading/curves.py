"""Training curves of all fusers of a scale in one small table, ``curves.csv``: committed with the records.

The history of a training has a row for each step. Here a row is a step at which the validation set was evaluated, or
the last one, and the training loss is the mean over the steps since the row before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from c2c.errors import RefusedError
from paper.reading.files import read_csv
from paper.reading.fusers import FuserRun, models_of, read_tables

HISTORY, CONFIG = "history.csv", "config.json"
"""Files of a fuser's folder."""
MODELS = ("receiver", "sharer")
LOSSES = ("loss", "validation_loss", "validation_deranged_loss")
"""Cross-entropies in nats: training, validation, and validation where the Sharer reads another prompt."""
COLUMNS = (*FuserRun._fields, *MODELS, "step", *LOSSES, "open_gates")
REMEDY = "Collect the curves again: python -m paper.collect"


def curves_of(folders: Sequence[Path]) -> pd.DataFrame:
    """The table `COLUMNS` of the fusers in some folders; an empty one for none.

    Raises:
        RefusedError: A folder lacks its history or its config.
    """
    if not folders:
        return pd.DataFrame(columns=list(COLUMNS))
    history = read_tables(folders, HISTORY)
    models = {FuserRun.of(folder): models_of(folder / CONFIG) for folder in folders}
    parts = []
    for run, rows in history.groupby(list(FuserRun._fields), sort=False):
        # A part of the training is the steps after one evaluation, up to the next.
        is_evaluation = rows["validation_loss"].notna()
        part = is_evaluation.shift(fill_value=False).cumsum()
        means = rows.assign(loss=rows.groupby(part)["loss"].transform("mean"), **models[FuserRun(*run)])
        parts.append(means[is_evaluation | (rows["step"] == rows["step"].max())])
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def read_curves(path: Path) -> pd.DataFrame:
    """A committed table of curves.

    Raises:
        RefusedError: It has other columns, or a step of a training twice.
    """
    curves = read_csv(path)
    if list(curves.columns) != list(COLUMNS):
        raise RefusedError(f"{path.name} must have the columns {', '.join(COLUMNS)}", list(curves.columns), REMEDY)
    if (twice := curves.duplicated([*FuserRun._fields, "step"])).any():
        row = curves.loc[twice, [*FuserRun._fields, "step"]].iloc[0].to_dict()
        raise RefusedError(f"{path.name} must have each step of a training once", row, REMEDY)
    return curves


def check_curves(curves: pd.DataFrame, records: pd.DataFrame) -> None:
    """Check that the curves are those of the trainings whose fusers answered.

    Raises:
        RefusedError: A curve is of a training without answers, or a training of these recipes has no curve.
    """
    columns = list(FuserRun._fields)
    answer_rows = records[(records["alignment"] != "") & records["recipe"].isin(curves["recipe"])]
    answer_rows = answer_rows[answer_rows["pair"].isin(curves["pair"])]
    answer_runs, curve_runs = (
        {FuserRun(*row) for row in frame[columns].values.tolist()} for frame in (answer_rows, curves)
    )
    for rule, difference in (
        ("Each training curve must be of fusers that answered", curve_runs - answer_runs),
        ("Each training whose fusers answered must have its curve", answer_runs - curve_runs),
    ):
        if difference:
            raise RefusedError(rule, "/".join(map(str, min(difference))), REMEDY)


def last_and_best(curves: pd.DataFrame) -> pd.DataFrame:
    """Of each training the validation loss at its last step, and the lowest one with its step.

    Columns: those of `FuserRun`, ``last_step``, ``last``, ``best_step`` and ``best``.
    """
    rows = []
    for run, part in curves.dropna(subset=["validation_loss"]).groupby(list(FuserRun._fields), sort=False):
        last, best = part.loc[part["step"].idxmax()], part.loc[part["validation_loss"].idxmin()]
        rows.append((*run, last["step"], last["validation_loss"], best["step"], best["validation_loss"]))
    return pd.DataFrame(rows, columns=[*FuserRun._fields, "last_step", "last", "best_step", "best"])
