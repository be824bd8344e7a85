"""Two agents, interpreter and solver: by text, by cache, and by both, beside one model alone (Table 15)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper.reading import names
from paper.reading.answers import Answers, Pair, difference
from paper.reading.reference import Reference
from paper.rows import printed_note, without_empty_paper
from paper.writing.output import NOTHING, arm_cells, fixed, notes_on_gaps, percent, run_table, write_table

ARMS = ("receiver", "sharer", "t2t_agents", "c2c", "c2c_deranged", "t_c2c", "t_c2c_deranged")
PLACE = "Table 15"
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "arm"]
BOUNDS = ("value", "low", "high")
COLUMNS = [*HEAD, *(f"difference_{bound}" for bound in BOUNDS), *BOUNDS, "n", "seeds", "paper", "reason"]


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a pair that was asked as two agents, benchmark that they were asked, and arm.

    `difference` is what T-C2C has beyond the arm, paired, in percentage points; `paper` is the paper's accuracy.
    """
    reference = reference or Reference()
    rows = [
        row
        for pair in answers.pairs
        for benchmark in answers.asked(pair.name)
        if answers.get(pair.name, benchmark, "t2t_agents") is not None
        for row in _rows(answers, reference, pair, benchmark)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "seeds": "Int64", "paper": float})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    columns = ["Pair", "Benchmark", "Who answers", "Accuracy, % [95 %]", "T-C2C beyond it, points [95 %]"]
    paper = [NOTHING if pd.isna(value) else fixed(value, 2) for value in frame["paper"]]
    rows = [[*cells, printed] for cells, printed in zip(arm_cells(frame), paper, strict=True)]
    table = pd.DataFrame(rows, columns=[*columns, "n", "Seeds", "Paper, %"])
    return without_empty_paper(table, frame)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "The interpreter is the pair's Sharer, the solver its Receiver. T2T hands over the interpreter's analysis as "
        "text, C2C its cache of the problem, T-C2C both. In T-C2C deranged the text is the right one, and the cache is "
        "of what the solver reads of another problem. Differences are on the training seeds that both have.",
        *printed_note(frame, "agents", PLACE),
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _rows(answers: Answers, reference: Reference, pair: Pair, benchmark: str) -> list[dict[str, object]]:
    both = answers.get(pair.name, benchmark, "t_c2c")
    rows = []
    for arm in ARMS:
        frame = answers.get(pair.name, benchmark, arm)
        head = dict(zip(HEAD, [answers.scale, *pair, benchmark, arm], strict=True))
        beyond = None if arm == "t_c2c" else difference(both, frame)
        accuracy = None if frame is None else accuracy_with_interval(frame)
        reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if frame is None else ""
        paper = reference.find(PLACE, "accuracy", pair.name, pair[1:], arm, benchmark)
        rows.append(head | percent(beyond, "difference_") | percent(accuracy) | {"paper": paper, "reason": reason})
    return rows


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
