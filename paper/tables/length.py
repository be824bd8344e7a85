"""Accuracy by the length of what is read: LongBench-E's own buckets (Tables 5 and 11), else by tokens of the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.testbed.card.numbers import count
from paper.reading import names
from paper.reading.answers import Answers, PairIds
from paper.reading.partition import length_buckets, partition
from paper.reading.reference import Reference
from paper.rows import WIDENED, arm_row, comparison_notes, comparison_text, with_bounds, with_difference
from paper.writing.columns import estimates, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

LONG = "longbench"
"""The benchmark whose subsets are buckets of length, in words."""
WHOLE = "all"
PLACES, PANEL = ("Table 5", "Table 11"), "length {bucket}"
ARMS = ("receiver", "sharer", "t2t", "c2c", "adapter")
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "benchmark", "bucket", "arm"),
    *(*with_bounds(""), "n", "seeds", "reason", "paper", *WIDENED),
)


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark, bucket and method, in percent, the bucket `all` last.

    LongBench-E stands alone where it is asked; otherwise each benchmark has buckets of the Receiver's prompt tokens.
    """
    benchmarks = [LONG] if LONG in answers.benchmarks else answers.benchmarks
    reference, rows = Reference(), []
    for pair in answers.pairs:
        for benchmark in (name for name in answers.benchmarks_of(pair.name) if name in benchmarks):
            rows += _rows(answers, pair, benchmark, reference)
    frame = with_difference(pd.DataFrame(rows, columns=list(COLUMNS)))
    return frame.astype({"n": "Int64", "seeds": "Int64", "paper": float})


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: a row a bucket and a column a method; with values of the paper, a row a method."""
    if frame["paper"].notna().any():
        table = comparison_text(frame)
        table.insert(2, "Length", list(frame["bucket"]))
        return table
    rows = []
    for (pair, benchmark, bucket), cells in frame.groupby(["pair", "benchmark", "bucket"], sort=False, observed=True):
        ids = {"Pair": names.title("pairs", str(pair)), "Benchmark": names.title("benchmarks", str(benchmark))}
        methods = [f"{title}, %" for title in titles(cells, "arm")]
        accuracies = dict(zip(methods, estimates(cells), strict=True))
        rows.append(ids | {"Length": bucket} | accuracies | {"n": count(cells["n"].max())})
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
    return write_table(frame, text_table(frame), stem, notes, answers)


def _rows(answers: Answers, pair: PairIds, benchmark: str, reference: Reference) -> list[dict[str, Any]]:
    """Of each bucket if there are several, then of the whole."""
    if benchmark == LONG:
        labels = answers.about(benchmark, "subset")
        buckets = sorted(labels.unique())
    else:
        labels = length_buckets(answers.about(benchmark, "tokens_in", pair.name))
        buckets = list(labels.cat.categories)
    rows = []
    for bucket in [*(buckets if len(buckets) > 1 else []), WHOLE]:
        for arm in ARMS:
            frame = answers.get(pair.name, benchmark, arm)
            part = frame if frame is None or bucket == WHOLE else partition(frame, labels)[bucket]
            paper = _paper_score(reference, pair, arm, benchmark, bucket)
            row = arm_row(answers, pair, benchmark, arm, part, baseline_seeds=False, paper=paper)
            rows.append(row | {"bucket": bucket})
    return rows


def _paper_score(reference: Reference, pair: PairIds, arm: str, benchmark: str, bucket: str) -> float | None:
    """The paper's score of the same bucket; what we call `all` is its average."""
    panel = PANEL.format(bucket="average" if bucket == WHOLE else bucket)
    scores = [reference.find(place, "score", pair.name, pair[1:], arm, benchmark, panel) for place in PLACES]
    return next((score for score in scores if score is not None), None)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
