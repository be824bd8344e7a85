"""Which records are refused, because they would give a wrong score."""

from __future__ import annotations

import numpy as np
import pandas as pd

from c2c.alignment.derangement import OTHER_QUESTION
from c2c.errors import RefusedError, check_choice
from c2c.evaluation.methods.declarations import DECLARATIONS, METHODS
from c2c.evaluation.questions.task_files import SCORINGS
from c2c.evaluation.schema import ANALYSIS_METHODS, RECORD_SCHEMA, check_columns
from c2c.evaluation.scoring.longbench import read_gold
from c2c.evaluation.scoring.options import option_blocks, option_counts
from c2c.evaluation.scoring.rules import BY_LIKELIHOOD, failed

QUESTION_KEY = ["scale", "pair", "benchmark", "question_id"]
ANSWER_KEY = [*QUESTION_KEY, "recipe", "alignment", "method", "setting", "seed"]


def check_records(records: pd.DataFrame) -> None:
    """Refuse records that would give a wrong score.

    Raises:
        RefusedError: There is no record; a column is missing or unknown; a method or scoring is unknown; a question has
            no gold answer; an answer stands twice; two methods of a benchmark answered different questions or knew
            different gold answers; a control read a question that it must not; an answered question lacks what its
            scoring looks at.
    """
    check_columns(list(records.columns), RECORD_SCHEMA)
    if records.empty:
        raise RefusedError("Records must have at least one row", "none", "Generate answers first")
    for column in ("gold", "question_id", "method", "benchmark", "scoring"):
        if (absent := records[column].isna()).any():
            place = records.loc[absent, ["benchmark", "question_id", "method"]].iloc[0].to_dict()
            raise RefusedError(f"Every record must have its {column}", place, "Prepare the benchmark and generate anew")
    for column, names in (("method", (*METHODS, *ANALYSIS_METHODS)), ("scoring", SCORINGS)):
        for name in records[column].unique():
            check_choice(f"The {column} of a record", name, names)
    if (twice := records.duplicated(ANSWER_KEY)).any():
        duplicate = records.loc[twice, ["question_id", "method", "seed"]].iloc[0].to_dict()
        raise RefusedError(
            "Each question must be answered once by each method and seed", duplicate, "Drop the duplicates"
        )
    _check_same_questions(records)
    _check_readings(records)
    _check_answerable(records[~failed(records)])


def _check_same_questions(records: pd.DataFrame) -> None:
    """Every method of a pair answers the same questions of a benchmark, with the same gold answers."""
    for (_, pair, benchmark), group in records.groupby(QUESTION_KEY[:3], dropna=False):
        # No answer stands twice, so equal counts for all answerers mean the same questions.
        answers = group.groupby(ANSWER_KEY[4:], dropna=False).size()
        if len(group) != len(answers) * group["question_id"].nunique():
            counts = dict(zip(map(str, answers.index), answers.tolist(), strict=True))
            raise RefusedError(
                f"All methods of {pair} must answer the same questions of {benchmark}",
                counts,
                "Generate the missing answers first: a failed question is a record, too",
            )
    per_question = records.groupby(QUESTION_KEY, dropna=False)
    kinds = per_question[["gold", "question_hash", "scoring"]].nunique(dropna=False)
    if (unequal := kinds[(kinds > 1).any(axis=1)]).size:
        remedy = "Generate all answers from the same prepared benchmark"
        raise RefusedError("A question must be the same question for all methods", unequal.index[0], remedy)


def _check_readings(records: pd.DataFrame) -> None:
    """In a control that reads another question, its gold answer differs (deranged) or is the same (same answer)."""
    caches = records["method"].map({name: row.sharer_cache for name, row in DECLARATIONS.items()})
    readings = records[caches.isin(OTHER_QUESTION) & records["sharer_question_id"].notna()]
    if readings.empty:
        return
    # The gold answer of the question that the Sharer read; missing where that question is not among the records.
    golds = records.drop_duplicates(QUESTION_KEY).set_index(QUESTION_KEY)["gold"]
    places = readings[[*QUESTION_KEY[:3], "sharer_question_id"]]
    read_golds = golds.reindex(pd.MultiIndex.from_frame(places)).to_numpy()
    agrees = (read_golds == readings["gold"].to_numpy()) == (caches[readings.index] == "same_answer").to_numpy()
    is_wrong = (readings["sharer_question_id"] == readings["question_id"]).to_numpy() | (~agrees & pd.notna(read_golds))
    if is_wrong.any():
        row = readings[is_wrong].iloc[0]
        rule = "A control must read another question, deranged one with another gold answer, same_answer with the same"
        received = {name: row[name] for name in ("method", "benchmark", "question_id", "sharer_question_id", "gold")}
        raise RefusedError(rule, received, "Generate the answers of this method anew")


def _check_answerable(answered: pd.DataFrame) -> None:
    weighed = answered["scoring"].isin(BY_LIKELIHOOD)
    if (silent := answered.loc[~weighed, "output_text"].isna()).any():
        question = answered.loc[~weighed, "question_id"][silent].iloc[0]
        raise RefusedError("An answered question must have its output_text", question, "Set its error instead")
    _check_options(answered[weighed])
    for gold in np.unique(answered.loc[answered["scoring"] == "longbench", "gold"].to_numpy(str)):
        read_gold(gold)


def _check_options(weighed: pd.DataFrame) -> None:
    """Each question has one score a choice, among them a greatest, and its gold answer among choices with a length.

    The first question of the first rule that is broken is named.
    """
    counts = option_counts(weighed)
    is_whole = (counts > 0) & (counts == option_counts(weighed, "choice_scores"))
    rule = "A question scored by likelihood must have one score a choice, and its gold answer among the choices"
    _refuse(weighed[~is_whole], rule, [], "Set its error instead")
    is_by_length = (weighed["scoring"] == "text").to_numpy()
    without_gold, without_greatest, without_length = (np.zeros(len(weighed), bool) for _ in range(3))
    for block in option_blocks(weighed):
        without_gold[block.rows] = ~block.is_gold.any(axis=1)
        scores = block.scores
        no_greatest = np.isnan(scores).any(axis=1) | np.isposinf(scores).any(axis=1) | np.isneginf(scores).all(axis=1)
        without_greatest[block.rows] = no_greatest
        without_length[block.rows] = is_by_length[block.rows] & (block.texts == "").any(axis=1)
    _refuse(weighed[without_gold], rule, [], "Set its error instead")
    rule = "The scores of a question's choices must be log-likelihoods, at least one of them finite"
    _refuse(weighed[without_greatest], rule, ["choice_scores"], "Generate its answer anew")
    rule = "An option that is scored by its likelihood a character must have a character"
    _refuse(weighed[without_length], rule, ["choices"], "Score by likelihood instead")


def _refuse(records: pd.DataFrame, rule: str, columns: list[str], remedy: str) -> None:
    """Refuse the first record, if there is one, with its question and the named list columns."""
    if not records.empty:
        first = records.iloc[0]
        received = {"question_id": first["question_id"]} | {name: list(first[name]) for name in columns}
        raise RefusedError(rule, received, remedy)
