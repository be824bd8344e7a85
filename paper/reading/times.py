"""Times of questions: by question from latency records, and by arm from their summary."""

from __future__ import annotations

import pandas as pd

from c2c.errors import RefusedError
from c2c.evaluation.schema import PHASES
from paper.reading.alignments import of_main_alignment
from paper.reading.answers import arm_name

KEY = ["scale", "pair", "receiver", "sharer", "recipe", "alignment", "method", "benchmark"]
TOKENS = {
    **{f"{who}_prefill": f"{who}_tokens_in" for who in ("sharer", "receiver")},
    **{f"{who}_decode": f"{who}_tokens_out" for who in ("sharer", "receiver")},
}
"""What a phase reads or writes."""
MEASUREMENT = [*KEY, "seed", "question_id", "repeat"]
TIMES = {"mean_ms": "time_ms", "low_ms": "time_low_ms", "high_ms": "time_high_ms"}


def per_question(records: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each phase and tokens by question, averaged over repeats (and seeds): index `KEY` and question.

    Raises:
        RefusedError: A measurement stands twice.
    """
    if (twice := records.duplicated(MEASUREMENT)).any():
        measurement = records.loc[twice, ["method", "question_id", "repeat"]].iloc[0].to_dict()
        raise RefusedError("Each question must be timed once a repeat", measurement, "Drop the duplicate records")
    columns = {f"{phase}_s": phase for phase in PHASES}
    return records.rename(columns=columns).groupby([*KEY, "question_id"])[[*PHASES, *TOKENS.values()]].mean()


def times_of(latency: pd.DataFrame) -> pd.DataFrame:
    """Mean time of a question with its interval, in milliseconds, by Receiver, Sharer, arm and benchmark."""
    total = of_main_alignment(latency[latency["phase"] == "total"]).rename(columns=TIMES)
    arms = [arm_name(*key) for key in zip(total["recipe"], total["method"], strict=True)]
    cell = ["receiver", "sharer", "arm", "benchmark"]
    # Two pairs of the same models would each give a row to both.
    return total.assign(arm=arms)[[*cell, *TIMES.values()]].drop_duplicates(cell)
