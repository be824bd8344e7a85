"""From answer records to scores (design §6): what counts as correct, and how often it happened. Imports no torch.

A failed question is a record with an error and counts as wrong; it is never left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.schema import METHODS, RECORD_SCHEMA, SCORINGS, check_columns, conform, read_records
from c2c.provenance import stamp, write_atomically
from c2c.stats import wilson_interval

RUN_KEY = ["scale", "receiver", "sharer", "recipe", "alignment", "method", "scoring", "seed", "benchmark"]
SCORE_COLUMNS = [*RUN_KEY, "subset", "metric", "value", "n", "low", "high"]
QUESTION_KEY = ["scale", "pair", "benchmark", "question_id"]
ANSWER_KEY = [*QUESTION_KEY, "recipe", "alignment", "method", "seed"]
WHOLE = "all"
LETTERS = "ABCDEFGHIJ"


def check_records(records: pd.DataFrame) -> None:
    """Refuse records that would give a wrong score.

    Raises:
        RefusedError: A column is missing or unknown; a method or scoring is unknown; an answer stands twice; two
            methods of a benchmark answered different questions or knew different gold answers; an answered
            question lacks what its scoring looks at.
    """
    check_columns(list(records.columns), RECORD_SCHEMA)
    for column, known in (("method", METHODS), ("scoring", SCORINGS)):
        for name in records[column].unique():
            check_choice(f"The {column} of a record", name, known)
    if (twice := records.duplicated(ANSWER_KEY)).any():
        found = records.loc[twice, ["question_id", "method", "seed"]].iloc[0].to_dict()
        raise RefusedError("Each question is answered once by each method and seed", found, "Drop the duplicates")
    _check_same_questions(records)
    _check_answerable(records)


def mark(records: pd.DataFrame) -> pd.Series:
    """Whether each record is correct, as booleans on the records' index; a failed question is not."""
    rows = zip(records.to_dict("records"), failed(records), strict=True)
    correct = [not error and RULES[row["scoring"]](row) for row, error in rows]
    return pd.Series(correct, index=records.index, dtype=bool)


def failed(records: pd.DataFrame) -> pd.Series:
    """Whether each record stands for a question that failed."""
    return records["error"].fillna("") != ""


def score_records(records: pd.DataFrame) -> pd.DataFrame:
    """Scores with `SCORE_COLUMNS` in percent: one row per run, benchmark, subset and metric.

    `n` counts questions, `low` and `high` bound Wilson's 95 % interval of the one seed; subset `all` is the whole
    benchmark.
    """
    records = conform(records, RECORD_SCHEMA)
    check_records(records)
    flags = records[[*RUN_KEY, "subset"]].assign(accuracy=mark(records), failed=failed(records))
    flags["subset"] = flags["subset"].fillna("")
    parts = pd.concat([flags.assign(subset=WHOLE), flags[flags["subset"] != ""]])
    long = parts.melt(id_vars=[*RUN_KEY, "subset"], value_vars=["accuracy", "failed"], var_name="metric")
    counts = long.groupby([*RUN_KEY, "subset", "metric"], dropna=False)["value"].agg(["sum", "count"]).reset_index()
    bounds = [wilson_interval(hits, n) for hits, n in zip(counts["sum"], counts["count"], strict=True)]
    scores = counts.assign(value=100 * counts["sum"].astype(float) / counts["count"], n=counts["count"])
    scores[["low", "high"]] = 100 * np.array(bounds)
    return scores[SCORE_COLUMNS].sort_values(SCORE_COLUMNS[:11], na_position="first", ignore_index=True)


def scores_text(scores: pd.DataFrame) -> str:
    """The one way in which scores are written as CSV: four decimals, empty where a column has no meaning."""
    return scores.to_csv(index=False, float_format="%.4f", lineterminator="\n")


def score_files(records: Iterable[Path], output: Path) -> None:
    """Score parquet files of records into one CSV, with its provenance beside it."""
    paths = [Path(path) for path in records]
    with stamp(output, inputs=paths):
        write_atomically(Path(output), scores_text(score_records(read_records(paths))))


def normalise(text: str) -> str:
    """What `exact` compares: without surrounding blanks, letter case and a full stop at the end."""
    return text.strip().removesuffix(".").rstrip().casefold()


def extract_letter(text: str, options: int = len(LETTERS)) -> str | None:
    """The option letter that a generated answer names, or None where it names none.

    The last "answer is X" (or "answer: X") of the text decides; failing that, a letter that opens the text and stands
    alone ("B", "(B)", "B. because"); failing that, the only capital letter that stands alone anywhere. "A" and "I"
    before a lower-case word are words, unless the answer is stated to be "A". Letters beyond the number of `options`
    are none.
    """
    capital = rf"[{LETTERS[:options]}](?<![AI](?= +[a-z]))"
    small = rf"[{LETTERS[:options].lower()}](?<![ai](?= +[a-z]))"
    stated = re.findall(rf"(?i:answer)\W*(?i:(?:is|are)\b)?\W*\b([{LETTERS[:options]}]|{small})\b", text)
    if stated:
        return stated[-1].upper()
    if opening := re.match(rf"\W*({capital})\b", text):
        return opening.group(1)
    alone = set(re.findall(rf"(?<![\w'\u2019])({capital})(?![\w'\u2019])", text))
    return alone.pop() if len(alone) == 1 else None


def _exact(row: dict[Any, Any]) -> bool:
    return normalise(row["output_text"]) == normalise(row["gold"])


def _likelihood(row: dict[Any, Any]) -> bool:
    scores = np.asarray(row["choice_scores"], dtype=float)
    return not np.isnan(scores).any() and list(row["choices"])[int(scores.argmax())] == row["gold"]


def _letter(row: dict[Any, Any]) -> bool:
    options = len(LETTERS) if row["choices"] is None else len(row["choices"])
    return extract_letter(row["output_text"], options) == row["gold"].strip().upper()


RULES: dict[str, Callable[[dict[Any, Any]], bool]] = {"exact": _exact, "likelihood": _likelihood, "letter": _letter}


def _check_same_questions(records: pd.DataFrame) -> None:
    """Every method of a pair answers the same questions of a benchmark, with the same gold answers."""
    for (_, pair, benchmark), group in records.groupby(QUESTION_KEY[:3], dropna=False):
        answers = group.groupby(ANSWER_KEY[4:], dropna=False).size()
        if len(group) != len(answers) * group["question_id"].nunique():
            counts = dict(zip(map(str, answers.index), answers.tolist(), strict=True))
            raise RefusedError(
                f"All methods of {pair} answer the same questions of {benchmark}",
                counts,
                "Generate the missing answers first: a failed question is a record, too",
            )
    per_question = records.groupby(QUESTION_KEY, dropna=False)
    kinds = per_question[["gold", "question_hash", "scoring"]].nunique(dropna=False)
    if (unequal := kinds[(kinds > 1).any(axis=1)]).size:
        remedy = "Generate all answers from the same prepared benchmark"
        raise RefusedError("A question is the same question for all methods", unequal.index[0], remedy)


def _check_answerable(records: pd.DataFrame) -> None:
    answered = records[~failed(records)]
    by_likelihood = answered["scoring"] == "likelihood"
    if (silent := answered.loc[~by_likelihood, "output_text"].isna()).any():
        question = answered.loc[~by_likelihood, "question_id"][silent].iloc[0]
        raise RefusedError("An answered question has its output_text", question, "Set its error instead")
    for row in answered[by_likelihood].to_dict("records"):
        choices, scores = row["choices"], row["choice_scores"]
        if choices is None or scores is None or len(choices) != len(scores) or row["gold"] not in list(choices):
            raise RefusedError(
                "A question scored by likelihood has one score a choice, and its gold answer among the choices",
                {"question_id": row["question_id"]},
                "Set its error instead",
            )
