"""Two agents, interpreter and solver: by text, by cache, and by both, compared with one model alone (Table 15)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading.answers import Answers, difference
from paper.reading.reference import Reference
from paper.rows import ID_COLUMNS, alignment_column, arm_row, paper_column, printed_note, tidy, with_bounds
from paper.writing.columns import differences, estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

ARMS = ("receiver", "sharer", "t2t_agents", "c2c", "c2c_deranged", "t_c2c", "t_c2c_deranged")
PLACE = "Table 15"
COLUMNS = (*ID_COLUMNS, *with_bounds("difference", ""), "n", "seeds", "paper", "reason")


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a pair that answered as two agents, benchmark that they were asked, and arm.

    `difference` is T-C2C less the arm, paired, in percentage points; `paper` is the paper's accuracy.
    """
    reference, rows = reference or Reference(), []
    for pair in answers.pairs:
        for benchmark in answers.benchmarks_of(pair.name):
            frames = {arm: answers.get(pair.name, benchmark, arm) for arm in ARMS}
            if frames["t2t_agents"] is None:
                continue
            for arm, frame in frames.items():
                gain = None if arm == "t_c2c" else difference(frames["t_c2c"], frame)
                paper = reference.find(PLACE, "accuracy", pair.name, pair[1:], arm, benchmark)
                rows.append(arm_row(answers, pair, benchmark, arm, frame, {"difference": gain}, False, paper=paper))
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Who answers": titles(frame, "arm"),
        **alignment_column(frame),
        "Accuracy, % [95 %]": estimates(frame),
        "T-C2C − this, points [95 %]": differences(frame),
        **sizes(frame),
        **paper_column(frame),
    }
    return pd.DataFrame(table)


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
    return write_table(frame, text_table(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
