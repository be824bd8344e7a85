"""LongBench's metrics: known cases, and the same numbers as a published copy of its scorer."""

import importlib
import json
import sys
from difflib import SequenceMatcher
from types import ModuleType, SimpleNamespace

import pytest

from c2c.errors import RefusedError
from c2c.evaluation.scoring import longbench

CLASSES = ["Food", "Food group", "Date", "Speed", "Distance"]
# Metric, prediction, answer, credit (None: whatever the published scorer says).
CASES = [
    ("qa_f1", "The Eiffel Tower!", "eiffel tower", 1.0),
    ("qa_f1", "It is the Eiffel Tower in Paris", "Eiffel Tower", None),
    ("qa_f1", "", "Paris", 0.0),
    ("qa_f1", "a", "the", 0.0),
    ("qa_f1", "yes yes yes", "yes", 0.5),
    ("rouge_l", "the cat sat on the mat", "the cat lay on the mat", None),
    ("rouge_l", "A long report. It has two sentences.", "The report has two sentences. It is long.", None),
    ("rouge_l", "", "anything", 0.0),
    ("rouge_l", "...", "anything", 0.0),
    ("classification", "Type: Date", "Date", 1.0),
    ("classification", "Date or Speed", "Date", 0.5),
    ("classification", "Food group", "Food group", 1.0),
    ("classification", "Food group", "Food", 0.5),
    ("classification", "date", "Date", 0.0),
    ("retrieval", "Paragraph 12", "Paragraph 12", 1.0),
    ("retrieval", "Paragraph 1 or 12", "Paragraph 12", 0.5),
    ("retrieval", "none", "Paragraph 12", 0.0),
    ("count", "There are 7 of 30", "7", 0.5),
    ("count", "seven", "7", 0.0),
    ("code_similarity", "return x\n# done", "return x", 1.0),
    ("code_similarity", "```python\n# comment\nreturn y", "return x", 0.88),
    ("code_similarity", "```", "return x", 0.0),
    ("code_similarity", "    for i in range(10):\n        pass", "    for j in range(n):", None),
]
PUBLISHED = {"qa_f1": "qa_f1_score", "rouge_l": "rouge_score", "code_similarity": "code_sim_score"}


def gold(metric: str, *answers: str, **more: object) -> str:
    return json.dumps({"metric": metric, "answers": list(answers), "classes": CLASSES, **more})


@pytest.fixture
def published(monkeypatch) -> ModuleType:
    """lm-eval's copy of LongBench's scorer; the two packages that it needs are the pure-Python ones of LongBench."""
    ratio = lambda left, right: round(100 * SequenceMatcher(None, left, right).ratio()) if left and right else 0  # noqa: E731
    monkeypatch.setitem(sys.modules, "jieba", ModuleType("jieba"))
    monkeypatch.setitem(sys.modules, "fuzzywuzzy", SimpleNamespace(fuzz=SimpleNamespace(ratio=ratio)))
    return importlib.import_module("lm_eval.tasks.longbench.metrics")


@pytest.mark.parametrize(("metric", "prediction", "answer", "credit"), CASES)
def test_the_credit_is_that_of_the_published_scorer(published, metric, prediction, answer, credit):
    found = longbench.score(prediction, gold(metric, answer))
    theirs = getattr(published, PUBLISHED.get(metric, f"{metric}_score"))
    assert found == pytest.approx(theirs(prediction, answer, all_classes=CLASSES))
    assert credit is None or found == pytest.approx(credit)


def test_the_best_answer_counts():
    assert longbench.score("Paris", gold("qa_f1", "London", "Paris, France", "Paris")) == 1.0


def test_only_the_first_line_counts_where_the_gold_answer_says_so():
    prediction = "\nParis\nQuestion: and then?"
    assert longbench.score(prediction, gold("qa_f1", "Paris", first_line=True)) == 1.0
    assert longbench.score(prediction, gold("qa_f1", "Paris")) < 1.0


@pytest.mark.parametrize(
    "wrong",
    ["Paris", "[]", '{"metric": "qa_f1"}', gold("qa_f1"), gold("bleu", "x"), gold("qa_f1", "x", colour="red"),
     json.dumps({"metric": "classification", "answers": ["x"], "classes": None})],
)  # fmt: skip
def test_a_gold_answer_that_cannot_be_scored_is_refused(wrong):
    with pytest.raises(RefusedError):
        longbench.read_gold(wrong)
