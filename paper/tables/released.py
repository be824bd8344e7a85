"""Released Fusers, evaluated without any training: accuracy, controls, gains, and the paper's values (Table 4)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading import names
from paper.reading.answers import Answers, difference
from paper.reading.reference import Reference
from paper.rows import arm_row, tidy, with_bounds
from paper.writing.columns import counts, decimals, differences, estimates, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

ARMS = ("receiver", "sharer", "t2t", "routing", "released", "released_deranged", "released_zeroed")
GAINS = {"system": "receiver", "pairing": "released_deranged"}
"""What C2C with released Fusers is compared with, by the prefix of the difference."""
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "benchmark", "alignment", "arm"),
    *with_bounds(*GAINS, ""),
    *("n", "seeds", "paper", "reason"),
)


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a pair with released Fusers, benchmark and arm; gains, in points, are of the arm `released`."""
    reference, rows = reference or Reference(), []
    for pair in answers.all_pairs:
        if "released" not in answers.arms_of(pair.name):
            continue
        of_pair = (answers.marked["pair"] == pair.name) & (answers.marked["arm"] == "released")
        alignment = str(answers.marked.loc[of_pair, "alignment"].iloc[0])
        for benchmark in answers.benchmarks_of(pair.name):
            frames = {arm: answers.get(pair.name, benchmark, arm, alignment) for arm in ARMS}
            for arm, frame in frames.items():
                gains = {
                    name: difference(frame, frames[control]) if arm == "released" else None
                    for name, control in GAINS.items()
                }
                paper = reference.cell(*pair, "c2c" if arm == "released" else arm, benchmark)
                rows.append(arm_row(answers, pair, benchmark, arm, frame, gains, paper=paper, alignment=alignment))
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Method": titles(frame, "arm"),
        "Accuracy, % [95 %]": estimates(frame),
        "System gain": differences(frame, "system_"),
        "Pairing gain": differences(frame, "pairing_"),
        "n": counts(frame, "n"),
        "Paper, %": decimals(frame, "paper"),
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    fusers = frame[frame["arm"] == "released"].drop_duplicates("pair")
    alignments = "; ".join(f"{names.title('pairs', row.pair)}: {row.alignment}" for row in fusers.itertuples())
    notes = [
        "Fusers as released; nothing is trained. Gains are paired differences in points with 95 % intervals.",
        f"Token alignment, as each was released (none: the Sharer reads the Receiver's tokens). {alignments}.",
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
