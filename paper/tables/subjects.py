"""Accuracy by subject, and the gain over the Receiver in each (the paper's Figures 8, 9 and 10).

The 57 subjects of MMLU are in their 17 usual groups (``paper/subjects.tsv``); other benchmarks have their subsets.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.testbed.card.numbers import show_difference
from paper.reading.answers import Answers, PairIds, difference
from paper.reading.partition import partition
from paper.reading.reference import Reference
from paper.rows import WIDENED, arm_row, comparison_notes, comparison_text, with_difference
from paper.tables.length import LONG
from paper.writing.columns import differences
from paper.writing.output import notes_on_gaps, run_table, write_table

GROUPS = Path(__file__).parents[1] / "subjects.tsv"
ARMS = ("receiver", "sharer", "t2t", "c2c", "projected")
ACCURACY_PLACE, GAIN_PLACES = "Figure 8", ("Figure 9", "Figure 10")
NUMBERS = ("value", "low", "high", "gain_value", "gain_low", "gain_high", "paper", "paper_gain")
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "benchmark", "subject", "arm", "value", "low", "high", "n", "seeds"),
    *("gain_value", "gain_low", "gain_high", "paper", "paper_gain", "reason", *WIDENED),
)


@cache
def groups() -> dict[str, str]:
    """The group of each subject of MMLU."""
    return dict(pd.read_csv(GROUPS, sep="\t").itertuples(index=False, name=None))


FEWEST = 5
"""Figures leave out subjects with fewer questions: their intervals span the axis."""


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark, subject and method, in percent; `gain` is the paired one over the Receiver, in points.

    Benchmarks without subjects have no rows, nor has LongBench-E, whose subsets are lengths.
    """
    reference, rows = Reference(), []
    for pair in answers.pairs:
        for benchmark in answers.benchmarks_of(pair.name):
            subjects = _subjects(answers, benchmark)
            if benchmark != LONG and subjects.nunique() > 1:
                rows += _rows(answers, pair, benchmark, subjects, reference)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64", "seeds": "Int64"})
    frame = frame.astype(dict.fromkeys(NUMBERS, float))
    return with_difference(frame).astype({"n": "Int64", "seeds": "Int64"}) if rows else frame


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: the methods that were run."""
    frame = frame[frame["reason"] == ""].reset_index(drop=True)
    more = {"Difference to the Receiver, points": differences(frame, "gain_")}
    if frame["paper_gain"].notna().any():
        more["Paper's gain"] = [show_difference(gain) for gain in frame["paper_gain"]]
    table = comparison_text(frame, more)
    table.insert(2, "Subject", [subject.replace("_", " ") for subject in frame["subject"]])
    return table


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Subjects of MMLU in the 17 groups of its authors; of any other benchmark its own subsets.",
        *([] if len(frame) else ["Not run: no benchmark of this scale has subjects."]),
        *comparison_notes(frame, "subjects", "Figures 8 to 10"),
        *notes_on_gaps(frame.drop_duplicates(["pair", "arm", "benchmark"]), ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _subjects(answers: Answers, benchmark: str) -> pd.Series:
    """The subject of each question, in the order of their names; empty where the benchmark has none."""
    subsets = answers.about(benchmark, "subset").dropna()
    subsets = subsets[subsets != ""]
    return subsets.map(lambda subset: groups().get(subset, subset)).sort_values(kind="stable")


def _rows(
    answers: Answers, pair: PairIds, benchmark: str, subjects: pd.Series, reference: Reference
) -> list[dict[str, Any]]:
    parts = {arm: _parts(answers.get(pair.name, benchmark, arm), subjects) for arm in ARMS}
    rows = []
    for subject in subjects.unique():
        for arm in ARMS:
            if arm == "projected" and not parts[arm]:
                continue
            frame, receiver = (parts[name].get(subject) for name in (arm, "receiver"))
            gains = {"gain": None if arm == "receiver" else difference(frame, receiver)}
            paper = _paper_values(reference, pair, arm, f"{benchmark}/{subject}")
            row = arm_row(answers, pair, benchmark, arm, frame, gains, baseline_seeds=False, **paper)
            rows.append(row | {"subject": subject})
    return rows


def _parts(frame: pd.DataFrame | None, subjects: pd.Series) -> dict[str, pd.DataFrame]:
    return {} if frame is None else partition(frame.loc[frame.index.isin(subjects.index)], subjects)


def _paper_values(reference: Reference, pair: PairIds, arm: str, benchmark: str) -> dict[str, float | None]:
    """The paper's accuracy and gain of the same subject."""
    cell = (pair.name, pair[1:], arm, benchmark)
    gains = [reference.find(place, "accuracy gain over Receiver", *cell) for place in GAIN_PLACES]
    gain = next((gain for gain in gains if gain is not None), None)
    return {"paper": reference.find(ACCURACY_PLACE, "accuracy", *cell), "paper_gain": gain}


if __name__ == "__main__":
    run_table(__doc__.splitlines()[0], write, records=Answers.load)
