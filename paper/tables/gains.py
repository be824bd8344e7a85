"""The gain decomposition: system, pairing, communication and adaptation gain with paired intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import (
    GAINS,
    comparable,
    detectable_difference,
    exact_mcnemar,
    is_graded,
    mean_with_interval,
    paired_difference,
)
from paper.reading import names
from paper.reading.answers import Answers, PairIds
from paper.rows import percent
from paper.writing.columns import counts, decimals, estimates, titles
from paper.writing.numbers import MINUS, NOTHING, decimal, show_difference
from paper.writing.output import notes_on_gaps, run_table, write_table

ID_COLUMNS = ["scale", "pair", "receiver", "sharer", "benchmark", "gain", "of", "against"]
ABOVE, COVERED, BELOW = "above zero", "covers zero", "below zero"
DOUBTS = {
    (
        "system",
        COVERED,
    ): "C2C does not beat the Receiver (the system gain's interval covers zero)",
    ("system", BELOW): "C2C is worse than the Receiver",
    ("pairing", COVERED): "Nothing shows that the right message matters (the pairing gain's interval covers zero)",
    ("pairing", BELOW): "The wrong message served better than the right one",
    ("communication", COVERED): "Nothing shows more than adaptation (the communication gain's interval covers zero)",
    ("communication", BELOW): "C2C is worse than the same parameters trained without any message",
}
"""What the table says in words where a gain is not above zero."""


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and gain, in percentage points."""
    rows = [
        _row(answers, pair, benchmark, gain)
        for pair in answers.pairs
        for benchmark in answers.benchmarks_of(pair.name)
        for gain in GAINS
    ]
    return pd.DataFrame(rows).astype(
        dict.fromkeys(["n", "seeds", "of_only", "against_only"], "Int64") | {"detectable": float}
    )


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: one row a gain."""
    arms = zip(titles(frame, "of", "arms"), titles(frame, "against", "arms"), strict=True)
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Gain": titles(frame, "gain"),
        "Difference": [f"{of} {MINUS} {against}" for of, against in arms],
        "Points [95 %]": estimates(frame, sign=True),
        "n": counts(frame, "n"),
        "Detectable, points": decimals(frame, "detectable", 1),
        "Seeds": counts(frame, "seeds"),
        "Only first correct": counts(frame, "of_only"),
        "Only second correct": counts(frame, "against_only"),
        "p (McNemar)": [_p(p_value) for p_value in frame["p_value"]],
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Paired differences in percentage points; 95 % percentile interval of a bootstrap over questions and seeds. "
        "The counts of questions that only one of the two answered correctly are sums over seeds; p is the largest of "
        "the seeds' exact McNemar tests (none where a scoring gives parts of a point).",
        "Detectable is the smallest true difference that n questions with the observed discordance find: two-sided "
        "5 %, power 80 %, one seed (Connor 1987).",
        *doubts(frame),
        *notes_on_gaps(frame, ["pair", "benchmark", "gain"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def doubts(frame: pd.DataFrame) -> list[str]:
    """In words, computed: where C2C does not beat the Receiver, or a gain that decides is not above zero."""
    if frame["value"].isna().all():
        return []
    sentences = []
    for (gain, finding), words in DOUBTS.items():
        rows = frame[(frame["gain"] == gain) & (frame["finding"] == finding)]
        if len(rows):
            places = [
                f"{names.title('pairs', str(pair))}: {'; '.join(_cell(row) for row in group.itertuples())}"
                for pair, group in rows.groupby("pair", sort=False)
            ]
            sentences.append(f"{words}. {'. '.join(places)}.")
    whole = "Wherever it was measured, C2C beats the Receiver, and its pairing and communication gain are above zero."
    return sentences or [whole]


def _cell(row: Any) -> str:
    points = show_difference(row.value, row.low, row.high)
    return f"{names.title('benchmarks', row.benchmark)} {points}, detectable from {decimal(row.detectable, 1)}"


def _p(p_value: str) -> str:
    if not p_value:
        return NOTHING
    return p_value if float(p_value) >= 0.001 else "< 0.001"


def _arms(answers: Answers, pair: PairIds, gain: str) -> tuple[str, str]:
    """The two arms of a gain; a pair that was run with recipe `identical` alone has that in the place of C2C."""
    of, against = GAINS[gain]
    if "c2c" in answers.arms_of(pair.name) or "identical" not in answers.arms_of(pair.name):
        return of, against
    return of.replace("c2c", "identical"), against.replace("c2c", "identical")


def _row(answers: Answers, pair: PairIds, benchmark: str, gain: str) -> dict[str, object]:
    of, against = _arms(answers, pair, gain)
    first, second = (answers.get(pair.name, benchmark, arm) for arm in (of, against))
    head = dict(zip(ID_COLUMNS, [answers.scale, *pair, benchmark, gain, of, against], strict=True))
    if first is None or second is None or not comparable(first, second):
        missing = of if first is None else against if second is None else None
        reason = names.reason_not_compared(missing, pair=pair.name, benchmark=benchmark)
        missing_numbers: dict[str, object] = {"detectable": None, "finding": ""}
        return head | percent(None) | missing_numbers | _counts(None, None) | {"reason": reason}
    estimate = mean_with_interval(paired_difference(first, second))
    finding = ABOVE if estimate.low > 0 else BELOW if estimate.high < 0 else COVERED
    power = {"detectable": 100 * detectable_difference(first, second), "finding": finding}
    return head | percent(estimate) | power | _counts(first, second) | {"reason": ""}


def _counts(first: pd.DataFrame | None, second: pd.DataFrame | None) -> dict[str, object]:
    """McNemar's counts and p; empty for nothing, and for graded answers."""
    if first is None or second is None or is_graded(first, second):
        return {"of_only": None, "against_only": None, "p_value": ""}
    test = exact_mcnemar(first, second)
    return {"of_only": test.left_only, "against_only": test.right_only, "p_value": f"{test.p_value:.3g}"}


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
