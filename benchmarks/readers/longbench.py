"""LongBench-E: 13 sets of questions about long texts; a quarter is the benchmark, the rest a training set."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from benchmarks.readers.base import KEPT_ROW, Outcome, Row, RowPlace, exclusion, numbered


class Set(NamedTuple):
    """How the answers of one set are graded; its prompt and answer length are in the task file.

    Args:
        metric: Name of the metric in `c2c.evaluation.scoring`.
        first_line: Only the first line of an answer counts, as in LongBench's own scorer.
    """

    metric: str
    first_line: bool = False


SETS = {
    "qasper": Set("qa_f1"),
    "multifieldqa_en": Set("qa_f1"),
    "hotpotqa": Set("qa_f1"),
    "2wikimqa": Set("qa_f1"),
    "gov_report": Set("rouge_l"),
    "multi_news": Set("rouge_l"),
    "trec": Set("classification", first_line=True),
    "triviaqa": Set("qa_f1", first_line=True),
    "samsum": Set("rouge_l", first_line=True),
    "passage_count": Set("count"),
    "passage_retrieval_en": Set("retrieval"),
    "lcc": Set("code_similarity"),
    "repobench-p": Set("code_similarity"),
}

BUCKETS = ((4000, "0-4k"), (8000, "4-8k"))
LAST_BUCKET = "8k+"
CUT = "\n[...]\n"


def longbench(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """THUDM/LongBench, configs ``…_e``: `context`, `input`, `answers`, `all_classes`, `length`; a quarter is asked.

    The subset is the bucket of lengths; `dataset` names the set, which determines prompt and metric.
    """
    return _outcome(row, place) if is_asked(_identity(row, place)) else exclusion("its id is in the part to train on")


def longbench_training(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """The other three quarters of the same rows, in the same form."""
    return exclusion("its id is in the part that is asked") if is_asked(_identity(row, place)) else _outcome(row, place)


def is_asked(identity: str) -> bool:
    """Whether a question is in the asked quarter: SHA-256 of its id is 1 modulo 4.

    The reference splits them so too (docs/reference-behaviour.md, "Benchmarks and subsets").
    """
    return int(hashlib.sha256(identity.encode()).hexdigest(), 16) % 4 == 1


def _identity(row: Row, place: RowPlace) -> str:
    return str(row.get("_id") or numbered(place))


def _outcome(row: Row, place: RowPlace) -> Outcome:
    name, identity = place.subset.removesuffix("_e"), _identity(row, place)
    if name not in SETS:
        return exclusion("its set is not one of LongBench-E")
    answers = [str(answer) for answer in row["answers"] if str(answer).strip()]
    if not answers or not str(row["context"]).strip():
        return exclusion("there is no answer" if not answers else "the text is empty")
    return Outcome(
        KEPT_ROW,
        {
            "id": f"{name}-{identity}",
            "subset": bucket(int(row["length"])),
            "dataset": name,
            "context": str(row["context"]),
            "question": str(row["input"]),
            "answers": answers,
            "classes": list(row["all_classes"]) if row.get("all_classes") else None,
            "metric": SETS[name].metric,
            "first_line": SETS[name].first_line,
            "length": int(row["length"]),
            "bucket": bucket(int(row["length"])),
        },
        group=name,
    )


def bucket(words: int) -> str:
    """The bucket of a text with this number of words."""
    return next((name for below, name in BUCKETS if words < below), LAST_BUCKET)


def cut_middle(question: Row, characters: int) -> Row:
    """The question with a context of at most `characters`: the middle is removed; `cut` is its length."""
    context = question["context"]
    room = max(characters - len(CUT), 0)
    if len(context) <= characters:
        return {**question, "cut": 0}
    head = room - room // 2
    tail = context[len(context) - room // 2 :] if room // 2 else ""
    return {**question, "context": context[:head] + CUT + tail, "cut": len(context) - room}
