"""The gain decomposition: system, pairing, communication and adaptation gain with paired intervals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import GAINS, comparable, exact_mcnemar, mean_with_interval, paired_difference
from paper import names
from paper.answers import Answers, Pair
from paper.output import MINUS, NOTHING, count, notes_on_gaps, percent, run_table, show, write_table

HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "gain", "of", "against"]


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and gain, in percentage points."""
    rows = [
        _row(answers, pair, benchmark, gain)
        for pair in answers.pairs
        for benchmark in answers.benchmarks
        for gain in GAINS
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(["n", "seeds", "of_only", "against_only"], "Int64"))


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads: one row a gain."""
    return pd.DataFrame(
        {
            "Pair": names.title("pairs", row.pair),
            "Benchmark": names.title("benchmarks", row.benchmark),
            "Gain": names.title("gains", row.gain),
            "Difference": f"{names.title('arms', row.of)} {MINUS} {names.title('arms', row.against)}",
            "Points [95 %]": show(row.value, row.low, row.high, sign=True),
            "n": count(row.n),
            "Seeds": count(row.seeds),
            "Only first right": count(row.of_only),
            "Only second right": count(row.against_only),
            "p (McNemar)": _p(row.p_value),
        }
        for row in frame.itertuples()
    )


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Paired differences in percentage points; 95 % percentile interval of a bootstrap over questions and seeds. "
        "The counts of questions that only one of the two answered rightly are sums over seeds; p is the largest of "
        "the seeds' exact McNemar tests.",
        *notes_on_gaps(frame, ["pair", "benchmark", "gain"]),
    ]
    return write_table(frame, printed(frame), stem, notes)


def _p(p_value: str) -> str:
    if not p_value:
        return NOTHING
    return p_value if float(p_value) >= 0.001 else "< 0.001"


def _row(answers: Answers, pair: Pair, benchmark: str, gain: str) -> dict[str, object]:
    of, against = GAINS[gain]
    left, right = (answers.get(pair.name, benchmark, arm) for arm in (of, against))
    head = dict(zip(HEAD, [answers.scale, *pair, benchmark, gain, of, against], strict=True))
    if left is None or right is None or not comparable(left, right):
        missing = of if left is None else against if right is None else None
        reason = names.reason_not_compared(missing, pair=pair.name, benchmark=benchmark)
        counts: dict[str, object] = {"of_only": None, "against_only": None, "p_value": ""}
        return head | percent(None) | counts | {"reason": reason}
    test = exact_mcnemar(left, right)
    counts = {"of_only": test.left_only, "against_only": test.right_only, "p_value": f"{test.p_value:.3g}"}
    return head | percent(mean_with_interval(paired_difference(left, right))) | counts | {"reason": ""}


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
