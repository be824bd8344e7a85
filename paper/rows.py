"""Rows of tables: our value of each cell, the paper's value of the same cell, their difference and a verdict.

`comparison` builds the tidy frame of a table that the paper has, `comparison_text` its printed form. If a scale has
any cell of the paper's table, the paper's other cells are rows too, as never run; if it has none, a note names what
the paper prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from c2c.stats import NO_SEED, accuracy_with_interval
from paper.reading import names
from paper.reading.answers import Answers, Pair
from paper.reading.reference import Reference
from paper.reading.times import TIMES, times_of
from paper.writing.output import NOTHING, count, fixed, percent, show

HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "arm"]
AGREES, HIGHER, LOWER = "agrees", "ours is higher", "ours is lower"
ELSEWHERE = "a pair or benchmark of the paper that this scale does not have"
TIME_OF = {"paper_time_s": "inference time"}
"""What a table of the paper says of a cell beside its accuracy: our column, and the paper's metric."""
CELL = ("panel", "receiver", "sharer", "arm", "benchmark")
DIFFERENCE = ("difference_value", "difference_low", "difference_high")


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
    rows = []
    for pair in answers.pairs:
        for benchmark in answers.asked(pair.name):
            for arm in arms:
                of = (pair.name, (pair.receiver, None if arm in free else pair.sharer), arm, benchmark)
                said = {column: reference.find(artefact, metric, *of) for column, metric in metrics.items()}
                rows.append(cell(answers, pair, benchmark, arm) | said)
    frame = pd.DataFrame(_with_difference(rows))
    if frame["paper"].notna().any():
        frame = pd.concat([frame, _of_paper_alone(frame, reference, artefact, arms, more)], ignore_index=True)
    frame = frame.astype({"n": "Int64", "seeds": "Int64", **dict.fromkeys(metrics, float)})
    frame = frame[[*(column for column in frame if column not in more), *more]]
    if latency is None:
        return frame.assign(**dict.fromkeys(TIMES.values(), float("nan")))
    return frame.merge(times_of(latency), how="left", on=["receiver", "sharer", "arm", "benchmark"])


def cell(answers: Answers, pair: Pair, benchmark: str, arm: str) -> dict[str, Any]:
    """Ids, accuracy in percent with its interval, n and seeds of one cell, or the reason for which it is empty."""
    found = answers.get(pair.name, benchmark, arm)
    head = dict(zip(HEAD, [answers.scale, *pair, benchmark, arm], strict=True))
    if found is None:
        return head | percent(None) | {"reason": names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark)}
    numbers = percent(accuracy_with_interval(found))
    return head | numbers | {"seeds": None if NO_SEED in found.columns else numbers["seeds"], "reason": ""}


def verdict(low: float, high: float, paper: float | None) -> str:
    """Whether the paper's value lies in our interval; nothing where one of the two is missing."""
    if paper is None or pd.isna(paper) or pd.isna(low):
        return ""
    return AGREES if low <= paper <= high else HIGHER if low > paper else LOWER


def comparison_text(
    frame: pd.DataFrame, more: dict[str, Any] | None = None, value: str = "Accuracy, % [95 %]"
) -> pd.DataFrame:
    """What a person reads of `comparison`; `more` are columns between the method's and the accuracy's neighbours."""
    rows = frame.to_dict("records")
    table = {
        "Pair": [names.title("pairs", str(row["pair"])) for row in rows],
        "Benchmark": [names.title("benchmarks", str(row["benchmark"])) for row in rows],
        "Method": [names.title("arms", str(row["arm"])) for row in rows],
        value: [show(row["value"], row["low"], row["high"]) for row in rows],
        **(more or {}),
        "n": [count(row["n"]) for row in rows],
        "Seeds": [count(row["seeds"]) for row in rows],
        **paper_columns(frame),
    }
    if "time_ms" in frame and frame["time_ms"].notna().any():
        table["Time, ms"] = [_number(row["time_ms"]) for row in rows]
    if "paper_time_s" in frame and frame["paper_time_s"].notna().any():
        table["Paper, s"] = [_number(row["paper_time_s"]) for row in rows]
    return pd.DataFrame(table)


def paper_columns(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The paper's value, the difference to it and the verdict as columns; none where no row has such a value."""
    if not frame["paper"].notna().any():
        return {}
    return {
        "Paper, %": [_number(value) for value in frame["paper"]],
        "Less paper": [
            NOTHING if pd.isna(value) else show(value, low, high, sign=True)
            for value, low, high in frame[list(DIFFERENCE)].to_numpy(float)
        ],
        "Verdict": [each or NOTHING for each in frame["verdict"]],
    }


def without_empty_paper(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """A printed table without its last column, the paper's values, where no row of `frame` has one."""
    return table if frame["paper"].notna().any() else table.iloc[:, :-1]


def comparison_notes(frame: pd.DataFrame, table: str, place: str) -> list[str]:
    """What the columns of the paper mean; or, where no cell is the paper's, what it prints at this place."""
    if frame["paper"].notna().any():
        return [
            f"Paper: as printed in {place}. Verdict: it agrees where the paper's value lies within our 95 % interval. "
            "The paper states no interval of its own."
        ]
    return printed_note(frame, table, place)


def printed_note(frame: pd.DataFrame, table: str, place: str) -> list[str]:
    """What the paper prints at `place` (``printed.yaml``), as a note; none where a cell is one of the paper's."""
    if frame["paper"].notna().any():
        return []
    entries = Reference().printed().get(table, [])
    said = [f"{entry['label']} {fixed(entry['value'], 2)} {entry['unit']}".strip() for entry in entries]
    return [f"None of these cells is one of the paper's. {place} prints: {'; '.join(said)}."] if said else []


def with_difference(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with difference to the paper and verdict, in its order."""
    return pd.DataFrame(_with_difference(frame.to_dict("records")))


def _with_difference(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        known = row["paper"] is not None and row["value"] is not None
        for name, part in zip(DIFFERENCE, ("value", "low", "high"), strict=True):
            row[name] = row[part] - row["paper"] if known else None
        row["verdict"] = verdict(row["low"], row["high"], row["paper"]) if known else ""
    return rows


def _of_paper_alone(
    frame: pd.DataFrame, reference: Reference, artefact: str, arms: Sequence[str], more: Mapping[str, str]
) -> pd.DataFrame:
    """Rows for the paper's cells that `frame` does not have: empty, with what the paper prints and a reason."""
    said = {column: _by_cell(reference, artefact, metric) for column, metric in more.items()}
    kinds = {"receiver": "models", "sharer": "models", "arm": "arms", "benchmark": "benchmarks"}
    found = frame[frame["paper"].notna()].to_dict("records")
    ours = {tuple(names.paper_name(kind, str(row[name])) for name, kind in kinds.items()) for row in found}
    without_sharer = {(receiver, arm, benchmark) for receiver, _, arm, benchmark in ours}
    rows: list[dict[str, Any]] = []
    for row in reference.rows(artefact, "accuracy"):
        receiver, sharer, arm, benchmark = (row[name] for name in kinds)
        alone = sharer in ("", "none", receiver) and (receiver, arm, benchmark) in without_sharer
        if alone or (receiver, sharer, arm, benchmark) in ours or names.ours("arms", arm) not in arms:
            continue
        ids = [frame["scale"].iloc[0], f"{receiver} from {sharer}", receiver, sharer]
        ids += [names.ours("benchmarks", benchmark), names.ours("arms", arm)]
        printed_too = {column: values.get(_cell(row)) for column, values in said.items()}
        about = {"reason": ELSEWHERE, "paper": row["value"], **printed_too}
        rows.append(dict(zip(HEAD, ids, strict=True)) | percent(None) | about)
    return pd.DataFrame(_with_difference(rows), columns=frame.columns)


def _by_cell(reference: Reference, artefact: str, metric: str) -> dict[tuple[str, ...], float]:
    return {_cell(row): row["value"] for row in reference.rows(artefact, metric)}


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in CELL)


def _number(value: float) -> str:
    return NOTHING if pd.isna(value) else fixed(value, 2)
