"""From the records of an analysis to accuracies by method and setting, with paired intervals. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from c2c.errors import RefusedError
from c2c.evaluation.protocol import CORRECTED
from c2c.evaluation.schema import read_records
from c2c.evaluation.scoring import FAILED_SHARE, check_failed, check_records, failed, mark
from c2c.stats import NO_SEED, Estimate, accuracy_with_interval, mean_with_interval, paired_difference
from c2c.storage.files import write_atomically

RUN = ["scale", "pair", "receiver", "sharer", "recipe", "alignment", "benchmark"]
NUMBERS = ("value", "low", "high")
COLUMNS = (
    *RUN,
    "method",
    "setting",
    *NUMBERS,
    "n",
    "seeds",
    "failed",
    "tokens_in",
    "against",
    *(f"difference_{name}" for name in NUMBERS),
)


def accuracy_table(records: pd.DataFrame, against: str, protocol: str = CORRECTED) -> pd.DataFrame:
    """Accuracies in percent with 95 % intervals, and the paired difference to another method in points.

    Args:
        records: Of one analysis: every method and setting of a pair answered the same questions.
        against: The method that all others are compared with: in the same setting where it has that, else in its only
            one.
        protocol: By which answers are marked.

    Returns:
        Columns COLUMNS, methods and settings in the order of the records; `tokens_in` is the mean number of tokens that
        were read. Where a method would be compared with itself, the difference is empty.

    Raises:
        RefusedError: If the records are refused, or do not hold that method, or hold it in several other settings.
    """
    check_records(records)
    marked = records.assign(
        correct=mark(records, protocol), failed=failed(records), seed=records["seed"].fillna(NO_SEED).astype(int)
    )
    # One group a benchmark, method and setting.
    by = [*_BENCH, "method", "setting"]
    groups = {tuple(map(str, key)): group for key, group in marked.groupby(by, sort=False)}
    frames = {key: _frame(group) for key, group in groups.items()}
    # A row each, with the difference to the method that all are compared with.
    rows = []
    for key, group in groups.items():
        other = _key_to_compare(list(frames), key, against)
        # Paired question by question, so that what is hard for both methods cancels.
        difference = None if other == key else mean_with_interval(paired_difference(frames[key], frames[other]))
        numbers = accuracy_with_interval(frames[key])
        rows.append(
            {name: group[name].iloc[0] for name in [*RUN, "method", "setting"]}
            | _percent(numbers)
            | {"n": numbers.n, "seeds": numbers.seeds, "failed": int(group["failed"].sum())}
            | {"tokens_in": float(group["tokens_in"].mean()), "against": "" if difference is None else against}
            | _percent(difference, "difference_")
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


_BENCH = ["scale", "pair", "benchmark"]


def write_accuracy(
    records: Iterable[Path],
    against: str,
    output: Path,
    protocol: str = CORRECTED,
    failed_share: float = FAILED_SHARE,
) -> pd.DataFrame:
    """`accuracy_table` of files of records, written as CSV with four decimals.

    Raises:
        RefusedError: As `accuracy_table`, and where too many questions failed (`c2c.evaluation.scoring.check_failed`).
    """
    answers = read_records(records)
    table = accuracy_table(answers, against, protocol)
    check_failed(answers, failed_share)
    write_atomically(output, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    return table


def _frame(group: pd.DataFrame) -> pd.DataFrame:
    """Credits, questions as rows, seeds as columns."""
    return group.pivot(index="question_id", columns="seed", values="correct").sort_index()


def _key_to_compare(keys: list[tuple[str, ...]], key: tuple[str, ...], against: str) -> tuple[str, ...]:
    """The key of the answers that those of `key` are compared with."""
    # Keys are scale, pair, benchmark, method and setting.
    neighbours = [row for row in keys if row[:3] == key[:3]]
    candidates = [row for row in neighbours if row[3] == against]
    candidates = [row for row in candidates if row[4] == key[4]] or candidates
    if len(candidates) != 1:
        answers = [" ".join(row[3:]).strip() for row in neighbours]
        raise RefusedError(
            f"The records must hold the method {against} once, to compare all answers with it",
            answers,
            "Name a method of the records",
        )
    return candidates[0]


def _percent(estimate: Estimate | None, prefix: str = "") -> dict[str, float | None]:
    if estimate is None:
        return {f"{prefix}{name}": None for name in NUMBERS}
    scaled = estimate.scaled(100)
    return {f"{prefix}{name}": getattr(scaled, name) for name in NUMBERS}
