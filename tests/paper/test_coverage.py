"""The committed simulation of the intervals: what it must show, and that its rows can be made again."""

import numpy as np
import pandas as pd
import pytest

import paper.coverage
from paper.coverage import (
    BOUNDS,
    EQUIVALENCE,
    MARGIN,
    PATH,
    SIMULATIONS,
    TIMES_AT_A_BOUND,
    Setting,
    differences,
    row,
    settings,
    settings_of_equivalence,
    simulate,
    summary,
    summary_of_equivalence,
)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_csv(PATH)


def test_every_setting_has_its_row(rows):
    columns = list(Setting.__dataclass_fields__)
    assert rows[columns].to_dict("records") == [vars(setting) for setting in settings()]


def test_intervals_of_three_seeds_cover_the_truth_in_93_to_97_percent(rows):
    three = rows[rows["seeds"] == 3]
    assert set(three["n"]) == {100, 500} and set(three["seed_sd"]) == {0, 1, 2, 3}
    low, high = BOUNDS
    assert (three["coverage"] >= low - three["error"]).all() and (three["coverage"] <= high + three["error"]).all()


def test_a_coverage_at_a_bound_rests_on_more_runs_than_those_that_brought_it_there(rows):
    many = rows["simulations"] == TIMES_AT_A_BOUND * SIMULATIONS
    at_a_bound = (rows["coverage"] >= BOUNDS[1] - rows["error"]) | (rows["coverage"] <= BOUNDS[0] + rows["error"])
    assert many.any() and (many | (rows["seeds"] == 1) | ~at_a_bound).all()


def test_the_standard_error_is_that_of_a_share_of_the_runs(rows):
    share = rows["coverage"] / 100
    assert rows["error"].to_numpy() == pytest.approx(
        (100 * (share * (1 - share) / rows["simulations"]) ** 0.5).to_numpy(), abs=0.006
    )


def test_only_rows_of_several_seeds_at_a_bound_are_simulated_anew(monkeypatch):
    def coverage_of(coverage):
        calls = []
        monkeypatch.setattr(
            paper.coverage,
            "simulate",
            lambda setting, runs, seed=0: calls.append((runs, seed)) or {"coverage": coverage, "error": 0.5},
        )
        return calls

    setting, one_seed = Setting("adapter", 30, 3, 2, 0.5), Setting("adapter", 30, 1, 2, 0.5)
    calls = coverage_of(95.0)
    row(setting, 10)
    assert calls == [(10, 0)]
    for at_a_bound in (96.6, 98.0, 93.4, 90.0):
        calls = coverage_of(at_a_bound)
        row(setting, 10)
        assert calls == [(10, 0), (10 * TIMES_AT_A_BOUND, 1)]
    calls = coverage_of(90.0)
    row(one_seed, 10)
    assert calls == [(10, 0)]


def test_a_true_zero_is_called_supported_in_at_most_five_percent_with_several_seeds(rows):
    assert (rows.loc[rows["seeds"] > 1, "false_supported"] <= 5).all()


def test_the_bootstrap_that_the_t_interval_replaced_is_too_narrow_where_trainings_differ(rows):
    worst = rows[(rows["seeds"] == 3) & (rows["seed_sd"] == 3) & (rows["n"] == 500)]
    assert (worst["coverage_bootstrap"] < worst["coverage"]).all()


def test_one_seed_does_not_cover_other_trainings(rows):
    one = rows[(rows["seeds"] == 1) & (rows["seed_sd"] == 3) & (rows["n"] == 500)]
    assert (one["coverage"] < 80).all()


def test_the_markdown_table_is_that_of_the_rows(rows):
    assert PATH.with_suffix(".md").read_text(encoding="utf-8") == summary(rows)


def test_a_row_is_the_same_whenever_it_is_simulated():
    setting = Setting("adapter", 30, 3, 2, 0.5)
    assert simulate(setting, 20) == simulate(setting, 20)


def test_the_spread_of_simulated_trainings_is_the_one_that_is_asked_for():
    rng = np.random.default_rng(0)
    means = [
        float(differences(Setting("receiver", 4000, 1, 3, 0.5), rng)[0].values.to_numpy().mean()) for _ in range(400)
    ]
    # Of the questions' part, 4,000 of them leave half a point.
    assert 100 * np.std(means) == pytest.approx(3, rel=0.15)


@pytest.fixture(scope="module")
def equivalence() -> pd.DataFrame:
    return pd.read_csv(EQUIVALENCE)


def test_every_setting_of_equivalence_has_its_row(equivalence):
    columns = ["against", "n", "seeds", "seed_sd", "common"]
    expected = [
        {"items": items, **{name: getattr(setting, name) for name in columns}}
        for items, setting in settings_of_equivalence()
    ]
    assert equivalence[["items", *columns]].to_dict("records") == expected


def test_equivalence_is_stated_wrongly_in_at_most_5_percent_and_the_interval_covers_in_93(equivalence):
    assert {100, 500} <= set(equivalence["n"]) and set(equivalence["seeds"]) == {3}
    assert (equivalence["false_equivalent"] <= 5 + 2 * equivalence["error"]).all()
    error = 100 * (0.07 * 0.93 / equivalence["simulations"]) ** 0.5
    assert (equivalence["coverage"] >= BOUNDS[0] - error)[equivalence["n"] <= 500].all()
    assert (equivalence["coverage"] >= BOUNDS[0] - 1).sum() >= len(equivalence) - 1
    assert (equivalence["coverage"] >= BOUNDS[0] - 2).all()


def test_more_questions_find_equivalence_more_often(equivalence):
    for _, rows in equivalence.groupby(["items", "against", "seed_sd"]):
        assert rows.sort_values("n")["power"].is_monotonic_increasing


def test_items_of_each_training_find_equivalence_more_often_than_the_same_items(equivalence):
    rows = equivalence[equivalence["n"] == 1500].pivot_table(index="seed_sd", columns="items", values="power")
    assert (rows["each its own"] >= rows["the same"]).all()


def test_the_markdown_table_of_equivalence_is_that_of_the_rows(equivalence):
    assert EQUIVALENCE.with_suffix(".md").read_text(encoding="utf-8") == summary_of_equivalence(equivalence)


def test_a_simulated_lead_is_the_one_that_is_asked_for():
    rng = np.random.default_rng(0)
    setting = Setting("receiver", 4000, 3, 2, 0.5)
    means = [float(differences(setting, rng, MARGIN)[0].values.to_numpy().mean()) for _ in range(100)]
    assert 100 * np.mean(means) == pytest.approx(MARGIN, abs=0.4)
