"""Results of Fusers from files of ``c2c score``, for their model card: each arm with its interval and its controls."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from c2c.errors import RefusedError
from c2c.models.contract import Contract
from c2c.storage.formats import read_text

COLUMNS = ("receiver", "sharer", "recipe", "alignment", "method", "scoring", "seed", "benchmark", "subset", "metric")
NUMBERS = ("value", "n", "low", "high")
REMEDY = "Write it with c2c score"
TOGETHER = " + "
"""Between the ids of several Sharers, as in records."""
ADAPTER = "adapter"
"""The recipe of the control whose Fusers are trained without a message."""


@dataclass(frozen=True)
class Result:
    """Accuracy of one arm on one benchmark, in percent, with its 95 % interval.

    Args:
        benchmark: Name of the benchmark.
        scoring: How answers were taken and judged.
        arm: Method, or the recipe of a control.
        value: Accuracy.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of questions.
    """

    benchmark: str
    scoring: str
    arm: str
    value: float
    low: float
    high: float
    n: int

    def entry(self) -> EvalResult:
        """The same as the hub's ``model-index`` has it."""
        return EvalResult(
            task_type="text-generation",
            dataset_type=self.benchmark,
            dataset_name=self.benchmark,
            dataset_config=self.scoring,
            metric_type="accuracy",
            metric_name=f"Accuracy in percent, {self.arm}",
            metric_value=self.value,
            metric_args={"low": self.low, "high": self.high, "n": self.n, "interval": "95 %"},
        )


def read_results(files: Sequence[Path], contracts: Sequence[Contract], about: Mapping[str, Any]) -> list[Result]:
    """Results of these Fusers and of their controls, by benchmark.

    Rows are those of the same models and of the Fusers' recipe, alignment and seed, those of `ADAPTER` with the same
    alignment and seed, and those of methods without Fusers. Subsets and other metrics are left out.

    Args:
        files: Written by ``c2c score``.
        contracts: The contract of each Sharer's Fusers.
        about: The `about` of the Fusers.

    Raises:
        RefusedError: A file is none of ``c2c score``, or none has a result of these Fusers.
    """
    recipe, alignment, seed = (str(about.get(name, "")) for name in ("recipe", "alignment", "seed"))
    training = recipe, alignment, seed
    models = contracts[0]["receiver"]["id"], TOGETHER.join(str(contract["sharer"]["id"]) for contract in contracts)
    results: dict[tuple[str, str, str], Result] = {}
    for row in _rows(files):
        if (row["receiver"], row["sharer"]) != models or (row["subset"], row["metric"]) != ("all", "accuracy"):
            continue
        if (arm := _arm(row, training)) is not None:
            value, low, high = (float(row[name]) for name in ("value", "low", "high"))
            result = Result(row["benchmark"], row["scoring"], arm, value, low, high, int(row["n"]))
            results[result.benchmark, result.scoring, arm] = result
    if not any(arm == "c2c" for *_, arm in results):
        received = f"{' and '.join(map(str, files))} for {models[0]} with {models[1]}, {training}"
        rule = "Scores for the card must have a result of these Fusers (receiver, sharer, recipe, alignment, seed)"
        raise RefusedError(rule, received, "Name the scores of their own run")
    return [results[key] for key in sorted(results, key=lambda key: (key[0], key[1], key[2] != "c2c", key[2]))]


def _arm(row: Mapping[str, str], training: tuple[str, str, str]) -> str | None:
    """Name of a row's arm on the card; None for Fusers of another training."""
    if not row["recipe"]:
        return row["method"]
    if (row["recipe"], row["alignment"], row["seed"]) == training:
        return row["method"]
    is_control = (row["recipe"], row["alignment"], row["seed"]) == (ADAPTER, *training[1:])
    return ADAPTER if is_control and row["method"] == "c2c" else None


def _rows(files: Iterable[Path]) -> Iterator[dict[str, str]]:
    for path in files:
        rows = csv.DictReader(read_text(path, REMEDY).splitlines())
        if missing := [name for name in (*COLUMNS, *NUMBERS) if name not in (rows.fieldnames or ())]:
            raise RefusedError("A file of scores must have the columns of c2c score", f"{path} without {missing}", REMEDY)
        for row in rows:
            try:
                [float(row[name]) for name in NUMBERS]
            except (TypeError, ValueError):
                received = f"{path}, line {rows.line_num}: {[row[name] for name in NUMBERS]}"
                raise RefusedError("Scores must be numbers with their interval", received, REMEDY) from None
            yield row
