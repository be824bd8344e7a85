"""The gains in nats: what a margin is, and that the table and its sentences follow the option scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2c.evaluation.scoring import gold_margin
from c2c.stats import holm
from paper.findings import answers as findings
from paper.reading.answers import Answers
from paper.tables import margins
from tests.paper.builder import Run, make_records

CELL = {"pair": "gap_a", "benchmark": "knowledge_gap_choice", "gain": "pairing"}


def weighed(scores: list[float] | None, choices: list[str], error: str | None = None) -> pd.DataFrame:
    """One record whose gold answer is "red"."""
    return pd.DataFrame([{"gold": "red", "choices": choices, "choice_scores": scores, "error": error}])


@pytest.mark.parametrize(
    ("scores", "choices", "margin"),
    [
        ([-1.0, -2.0, -4.0], ["red", "blue", "green"], 2.0),
        ([-2.0, -1.0, -4.0], ["blue", "red", "green"], 2.0),
        ([-1.0, -3.0, -4.0], ["red", "red", "green"], 2.0),
    ],
)
def test_a_margin_is_the_gold_option_less_the_mean_of_those_that_are_another_answer(scores, choices, margin):
    assert gold_margin(weighed(scores, choices)).tolist() == [margin]


@pytest.mark.parametrize(
    "record",
    [
        weighed(None, ["red", "blue"]),
        weighed([-1.0, -2.0], ["red", "blue"], error="out of memory"),
        weighed([-1.0, -2.0], ["red", "red"]),
    ],
)
def test_without_weighed_options_an_answer_or_another_option_there_is_no_margin(record):
    assert gold_margin(record).isna().all()


@pytest.fixture
def records() -> pd.DataFrame:
    """Records of the world, in which the options of the choice are weighed at random."""
    records = make_records(
        [Run("gap_a"), *(Run("gap_a", recipe, "span", seed) for recipe in ("c2c", "adapter") for seed in range(3))]
    )
    draw = np.random.default_rng(0)
    rows = records["benchmark"] == CELL["benchmark"]
    choices = records.loc[rows, "choices"].map(lambda options: options if options is not None else ["a", "b", "c", "d"])
    records.loc[rows, "choices"] = choices
    records.loc[rows, "gold"] = choices.map(lambda options: options[0])
    records.loc[rows, "choice_scores"] = choices.map(lambda options: list(draw.normal(size=len(options))))
    records.loc[rows, "scoring"] = "likelihood"
    return records


def pairing(records: pd.DataFrame) -> pd.Series:
    frame = margins.build(Answers(records))
    return frame[(frame[list(CELL)] == pd.Series(CELL)).all(axis=1)].iloc[0]


def test_what_the_right_message_adds_to_the_gold_options_likelihood_is_the_pairing_gain_in_nats(records):
    raised = records.copy()
    rows = (raised["benchmark"] == CELL["benchmark"]) & (raised["recipe"] == "c2c") & (raised["method"] == "c2c")
    raised.loc[rows, "choice_scores"] = raised.loc[rows, "choice_scores"].map(
        lambda scores: [scores[0] + 0.5, *scores[1:]]
    )
    before, after = pairing(records), pairing(raised)
    assert after["value"] == pytest.approx(before["value"] + 0.5)
    assert (after["n"], after["seeds"]) == (40, 3)


def test_p_is_adjusted_for_the_cells_of_the_same_gain(records):
    frame = margins.build(Answers(records))
    for _, cells in frame.groupby("gain"):
        assert cells["p_holm"].tolist() == pytest.approx(holm(cells["p_value"]))


def test_benchmarks_whose_options_are_not_weighed_are_no_rows(records):
    assert set(margins.build(Answers(records))["benchmark"]) == {CELL["benchmark"]}


def test_sentences_name_the_cells_that_the_adjustment_leaves_only_where_it_leaves_some_out():
    row = {"pair": "gap_a", "benchmark": "knowledge_gap_free", "gain": "pairing", "value": 1.0, "low": 0.5, "high": 1.5}
    both = pd.DataFrame([row | {"p_holm": 0.01}, row | {"p_holm": 0.01, "pair": "gap_b"}])
    assert findings.margins(both)[0].endswith("it stays above zero there.")
    one = both.assign(p_holm=[0.01, 0.2])
    assert "above zero on Pair A" in findings.margins(one)[0] and "Pair B" not in findings.margins(one)[0]
