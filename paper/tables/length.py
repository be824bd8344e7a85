"""Accuracy by the length of what is read: LongBench-E's own buckets (Tables 5 and 11), else by tokens of the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import NO_SEED, accuracy_with_interval
from paper.reading import names
from paper.reading.answers import Answers, Pair
from paper.reading.partition import length_buckets, partition
from paper.reading.reference import Reference
from paper.rows import comparison_notes, comparison_text, with_difference
from paper.writing.output import count, notes_on_gaps, percent, run_table, show, write_table

LONG = "longbench"
"""The benchmark whose subsets are buckets of length, in words."""
WHOLE = "all"
PLACES, PANEL = ("Table 5", "Table 11"), "length {bucket}"
ARMS = ("receiver", "sharer", "t2t", "c2c", "adapter")
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "bucket", "arm"]


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark, bucket and method, in percent, the bucket `all` last.

    LongBench-E stands alone where it is asked; otherwise each benchmark has buckets of the Receiver's prompt tokens.
    """
    asked = [LONG] if LONG in answers.benchmarks else answers.benchmarks
    reference, rows = Reference(), []
    for pair in answers.pairs:
        for benchmark in (each for each in answers.asked(pair.name) if each in asked):
            rows += _rows(answers, pair, benchmark, reference)
    frame = with_difference(pd.DataFrame(rows))
    return frame.astype({"n": "Int64", "seeds": "Int64", "paper": float})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads: a row a bucket, with the methods side by side; with the paper's values, a row a method."""
    if frame["paper"].notna().any():
        table = comparison_text(frame)
        table.insert(2, "Length", list(frame["bucket"]))
        return table
    rows = []
    for (pair, benchmark, bucket), cells in frame.groupby(["pair", "benchmark", "bucket"], sort=False, observed=True):
        titles = {"Pair": names.title("pairs", str(pair)), "Benchmark": names.title("benchmarks", str(benchmark))}
        shown = {f"{names.title('arms', row.arm)}, %": show(row.value, row.low, row.high) for row in cells.itertuples()}
        rows.append(titles | {"Length": bucket} | shown | {"n": count(cells["n"].max())})
    return pd.DataFrame(rows)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Length: words of the text, as LongBench-E divides its questions."
        if LONG in answers.benchmarks
        else "Length: tokens of the prompt as the Receiver alone reads it, in up to three buckets of about equally "
        "many questions (LongBench-E, which has buckets of its own, is not asked at this scale).",
        *comparison_notes(frame, "length", "Tables 5 and 11" if frame["paper"].notna().any() else "Table 5"),
        *notes_on_gaps(frame[frame["bucket"] == WHOLE], ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _rows(answers: Answers, pair: Pair, benchmark: str, reference: Reference) -> list[dict[str, Any]]:
    """Of each bucket, then of the whole, where there are two or more."""
    if benchmark == LONG:
        parts = answers.about(benchmark, "subset")
        buckets = sorted(parts.unique())
    else:
        parts = length_buckets(answers.about(benchmark, "tokens_in", pair.name))
        buckets = list(parts.cat.categories)
    rows = []
    for bucket in [*(buckets if len(buckets) > 1 else []), WHOLE]:
        for arm in ARMS:
            frame = answers.get(pair.name, benchmark, arm)
            chosen = frame if frame is None or bucket == WHOLE else partition(frame, parts)[bucket]
            head = dict(zip(HEAD, [answers.scale, *pair, benchmark, bucket, arm], strict=True))
            rows.append(head | _numbers(chosen, pair, benchmark, arm) | {"paper": _printed(reference, head)})
    return rows


def _numbers(frame: pd.DataFrame | None, pair: Pair, benchmark: str, arm: str) -> dict[str, Any]:
    if frame is None:
        return percent(None) | {"reason": names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark)}
    numbers = percent(accuracy_with_interval(frame))
    return numbers | {"seeds": None if NO_SEED in frame.columns else numbers["seeds"], "reason": ""}


def _printed(reference: Reference, head: dict[str, str]) -> float | None:
    """The paper's score of the same bucket; its average stands under another name than ours."""
    bucket = "average" if head["bucket"] == WHOLE else head["bucket"]
    cell = (head["pair"], (head["receiver"], head["sharer"]), head["arm"], head["benchmark"])
    found = [reference.find(place, "score", *cell, PANEL.format(bucket=bucket)) for place in PLACES]
    return next((value for value in found if value is not None), None)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
