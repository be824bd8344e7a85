"""The texts of the questions to which answer records refer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.catalogue import read_benchmarks
from c2c.errors import RefusedError
from c2c.evaluation.schema import QUESTION_SCHEMA, read_records
from paper.reading import names
from paper.reading.commits import BENCHMARKS

QUESTION_KEY = ["benchmark", "prompts", "question_id"]
GENERATED = ("world", "gap")
"""Sources of benchmarks that are made by this repository, so that their texts may be committed."""
REMEDY = "Make the file of questions of the scale: snakemake --profile SCALE results/SCALE/questions.parquet"


def read_questions(paths: Iterable[Path]) -> pd.DataFrame:
    """Texts of questions by `QUESTION_KEY`.

    Raises:
        RefusedError: A file is none, or two of them have a question twice.
    """
    questions = read_records(paths, QUESTION_SCHEMA).set_index(QUESTION_KEY)
    if not questions.index.is_unique:
        twice = questions.index[questions.index.duplicated()][0]
        raise RefusedError("A question must have one text", twice, "Name each file of questions once")
    return questions


def texts_of(records: pd.DataFrame, questions: pd.DataFrame) -> pd.DataFrame:
    """The question of each record, in the records' order.

    Raises:
        RefusedError: A question has no text, or the text is not that of the question that was answered.
    """
    key = pd.MultiIndex.from_frame(records[QUESTION_KEY])
    is_gap = ~key.isin(questions.index)
    if is_gap.any():
        gaps = ", ".join(sorted(set(key[is_gap].get_level_values(0))))
        rule = "Every record that is exchanged must have the text of its question"
        raise RefusedError(
            rule, f"none for {is_gap.sum()} records of {gaps}", f"{REMEDY}, or leave them out: --benchmarks"
        )
    texts = questions.loc[key]
    # The prepared question is the same, and so is the prompt, where a record is of what the Receiver alone reads.
    stale = texts["question_hash"].to_numpy() != records["question_hash"].to_numpy()
    is_alone = (records["method"] == "receiver") & (records["prompts"] == "plain") & (records["error"].fillna("") == "")
    is_alone = is_alone.to_numpy()
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts["prompt"][is_alone]]
    stale[is_alone] |= records["prompt_hash"].to_numpy()[is_alone] != hashes
    if stale.any():
        rule = "The text of a question must be what the record's model read"
        raise RefusedError(rule, f"another for {' '.join(map(str, key[stale.argmax()]))}", REMEDY)
    return texts


def benchmark_row(task: str, catalogue: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row of a task's benchmark in a catalogue (`read_benchmarks`); empty for the benchmark of a user."""
    name = names.own_prompts(task)
    return catalogue.get(name) or catalogue.get(name.rpartition("_")[0]) or {}


def committable(questions: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """The questions to which `records` refer and whose texts this repository has made, by `QUESTION_KEY`.

    Texts of data sets from the hub stay in the results folder: their licences differ.
    """
    key, catalogue = questions.index, read_benchmarks([BENCHMARKS])
    is_own = [benchmark_row(task, catalogue).get("source") in GENERATED for task in key.get_level_values(0)]
    return questions[is_own & key.isin(pd.MultiIndex.from_frame(records[QUESTION_KEY]))]


def check_questions(questions: pd.DataFrame, records: pd.DataFrame) -> None:
    """Refuse texts that are not those of the records' questions; benchmarks without any are left out.

    Raises:
        RefusedError: As `texts_of`.
    """
    texts_of(records[records["benchmark"].isin(questions.index.get_level_values(0))], questions)
