"""Accuracy by subject, and the gain over the Receiver in each (the paper's Figures 8, 9 and 10).

The 57 subjects of MMLU stand in their 17 usual groups (``paper/subjects.tsv``); other benchmarks have their subsets.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import NO_SEED, accuracy_with_interval
from paper.reading import names
from paper.reading.answers import Answers, Pair, difference
from paper.reading.partition import partition
from paper.reading.reference import Reference
from paper.rows import comparison_notes, comparison_text, with_difference
from paper.tables.length import LONG
from paper.writing.output import NOTHING, notes_on_gaps, percent, run_table, show, write_table

GROUPS = Path(__file__).parents[1] / "subjects.tsv"
ARMS = ("receiver", "sharer", "t2t", "c2c", "projected")
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "subject", "arm"]
ACCURACY, GAINS = "Figure 8", ("Figure 9", "Figure 10")
GAIN = ("gain_value", "gain_low", "gain_high")


@cache
def groups() -> dict[str, str]:
    """The group of each subject of MMLU."""
    return dict(pd.read_csv(GROUPS, sep="\t").itertuples(index=False, name=None))


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark, subject and method, in percent; `gain` is the paired one over the Receiver, in points.

    Benchmarks without subjects have no rows, nor has LongBench-E, whose subsets are lengths.
    """
    reference, rows = Reference(), []
    for pair in answers.pairs:
        for benchmark in answers.asked(pair.name):
            subjects = _subjects(answers, benchmark)
            if benchmark != LONG and subjects.nunique() > 1:
                rows += _rows(answers, pair, benchmark, subjects, reference)
    columns = [*HEAD, "value", "low", "high", "n", "seeds", *GAIN, "paper", "paper_gain", "reason"]
    frame = pd.DataFrame(rows, columns=columns).astype({"n": "Int64", "seeds": "Int64"})
    frame = frame.astype(dict.fromkeys([*columns[7:10], *GAIN, "paper", "paper_gain"], float))
    return with_difference(frame).astype({"n": "Int64", "seeds": "Int64"}) if rows else frame


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads: the methods that were run."""
    frame = frame[frame["reason"] == ""].reset_index(drop=True)
    gains = frame[list(GAIN)].to_numpy(float)
    more = {"Less Receiver, points": [NOTHING if pd.isna(gain[0]) else show(*gain, sign=True) for gain in gains]}
    if frame["paper_gain"].notna().any():
        more["Paper's gain"] = [
            NOTHING if pd.isna(gain) else show(gain, *2 * [float("nan")]) for gain in frame["paper_gain"]
        ]
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
    return write_table(frame, printed(frame), stem, notes, answers)


def _subjects(answers: Answers, benchmark: str) -> pd.Series:
    """The subject of each question, in the order of their names; empty where the benchmark has none."""
    found = answers.about(benchmark, "subset").dropna()
    found = found[found != ""]
    return found.map(lambda subset: groups().get(subset, subset)).sort_values(kind="stable")


def _rows(
    answers: Answers, pair: Pair, benchmark: str, subjects: pd.Series, reference: Reference
) -> list[dict[str, Any]]:
    parts = {arm: _parts(answers.get(pair.name, benchmark, arm), subjects) for arm in ARMS}
    rows = []
    for subject in subjects.unique():
        for arm in ARMS:
            if arm == "projected" and not parts[arm]:
                continue
            frame, receiver = (parts[name].get(subject) for name in (arm, "receiver"))
            head = dict(zip(HEAD, [answers.scale, *pair, benchmark, subject, arm], strict=True))
            gain = percent(None if arm == "receiver" else difference(frame, receiver), "gain_")
            numbers = _numbers(frame, pair, benchmark, arm) | {name: gain[name] for name in GAIN}
            rows.append(head | numbers | _printed(reference, head))
    return rows


def _parts(frame: pd.DataFrame | None, subjects: pd.Series) -> dict[str, pd.DataFrame]:
    return {} if frame is None else partition(frame.loc[frame.index.isin(subjects.index)], subjects)


def _numbers(frame: pd.DataFrame | None, pair: Pair, benchmark: str, arm: str) -> dict[str, Any]:
    if frame is None:
        return percent(None) | {"reason": names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark)}
    numbers = percent(accuracy_with_interval(frame))
    return numbers | {"seeds": None if NO_SEED in frame.columns else numbers["seeds"], "reason": ""}


def _printed(reference: Reference, head: dict[str, str]) -> dict[str, float | None]:
    """The paper's accuracy and gain of the same subject."""
    models = (head["receiver"], head["sharer"])
    cell = (head["pair"], models, head["arm"], f"{head['benchmark']}/{head['subject']}")
    found = [reference.find(place, "accuracy gain over Receiver", *cell) for place in GAINS]
    gain = next((value for value in found if value is not None), None)
    return {"paper": reference.find(ACCURACY, "accuracy", *cell), "paper_gain": gain}


if __name__ == "__main__":
    run_table(__doc__.splitlines()[0], write, records=Answers.read)
