"""LongBench's metrics for the sets of LongBench-E: the credit of one answer, 0 to 1, as its own scorer defines it.

The gold answer of a record is JSON: ``{"metric": one of METRICS, "answers": [...], "classes": [...] or null,
"first_line": true or false}``. `first_line` (false where it is missing) cuts a prediction behind its first line, as
LongBench does for trec, triviaqa and samsum. The best credit over `answers` counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.storage.formats import parse_json

KEYS = {"metric", "answers", "classes", "first_line"}


def score(prediction: str, gold: str) -> float:
    """The credit of a prediction.

    Raises:
        RefusedError: `read_gold` refuses the gold answer, or rouge_l is needed and the package rouge is missing.
    """
    gold_answer = read_gold(gold)
    if gold_answer.get("first_line"):
        prediction = prediction.lstrip("\n").split("\n")[0]
    metric = METRICS[gold_answer["metric"]]
    return max(metric(prediction, answer, gold_answer.get("classes") or []) for answer in gold_answer["answers"])


def read_gold(gold: str) -> dict[str, Any]:
    """The gold answer of a record.

    Raises:
        RefusedError: It is not such JSON as this module's text describes.
    """
    remedy = "Correct doc_to_target of the task"
    gold_answer = parse_json(gold, "The gold answer of a question scored by longbench", remedy)
    if not isinstance(gold_answer, dict) or not {"metric", "answers"} <= set(gold_answer) <= KEYS:
        rule = "The gold answer of a question scored by longbench must be JSON with metric, answers and classes"
        raise RefusedError(rule, gold, remedy)
    check_choice("The metric of a LongBench question", gold_answer["metric"], METRICS)
    if not _are_texts(gold_answer["answers"]) or not gold_answer["answers"]:
        raise RefusedError(
            "The answers of a LongBench question must be a list of texts", gold_answer["answers"], remedy
        )
    classes = gold_answer.get("classes")
    if classes is not None and not _are_texts(classes):
        raise RefusedError("The classes of a LongBench question must be a list of texts", classes, remedy)
    if gold_answer["metric"] == "classification" and not classes:
        raise RefusedError("A classification must name its classes", gold, "Fill classes")
    if not isinstance(gold_answer.get("first_line", False), bool):
        raise RefusedError("first_line must be true or false", gold_answer["first_line"], remedy)
    return gold_answer


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def qa_f1(prediction: str, answer: str, classes: list[str]) -> float:
    """F1 over words, without letter case, punctuation and articles."""
    words, gold_words = _words(prediction), _words(answer)
    matches = sum((Counter(words) & Counter(gold_words)).values())
    return 2 * matches / (len(words) + len(gold_words)) if matches else 0.0


def rouge_l(prediction: str, answer: str, classes: list[str]) -> float:
    """F of ROUGE-L, by the package that LongBench uses; 0 where it finds nothing to compare.

    Raises:
        RefusedError: The package rouge is missing.
    """
    try:
        from rouge import Rouge
    except ModuleNotFoundError:
        raise RefusedError(
            "The package rouge must be installed for rouge_l", "not installed", "pip install 'cache-to-cache[graders]'"
        ) from None
    try:
        return float(Rouge(metrics=["rouge-l"]).get_scores([prediction], [answer])[0]["rouge-l"]["f"])
    except (ValueError, RecursionError):
        return 0.0


def classification(prediction: str, answer: str, classes: list[str]) -> float:
    """1 over the number of classes that the prediction names, if the right one is among them.

    A class whose name is a part of the right one's does not count.
    """
    named = [name for name in classes if name in prediction and (name == answer or name not in answer)]
    return 1 / len(named) if answer in named else 0.0


def retrieval(prediction: str, answer: str, classes: list[str]) -> float:
    """The share of the right paragraph's number among all numbers of the prediction."""
    number = re.search(r"Paragraph (\d+)", answer)
    return count(prediction, number.group(1) if number else answer, classes)


def count(prediction: str, answer: str, classes: list[str]) -> float:
    """The share of the right number among all numbers of the prediction."""
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(str(answer)) / len(numbers) if numbers else 0.0


def code_similarity(prediction: str, answer: str, classes: list[str]) -> float:
    """How alike the answer and the first line of code of the prediction are, in whole hundredths."""
    lines = prediction.lstrip("\n").split("\n")
    code = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    if code == answer:
        return 1.0
    return round(100 * SequenceMatcher(None, code, answer).ratio()) / 100 if code and answer else 0.0


def _words(text: str) -> list[str]:
    bare = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


Metric = Callable[[str, str, list[str]], float]
METRICS: dict[str, Metric] = {
    "qa_f1": qa_f1,
    "rouge_l": rouge_l,
    "classification": classification,
    "retrieval": retrieval,
    "count": count,
    "code_similarity": code_similarity,
}
