"""The gains in nats: what a message does to the likelihood of the gold option, where accuracy may not see it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import GAINS, Estimate, comparable, holm, mean_with_interval, paired_difference
from paper.reading.answers import Answers
from paper.rows import ALIGNMENT, alignment_column, with_other_alignments
from paper.writing.columns import estimates, p_values, sizes, titles
from paper.writing.output import run_table, write_table

ID_COLUMNS = ("scale", "pair", "receiver", "sharer", "benchmark", "gain", "of", "against")


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark with weighed options, and gain, in nats; `p_holm` is over the cells of the gain."""
    rows = []
    for pair in answers.pairs:
        for benchmark in answers.benchmarks_of(pair.name):
            for gain, (of, against) in GAINS.items():
                estimate = gain_in_nats(answers, pair.name, benchmark, of, against)
                if estimate is None:
                    continue
                head = dict(zip(ID_COLUMNS, [answers.scale, *pair, benchmark, gain, of, against], strict=True))
                bounds = {name: getattr(estimate, name) for name in ("value", "low", "high", "n", "seeds", "p_value")}
                alignment = answers.alignment_of(pair.name, of) or answers.alignment_of(pair.name, against)
                rows.append(head | {ALIGNMENT: alignment} | bounds)
    frame = pd.DataFrame(rows, columns=[*ID_COLUMNS, ALIGNMENT, "value", "low", "high", "n", "seeds", "p_value"])
    p_values = [pd.Series(holm(group["p_value"]), group.index) for _, group in frame.groupby("gain")]
    frame["p_holm"] = pd.concat(p_values) if p_values else pd.Series(dtype=float)
    return with_other_alignments(frame).astype({"n": "Int64", "seeds": "Int64"})


def gain_in_nats(answers: Answers, pair: str, benchmark: str, of: str, against: str) -> Estimate | None:
    """Mean paired difference of two arms' margins; None where one was not run or the options were not weighed."""
    of_margins, against_margins = (answers.margins(pair, benchmark, arm) for arm in (of, against))
    if of_margins is None or against_margins is None or not comparable(of_margins, against_margins):
        return None
    # A question that failed for one of the two is compared for neither.
    common = of_margins.index.intersection(against_margins.index)
    if common.empty:
        return None
    return mean_with_interval(paired_difference(of_margins.loc[common], against_margins.loc[common]))


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Benchmark": titles(frame, "benchmark"),
            "Gain": titles(frame, "gain"),
            **alignment_column(frame),
            "Nats [95 %]": estimates(frame, sign=True, digits=2),
            "p": p_values(frame, "p_value"),
            "p (Holm)": p_values(frame, "p_holm"),
            **sizes(frame),
        }
    )


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "A margin is the log-likelihood of the gold option less the mean of the others', in nats. A gain is the paired "
        "difference of two margins, with a 95 % t interval over questions and, with several seeds, trainings; with one "
        "seed it holds for this training. p (Holm) is adjusted for the cells of the same gain.",
        "Accuracy changes only where another option becomes the likeliest, so that a gain can be above zero here and "
        "be undecided there. A deranged message carries another answer: a pairing gain is what the right message adds "
        "together with what the wrong one takes.",
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
