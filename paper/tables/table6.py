"""Where the gain comes from: the Receiver fine-tuned itself, its own cache, no cache, another model's (Table 6)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper import names
from paper.answers import Answers, Pair, difference
from paper.output import NOTHING, count, fixed, notes_on_gaps, percent, run_table, show, write_table
from paper.reference import Reference

ARMS = ("receiver", "single", "identical", "adapter", "c2c")
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "arm"]
BOUNDS = ("value", "low", "high")
COLUMNS = [*HEAD, *(f"difference_{bound}" for bound in BOUNDS), *BOUNDS, "n", "seeds", "paper", "reason"]


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a pair whose Receiver was fine-tuned, benchmark and arm.

    `difference` is what C2C has beyond the arm, paired, in percentage points; `paper` is the paper's accuracy.
    """
    reference = reference or Reference()
    rows = [
        row
        for pair in answers.pairs
        if "single" in answers.arms_of(pair.name)
        for benchmark in answers.asked(pair.name)
        for row in _rows(answers, reference, pair, benchmark)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "seeds": "Int64", "paper": float})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    columns = ["Pair", "Benchmark", "What is trained", "Accuracy, % [95 %]", "C2C beyond it, points [95 %]"]
    rows = [
        [
            names.title("pairs", row.pair),
            names.title("benchmarks", row.benchmark),
            names.title("arms", row.arm),
            show(row.value, row.low, row.high),
            NOTHING
            if pd.isna(row.difference_value)
            else show(row.difference_value, row.difference_low, row.difference_high, sign=True),
            count(row.n),
            count(row.seeds),
            NOTHING if pd.isna(row.paper) else fixed(row.paper, 2),
        ]
        for row in frame.itertuples()
    ]
    return pd.DataFrame(rows, columns=[*columns, "n", "Seeds", "Paper, %"])


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Single: all weights of the Receiver learn, on the same examples in the same order, and nobody is read. "
        "Identical: a Fuser whose Sharer is the Receiver itself. Adapter: a Fuser with a Sharer cache of zeros. "
        "Differences are on the training seeds that both have.",
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
        *answers.remarks,
    ]
    return write_table(frame, printed(frame), stem, notes)


def _rows(answers: Answers, reference: Reference, pair: Pair, benchmark: str) -> list[dict[str, object]]:
    c2c = answers.get(pair.name, benchmark, "c2c")
    rows = []
    for arm in ARMS:
        frame = answers.get(pair.name, benchmark, arm)
        head = dict(zip(HEAD, [answers.scale, *pair, benchmark, arm], strict=True))
        beyond = None if arm == "c2c" else difference(c2c, frame)
        accuracy = None if frame is None else accuracy_with_interval(frame)
        reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if frame is None else ""
        paper = _paper(reference, pair, arm, benchmark)
        rows.append(head | percent(beyond, "difference_") | percent(accuracy) | {"paper": paper, "reason": reason})
    return rows


def _paper(reference: Reference, pair: Pair, arm: str, benchmark: str) -> float | None:
    """What Table 6 of the paper has for a cell; its Sharer is the pair's for C2C alone."""
    receiver, sharer = (names.paper_name("models", name) for name in pair[1:])
    whose = {"single": "none", "identical": receiver, "c2c": sharer}
    if arm not in whose:
        return None
    cell = {"method": names.paper_name("arms", arm), "benchmark": names.paper_name("benchmarks", benchmark)}
    return reference.accuracy("Table 6", receiver=receiver, sharer=whose[arm], **cell)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
