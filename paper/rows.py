"""Rows of tables: our value of each cell, the paper's value of the same cell, their difference and a verdict.

`comparison` builds the tidy frame of a table that the paper has, `comparison_text` its printed form. If a scale has
any cell of the paper's table, the paper's other cells are rows too, as never run; if it has none, a note names what
the paper prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from c2c.stats import NO_SEED, Estimate, accuracy_with_interval
from c2c.testbed.card.numbers import NOTHING, decimal
from paper.reading import names
from paper.reading.alignments import MAIN_ALIGNMENT, UNTRAINED
from paper.reading.answers import Answers, PairIds
from paper.reading.reference import Reference
from paper.reading.times import TIMES, times_of
from paper.verdicts import SEED_SD, place
from paper.writing.columns import BOUNDS, decimals, differences, estimates, sizes, titles

ID_COLUMNS = ("scale", "pair", "receiver", "sharer", "benchmark", "arm")
"""Columns that name the cell that a row holds."""
ALIGNMENT = "alignment"
"""Column of the token alignment with which the fuser of a row was trained."""
ELSEWHERE = "a pair or benchmark of the paper that this scale does not have"
TIME_OF = {"paper_time_s": "inference time"}
"""A further metric of a cell in a table of the paper: our column, and the paper's name of the metric."""
PAPER_CELL = ("panel", "receiver", "sharer", "arm", "benchmark")
"""Columns that name a cell of a table of the paper."""
DIFFERENCE = ("difference_value", "difference_low", "difference_high")
WIDENED = ("widened_low", "widened_high")
"""Columns of the interval within which a printed value agrees with ours, in percent."""


def with_bounds(*prefixes: str) -> list[str]:
    """Columns of estimates: `value`, `low` and `high` behind each prefix; an empty prefix is the accuracy's."""
    return [f"{prefix}_{bound}".lstrip("_") for prefix in prefixes for bound in BOUNDS]


def percent(estimate: Estimate | None, prefix: str = "") -> dict[str, float | int | None]:
    """Columns `value`, `low`, `high`, `n`, `seeds` of an estimate in percent; empty for None."""
    if estimate is None:
        return {f"{prefix}{name}": None for name in BOUNDS} | {"n": None, "seeds": None}
    percents = estimate.scaled(100)
    bounds = {f"{prefix}value": percents.value, f"{prefix}low": percents.low, f"{prefix}high": percents.high}
    return bounds | {"n": percents.n, "seeds": percents.seeds}


def points(estimate: Estimate | None, prefix: str) -> dict[str, Any]:
    """Columns of a paired difference in percentage points: value, low and high; empty for None."""
    numbers = percent(estimate)
    return {f"{prefix}{bound}": numbers[bound] for bound in BOUNDS}


def accuracy(frame: pd.DataFrame | None, prefix: str = "", baseline_seeds: bool = True) -> dict[str, Any]:
    """Accuracy of answers in percent with its interval, n and seeds; empty for an arm that was never run.

    Args:
        frame: Answers as `Answers.get` gives them.
        prefix: Of the columns.
        baseline_seeds: Whether answers without a training seed count as one seed; else their number is empty.
    """
    if frame is None:
        return percent(None, prefix)
    numbers = percent(accuracy_with_interval(frame), prefix)
    return numbers if baseline_seeds or NO_SEED not in frame.columns else numbers | {"seeds": None}


def widened(frame: pd.DataFrame | None) -> dict[str, float | None]:
    """Columns `WIDENED`: the interval of an accuracy, widened by the seed term of `compare_size`.

    The standard deviation of the trainings is the measured one where there are several, else `SEED_SD`; answers without
    a training have no seed term.
    """
    if frame is None:
        return dict.fromkeys(WIDENED)
    seed_sd = 0.0 if NO_SEED in frame.columns else SEED_SD
    estimate = accuracy_with_interval(frame).scaled(100).widened(seed_sd)
    return dict(zip(WIDENED, (estimate.low, estimate.high), strict=True))


def arm_row(
    answers: Answers,
    pair: PairIds,
    benchmark: str,
    arm: str,
    frame: pd.DataFrame | None,
    gains: Mapping[str, Estimate | None] = MappingProxyType({}),
    baseline_seeds: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """One row of a table of arms: ids, accuracy in percent, paired differences in points, and why it is empty if it is.

    Args:
        answers: Of one scale.
        pair: That was asked.
        benchmark: Of which the answers are.
        arm: That answered.
        frame: Its answers (`Answers.get`), or None where it was never run.
        gains: Paired differences by the prefix of their columns (`paper.reading.answers.difference`).
        baseline_seeds: As in `accuracy`.
        more: Further columns, such as `paper`, the paper's value of the same cell.
    """
    row = dict(zip(ID_COLUMNS, [answers.scale, *pair, benchmark, arm], strict=True))
    row[ALIGNMENT] = answers.alignment_of(pair.name, arm)
    for name, gain in gains.items():
        row |= points(gain, f"{name}_")
    reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if frame is None else ""
    return row | accuracy(frame, "", baseline_seeds) | {"reason": reason} | more | widened(frame)


def tidy(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as the tidy frame of a table, with these columns and with whole numbers where they are counts.

    Where a row is not of the alignment span, a column of the rows' alignments follows that of the arms.
    """
    types = {"n": "Int64", "seeds": "Int64", "paper": float}
    names_of_columns = list(columns)
    if ALIGNMENT not in columns and "arm" in columns:
        names_of_columns.insert(names_of_columns.index("arm") + 1, ALIGNMENT)
    frame = pd.DataFrame(rows, columns=names_of_columns)
    if ALIGNMENT not in columns:
        frame = with_other_alignments(frame)
    return frame.astype({name: kind for name, kind in types.items() if name in frame})


def with_other_alignments(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` without its column of token alignments, if all that was trained has span."""
    alignments = set(frame.get(ALIGNMENT, pd.Series(dtype=str)).fillna(UNTRAINED))
    return frame.drop(columns=ALIGNMENT, errors="ignore") if alignments <= {UNTRAINED, MAIN_ALIGNMENT} else frame


def alignment_column(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The rows' token alignments as a column of a printed table; none where all that was trained has span."""
    return {"Alignment": [name or NOTHING for name in frame[ALIGNMENT].fillna("")]} if ALIGNMENT in frame else {}


def with_gain(frame: pd.DataFrame, gain_of: Callable[[Any], Estimate | None], prefix: str = "gain") -> pd.DataFrame:
    """`frame` with an estimate in percent or points of each row, as columns `prefix`_value, _low and _high."""
    numbers = [[percent(gain_of(row))[bound] for bound in BOUNDS] for row in frame.itertuples()]
    return frame.join(pd.DataFrame(numbers, index=frame.index, columns=with_bounds(prefix), dtype=float))


def comparison(
    answers: Answers,
    latency: pd.DataFrame | None,
    artefact: str,
    arms: Sequence[str],
    free_sharer: Iterable[str] = (),
    more: Mapping[str, str] = TIME_OF,
) -> pd.DataFrame:
    """One row a pair, benchmark and arm, with what the paper prints of the same cell.

    A cell is the paper's if `artefact` is a place of the pair (`names.places`): the same models after another training
    do not count.

    Args:
        answers: Of one scale.
        latency: Its latency summary, or None; times are milliseconds, the paper's seconds.
        artefact: Of the paper, as in ``Table 4``.
        arms: In this order.
        free_sharer: Arms that the paper lists under another Sharer than the pair's, or under none.
        more: The paper's further metrics of a cell, by the column that they come into.
    """
    reference, free, metrics = Reference(), set(free_sharer), {"paper": "accuracy", **more}
    # Our cells, each with what the paper prints of it.
    rows = []
    for pair in answers.pairs:
        for benchmark in answers.benchmarks_of(pair.name):
            for arm in arms:
                cell = (pair.name, (pair.receiver, None if arm in free else pair.sharer), arm, benchmark)
                paper_values = {column: reference.find(artefact, metric, *cell) for column, metric in metrics.items()}
                frame = answers.get(pair.name, benchmark, arm)
                rows.append(arm_row(answers, pair, benchmark, arm, frame, baseline_seeds=False, **paper_values))
    frame = with_other_alignments(pd.DataFrame(_with_difference(rows)))
    # The paper's other cells, if it has any of ours.
    if frame["paper"].notna().any():
        frame = pd.concat([frame, _of_paper_alone(frame, reference, artefact, arms, more)], ignore_index=True)
    frame = frame.astype({"n": "Int64", "seeds": "Int64", **dict.fromkeys(metrics, float)})
    frame = frame[[*(column for column in frame if column not in more), *more]]
    # Times.
    if latency is None:
        return frame.assign(**dict.fromkeys(TIMES.values(), float("nan")))
    return frame.merge(times_of(latency), how="left", on=["receiver", "sharer", "arm", "benchmark"])


def verdict(row: Mapping[str, Any]) -> str:
    """Whether the paper's value of a cell agrees with ours, by the rule for the sizes of claims (`compare_size`).

    Args:
        row: Columns ``value``, `WIDENED` and ``paper``, in percent.

    Returns:
        One of the words of `compare_size`; empty where one of the two values is missing.
    """
    if pd.isna(row["value"]) or pd.isna(row["paper"]):
        return ""
    return place(row["paper"], *(row[name] for name in WIDENED))


def comparison_text(
    frame: pd.DataFrame, more: dict[str, Any] | None = None, value: str = "Accuracy, % [95 %]"
) -> pd.DataFrame:
    """What a person reads of `comparison`; `more` are columns between the method's and the accuracy's neighbours."""
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Method": titles(frame, "arm"),
        **alignment_column(frame),
        value: estimates(frame),
        **(more or {}),
        **sizes(frame),
        **paper_columns(frame),
    }
    if "time_ms" in frame and frame["time_ms"].notna().any():
        table["Time, ms"] = decimals(frame, "time_ms")
    if "paper_time_s" in frame and frame["paper_time_s"].notna().any():
        table["Paper, s"] = decimals(frame, "paper_time_s")
    return pd.DataFrame(table)


def paper_columns(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The paper's value, the difference to it and the verdict as columns; none where no row has such a value."""
    if not frame["paper"].notna().any():
        return {}
    return {
        "Paper, %": decimals(frame, "paper"),
        "Less paper": differences(frame),
        "Verdict": [verdict or NOTHING for verdict in frame["verdict"]],
    }


def paper_column(frame: pd.DataFrame, title: str = "Paper, %", digits: int = 2) -> dict[str, list[str]]:
    """The paper's value as a column of a printed table; none where no row has such a value."""
    return {title: decimals(frame, "paper", digits)} if frame["paper"].notna().any() else {}


def comparison_notes(frame: pd.DataFrame, table: str, place: str) -> list[str]:
    """What the columns of the paper mean; or, where no cell is the paper's, what it prints at this place."""
    if frame["paper"].notna().any():
        return [
            f"Paper: as printed in {place}, without an interval. Verdict: the paper's value agrees where our 95 % "
            "interval holds it. Of a trained method it is widened by the seed term 1.96 s √(1 + 1/k) of k trainings, "
            f"because the paper's value is that of one training; s is the standard deviation of ours, or "
            f"{decimal(SEED_SD, 0)} points where we have one."
        ]
    return printed_note(frame, table, place)


def printed_note(frame: pd.DataFrame, table: str, place: str) -> list[str]:
    """What the paper prints at `place` (``printed.yaml``), as a note; none where a cell is one of the paper's."""
    if frame["paper"].notna().any():
        return []
    entries = Reference().values().get(table, [])
    values = [f"{entry['label']} {decimal(entry['value'], 2)} {entry['unit']}".strip() for entry in entries]
    return [f"None of these cells is one of the paper's. {place} prints: {'; '.join(values)}."] if values else []


def with_difference(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with difference to the paper and verdict, in its order."""
    return pd.DataFrame(_with_difference(frame.to_dict("records")))


def _with_difference(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        is_compared = row["paper"] is not None and row["value"] is not None
        for name, part in zip(DIFFERENCE, ("value", "low", "high"), strict=True):
            row[name] = row[part] - row["paper"] if is_compared else None
        # Behind the difference, and only where there is something to compare.
        row |= {name: row.pop(name, None) if is_compared else None for name in WIDENED}
        row["verdict"] = verdict(row) if is_compared else ""
    return rows


def _of_paper_alone(
    frame: pd.DataFrame, reference: Reference, artefact: str, arms: Sequence[str], more: Mapping[str, str]
) -> pd.DataFrame:
    """Rows for the paper's cells that `frame` does not have: empty, with what the paper prints and a reason."""
    values_by_cell = {column: _by_cell(reference, artefact, metric) for column, metric in more.items()}
    kinds = {"receiver": "models", "sharer": "models", "arm": "arms", "benchmark": "benchmarks"}
    with_paper = frame[frame["paper"].notna()].to_dict("records")
    cells = {tuple(names.paper_name(kind, str(row[name])) for name, kind in kinds.items()) for row in with_paper}
    without_sharer = {(receiver, arm, benchmark) for receiver, _, arm, benchmark in cells}
    rows: list[dict[str, Any]] = []
    for row in reference.rows(artefact, "accuracy"):
        receiver, sharer, arm, benchmark = (row[name] for name in kinds)
        is_alone = sharer in ("", "none", receiver) and (receiver, arm, benchmark) in without_sharer
        if is_alone or (receiver, sharer, arm, benchmark) in cells or names.id_of("arms", arm) not in arms:
            continue
        ids = [frame["scale"].iloc[0], f"{receiver} from {sharer}", receiver, sharer]
        ids += [names.id_of("benchmarks", benchmark), names.id_of("arms", arm)]
        printed_too = {column: values.get(_cell(row)) for column, values in values_by_cell.items()}
        about = {"reason": ELSEWHERE, "paper": row["value"], **printed_too}
        rows.append(dict(zip(ID_COLUMNS, ids, strict=True)) | percent(None) | about)
    return pd.DataFrame(_with_difference(rows), columns=frame.columns)


def _by_cell(reference: Reference, artefact: str, metric: str) -> dict[tuple[str, ...], float]:
    return {_cell(row): row["value"] for row in reference.rows(artefact, metric)}


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in PAPER_CELL)
