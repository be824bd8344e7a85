"""Multiple-choice data sets, one function each."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.readers.base import CORRECTED_ROW, LETTERS, Outcome, Row, RowPlace, choice, exclusion, numbered
from c2c.evaluation.protocol import active

MANY_RIGHT = "more than one option is right"


def mmlu(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """cais/mmlu: `answer` is the index of the right option. Rows of auxiliary_train may be nested in one column."""
    row = row.get("train", row)
    subject = str(row.get("subject") or "")
    return choice(
        numbered(RowPlace(subject, place.number)), subject, row["question"], row["choices"], int(row["answer"])
    )


def mmlu_redux(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """edinburgh-dawg/mmlu-redux-2.0: MMLU with the errors that annotators found (`error_type`), one config a subject.

    A wrong key is replaced by the annotators' key. Questions with no right option, with several, or that need an expert
    are left out, and so are questions with a wrong key for which the annotators name no single right option. A question
    that they call unclear keeps its key. The reference keeps the key of unclear questions, of wrong keys without a
    replacement and of several right options.
    """
    fault, published = str(row["error_type"]), active(protocol, "mmlu_redux_skips")
    outcome = choice(numbered(place), place.subset, row["question"], row["choices"], int(row["answer"]), fault)
    # Questions that cannot be scored.
    if fault == "no_correct_answer":
        return exclusion("no option is right", fault)
    if fault == "expert":
        return exclusion("only an expert could tell which option is right", fault)
    if fault == "multiple_correct_answers" and not published:
        return exclusion(MANY_RIGHT, fault)
    if fault != "wrong_groundtruth" or outcome.question is None:
        return outcome
    # A wrong key is replaced, if the annotators name exactly one option.
    correction = str(row["correct_answer"] if row["correct_answer"] is not None else "").strip()
    if not correction:
        return outcome if published else exclusion("the key is wrong and no right one is named", fault)
    pattern = r"\d|[A-Z]" if published else r"[0-3]|[A-Da-d]"
    if not re.fullmatch(pattern, correction):
        several = len(re.findall(r"\b(?:\d|[A-Da-d])\b", correction)) > 1
        return exclusion(MANY_RIGHT if several else "the key is wrong and the one named is no option", fault)
    key = int(correction) if correction.isdigit() else LETTERS.find(correction.upper())
    corrected = choice(numbered(place), place.subset, row["question"], row["choices"], key, fault)
    return replace(corrected, outcome=CORRECTED_ROW) if corrected.question else corrected


def openbookqa(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """allenai/openbookqa: `answerKey` is one of `choices.label`."""
    key = _place(row["choices"]["label"], row["answerKey"])
    return choice(row.get("id") or numbered(place), "", row["question_stem"], row["choices"]["text"], key)


def arc(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """allenai/ai2_arc: options are labelled A to E or 1 to 4 and get new letters in their order."""
    key = str(row["answerKey"])
    if active(protocol, "arc_skips_number_keys") and key not in "ABCD":
        return exclusion("the key is a number or E")
    where = _place(row["choices"]["label"], key)
    return choice(row.get("id") or numbered(place), "", row["question"], row["choices"]["text"], where)


def ceval(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """ceval/ceval-exam: Chinese exams, options in columns A to D, subjects as configs."""
    identity = f"{place.subset}-{row['id']}" if row.get("id") is not None else numbered(place)
    key = str(row.get("answer") or "").strip()
    if not key:
        return exclusion("the key is empty")
    return choice(identity, place.subset, row["question"], [row[letter] for letter in "ABCD"], _place("ABCD", key))


def gpqa(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """Idavidrein/gpqa: the right answer and three wrong ones, shuffled with a seed that is a hash of their text.

    The texts of the last revision ("Extra Revised …") are used where a row has them.
    """

    def latest(name: str) -> str:
        return str(row.get(f"Extra Revised {name}") or row[name])

    question = latest("Question")
    answers = [latest(name) for name in ("Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)))]
    seed = int(hashlib.md5("||".join([question, *answers]).encode()).hexdigest(), 16) % 2**32
    order = list(range(len(answers)))
    random.Random(seed).shuffle(order)
    subset = str(row.get("High-level domain") or row.get("Subdomain") or "")
    identity = row.get("Record ID") or numbered(place)
    return choice(identity, subset, question, [answers[at] for at in order], order.index(0))


def mmlu_pro(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """TIGER-Lab/MMLU-Pro: up to ten options; missing ones are filled with N/A."""
    options, key = [str(option) for option in row["options"]], LETTERS.find(str(row["answer"]) or "?")
    there = [at for at, option in enumerate(options) if option.strip() != "N/A"]
    where = there.index(key) if key in there else None
    subset = str(row.get("category") or "")
    return choice(row["question_id"], subset, row["question"], [options[at] for at in there], where)


def _place(labels: Sequence[str], key: str) -> int | None:
    return list(labels).index(key) if key in list(labels) else None
