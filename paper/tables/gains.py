"""The gain decomposition: system, pairing, communication and adaptation gain with paired intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from c2c.stats import (
    GAINS,
    NO_SEED,
    Estimate,
    comparable,
    detectable_difference,
    exact_mcnemar,
    holm,
    is_graded,
    mean_with_interval,
    paired_difference,
)
from c2c.testbed.card.numbers import MINUS, decimal, show_bounds, show_difference
from paper.reading import names
from paper.reading.answers import Answers, PairIds
from paper.reading.margin import margin_of
from paper.rows import ALIGNMENT, alignment_column, percent, with_other_alignments
from paper.writing.columns import counts, decimals, estimates, p_values, texts, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

ID_COLUMNS = ["scale", "pair", "receiver", "sharer", "benchmark", "gain", "of", "against"]
SEED_SDS = (1, 2, 3)
"""Standard deviations of an arm's accuracy over trainings, in points, for which a gain of one seed is shown, too."""
ONE_TRAINING = ("pairing", "content")
"""Gains of two arms that use the same Fusers."""
ABOVE, COVERED, BELOW = "above zero", "covers zero", "below zero"
EQUIVALENCE = ("equivalence_p", "equivalence_holm", "equivalence_margin")
"""Columns of the two one-sided tests: p, p adjusted for the cells of the gain, and the smallest margin in points."""
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
CONTENT = (
    "The content gain asks whether it matters which question with this answer was read: the message of its control is "
    "that of another question with the same answer. Near zero, the message carries the answer alone."
)


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and gain, in percentage points.

    `p_value` is that of the t interval, `p_holm` the same adjusted for the cells of the gain, `p_mcnemar` the exact p
    of each seed. `EQUIVALENCE` asks whether the gain lies within the margin of the scale. `audit` is the name that the
    causal audits have for the gain. `low_sd_2` and `high_sd_2`, of gains of one seed, are the interval over trainings
    if their accuracies have a standard deviation of 2 points.
    """
    rows = [
        _row(answers, pair, benchmark, gain)
        for pair in answers.pairs
        for benchmark in answers.benchmarks_of(pair.name)
        for gain in GAINS
        # Its control is asked on chosen benchmarks only: elsewhere nothing is missing.
        if gain != "content" or answers.get(pair.name, benchmark, _arms(answers, pair, gain)[1]) is not None
    ]
    numbers = [
        "detectable",
        "p_value",
        "equivalence_p",
        "equivalence_margin",
        *(f"{bound}_sd_{sd}" for sd in SEED_SDS for bound in ("low", "high")),
    ]
    frame = pd.DataFrame(rows).astype(
        dict.fromkeys(["n", "seeds", "of_only", "against_only"], "Int64") | dict.fromkeys(numbers, float)
    )
    frame = with_other_alignments(frame)
    frame.insert(frame.columns.get_loc("gain") + 1, "audit", [audit_name(gain) for gain in frame["gain"]])
    for test, adjusted in (("p_value", "p_holm"), EQUIVALENCE[:2]):
        frame.insert(frame.columns.get_loc(test) + 1, adjusted, float("nan"))
        for _, cells in frame.groupby("gain"):
            frame.loc[cells.index, adjusted] = holm(cells[test])
    return frame


def audit_name(gain: str) -> str:
    """What the causal audits call a gain; empty where they have no name for it."""
    return str(names.read_names()["gains"].get(gain, {}).get("audit", ""))


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: one row a gain."""
    arms = zip(titles(frame, "of", "arms"), titles(frame, "against", "arms"), strict=True)
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Gain": titles(frame, "gain"),
        "Audits": texts(frame, "audit"),
        "Difference": [f"{of} {MINUS} {against}" for of, against in arms],
        **alignment_column(frame),
        "Points [95 %]": estimates(frame, sign=True),
        "n": counts(frame, "n"),
        "Detectable, points": decimals(frame, "detectable", 1),
        "Seeds": counts(frame, "seeds"),
        "Only first correct": counts(frame, "of_only"),
        "Only second correct": counts(frame, "against_only"),
        "p": p_values(frame, "p_value"),
        "p (Holm)": p_values(frame, "p_holm"),
        "Equivalence, p (Holm)": p_values(frame, "equivalence_holm"),
        "Smallest margin, points": decimals(frame, "equivalence_margin", 1),
        "p by seed (McNemar)": texts(frame, "p_mcnemar"),
    }
    # What one seed leaves open.
    if (frame["seeds"] == 1).any():
        for sd in SEED_SDS:
            bounds = zip(frame[f"low_sd_{sd}"], frame[f"high_sd_{sd}"], strict=True)
            table[f"If trainings differ by SD {sd}"] = [show_bounds(*pair) for pair in bounds]
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Paired differences in percentage points with 95 % t intervals: over questions and trainings where there are "
        "several seeds; with one seed over questions, for this training. p is that of the same t test, and p (Holm) is "
        "adjusted for the cells of the same gain. The counts of questions that only one of the two answered correctly "
        "are sums over seeds; McNemar's exact p is that of each seed (none where a scoring gives parts of a point).",
        "With one seed the last columns are the interval over trainings, if the accuracies of an arm's trainings have "
        "a standard deviation (SD) of 1, 2 or 3 points.",
        "Detectable is the smallest true difference that n questions with the observed discordance find: two-sided "
        "5 %, power 80 %, one seed (Connor 1987).",
        "Audits: the names of the causal audits. System (OPE) is the sum of any message (OME) and pairing (CAG).",
        f"Equivalence: two one-sided tests of whether a gain lies within {decimal(margin_of(answers.scale), 1)} "
        "points, adjusted for the cells of the same gain (Holm). The smallest margin is the one at which the test "
        "without adjustment states equivalence; a greater one than the margin tells of too few questions or trainings.",
        *([CONTENT] if (frame["gain"] == "content").any() else []),
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
    summary = "Wherever it was measured, C2C beats the Receiver, and its pairing and communication gain are above zero."
    return sentences or [summary]


def _cell(row: Any) -> str:
    points = show_difference(row.value, row.low, row.high)
    return f"{names.title('benchmarks', row.benchmark)} {points}, detectable from {decimal(row.detectable, 1)}"


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
    head[ALIGNMENT] = answers.alignment_of(pair.name, of) or answers.alignment_of(pair.name, against)
    if first is None or second is None or not comparable(first, second):
        missing_arm = of if first is None else against if second is None else None
        reason = names.reason_not_compared(missing_arm, pair=pair.name, benchmark=benchmark)
        numbers: dict[str, object] = {"detectable": None, "finding": ""}
        return (
            head
            | percent(None)
            | numbers
            | _tests(None, None)
            | _equivalence(None, 1.0)
            | _assumed(None, 0)
            | {"reason": reason}
        )
    estimate = mean_with_interval(paired_difference(first, second))
    finding = ABOVE if estimate.low > 0 else BELOW if estimate.high < 0 else COVERED
    power = {"detectable": 100 * detectable_difference(first, second), "finding": finding}
    trained = 1 if gain in ONE_TRAINING else sum(NO_SEED not in frame.columns for frame in (first, second))
    tests = _tests(first, second) | {"p_value": estimate.p_value}
    tests |= _equivalence(estimate, margin_of(answers.scale))
    return head | percent(estimate) | power | tests | _assumed(estimate, trained) | {"reason": ""}


def _tests(first: pd.DataFrame | None, second: pd.DataFrame | None) -> dict[str, object]:
    """McNemar's counts and p of each seed; empty for nothing, and for graded answers."""
    if first is None or second is None or is_graded(first, second):
        return {"of_only": None, "against_only": None, "p_value": None, "p_mcnemar": ""}
    test = exact_mcnemar(first, second)
    p_by_seed = ", ".join(f"{p:.2g}" for p in test.p_values)
    return {"of_only": test.left_only, "against_only": test.right_only, "p_value": None, "p_mcnemar": p_by_seed}


def _equivalence(estimate: Estimate | None, margin: float) -> dict[str, float | None]:
    """P of the two one-sided tests and the smallest margin, in points; the adjusted p follows from all rows."""
    if estimate is None:
        return {"equivalence_p": None, "equivalence_margin": None}
    scaled = estimate.scaled(100)
    return {"equivalence_p": scaled.equivalence_p(margin), "equivalence_margin": scaled.equivalence_margin}


def _assumed(estimate: Estimate | None, trained: int) -> dict[str, float | None]:
    """Bounds in points that a gain of one seed has, if the `trained` arms in it differ between trainings by so much."""
    bounds: dict[str, float | None] = {}
    for sd in SEED_SDS:
        wide = estimate.with_seed_sd(sd / 100 * trained**0.5) if estimate is not None and estimate.seeds == 1 else None
        bounds |= {f"low_sd_{sd}": wide and 100 * wide.low, f"high_sd_{sd}": wide and 100 * wide.high}
    return bounds


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
