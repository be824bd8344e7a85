"""What the prompts are worth: each arm with our own prompts and with the released code's, on the same questions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.evaluation.protocol import RELEASED_TASK
from c2c.testbed.card.numbers import NOTHING
from paper.reading.answers import BASELINE, Answers, PairIds, difference
from paper.rows import accuracy, points, tidy, with_bounds
from paper.writing.columns import estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

ALONE, FUSED = ("receiver", "sharer"), ("c2c", "adapter")
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "benchmark", "arm", "alignment"),
    *with_bounds("own", "released", "difference"),
    *("n", "seeds", "reason"),
)


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark, arm and token alignment, of pairs that were asked with both sets of prompts.

    Columns `own` and `released` are accuracies in percent, `difference` is released less own in points, paired.
    """
    rows = []
    for pair in answers.pairs:
        arms = [(arm, BASELINE) for arm in ALONE]
        arms += [(arm, alignment) for alignment in answers.alignments(pair.name) for arm in FUSED]
        for benchmark in answers.released_prompts_of(pair.name):
            rows += [row for arm, alignment in arms if (row := _row(answers, pair, benchmark, arm, alignment))]
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Method": titles(frame, "arm"),
        "Alignment": [alignment or NOTHING for alignment in frame["alignment"]],
        "Own prompts, %": estimates(frame, "own_"),
        "Released prompts, %": estimates(frame, "released_"),
        "Difference": estimates(frame, "difference_", sign=True),
        **sizes(frame),
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Accuracies in percent with 95 % intervals; difference: released prompts less our own, paired by question and "
        "seed, in percentage points. The Fusers are the same: only the prompts differ.",
        *notes_on_gaps(frame, ["pair", "benchmark", "arm", "alignment"]),
    ]
    if frame.empty:
        notes = ["No pair of this scale was asked with both sets of prompts."]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _row(answers: Answers, pair: PairIds, benchmark: str, arm: str, alignment: str) -> dict[str, object] | None:
    own_frame = answers.get(pair.name, benchmark, arm, alignment)
    released_frame = answers.get(pair.name, f"{benchmark}{RELEASED_TASK}", arm, alignment)
    if own_frame is None and released_frame is None:
        return None
    return (
        dict(zip(COLUMNS, [answers.scale, *pair, benchmark, arm, alignment], strict=False))
        | accuracy(own_frame, "own_")
        | points(difference(released_frame, own_frame), "difference_")
        # The last one decides n and seeds.
        | accuracy(released_frame, "released_", baseline_seeds=False)
        | {"reason": "not asked with the other prompts" if own_frame is None or released_frame is None else ""}
    )


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
