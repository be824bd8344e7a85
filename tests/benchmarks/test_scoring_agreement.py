"""The rules of scoring agree with a reader as often as the documentation says."""

import pandas as pd
import pytest

from benchmarks.scoring_agreement import (
    AGREEMENT,
    CHINESE,
    FIRST_SIGHT,
    grade_as_released,
    measure,
    read_outputs,
    summary,
)


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pd.read_csv(AGREEMENT)


def test_our_rules_agree_at_least_as_often_as_measured_and_the_released_ones_exactly(committed):
    rows = measure()
    assert rows[["group", "n"]].equals(committed[["group", "n"]])
    assert (rows["ours"] >= committed["ours"]).all()
    assert rows["released"].tolist() == committed["released"].tolist()


def test_our_rules_agree_more_often_than_the_released_ones_in_every_group(committed):
    assert (committed["ours"] > committed["released"]).all()


def test_the_table_of_the_documentation_follows_from_the_numbers(committed):
    assert AGREEMENT.with_suffix(".md").read_text() == summary(committed, pd.read_csv(FIRST_SIGHT))


def test_the_labelled_answers_are_many_and_differ(committed):
    letters, problems = read_outputs("letters"), read_outputs("mathematics")
    assert len(letters) >= 150 and len(problems) >= 100 and len(letters) + len(problems) >= 300
    assert committed.set_index("group").loc[CHINESE, "n"] >= 40
    assert not letters.duplicated(["opening", "text", "options"]).any()
    assert not problems.duplicated(["gold", "text"]).any()


@pytest.mark.parametrize(
    ("gold", "text", "right"),
    [("18", "The answer is 18.", True), ("18", "nothing", False), ("\\frac{1}{2}", "\\boxed{0.5}", True)],
)
def test_the_released_grader_compares_by_value(gold, text, right):
    assert grade_as_released(gold, text, number=gold.isdigit()) == right
