"""The transformation oracle learns what can be learned; clouds and planes say what was put into them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from c2c.analysis.transformation import TransformationTraining, explained_variance, train_transformation
from c2c.analysis.tsne import CACHES, TsneRun, cloud_table, place_caches, point_table
from c2c.errors import RefusedError

QUICK = TransformationTraining(hidden=64, steps=300, batch_size=256, learning_rate=3e-3)


def states(seed: int, count: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Sharer states, and Receiver states that are a linear function of them, far from zero and of another scale."""
    draw = torch.Generator().manual_seed(seed)
    sharer = torch.randn(count, 8, generator=draw)
    mixed = torch.randn(8, 5, generator=torch.Generator().manual_seed(99))
    return 20 * sharer + 3, 7 * sharer @ mixed - 40


def test_what_follows_from_the_sharer_is_learned_and_what_does_not_is_not() -> None:
    model = train_transformation(*states(0), QUICK)
    sharer, receiver = states(1)
    assert explained_variance(model(sharer), receiver) > 0.97
    noise = torch.randn(600, 5, generator=torch.Generator().manual_seed(7))
    guess = train_transformation(states(0)[0], noise, QUICK)
    assert explained_variance(guess(sharer), noise.flip(0)) < 0.1


def test_the_same_states_give_the_same_weights_whatever_was_drawn_before() -> None:
    few = TransformationTraining(hidden=8, steps=5, batch_size=16)
    one = train_transformation(*states(0), few)(states(1)[0])
    torch.rand(3)
    assert torch.equal(one, train_transformation(*states(0), few)(states(1)[0]))
    other = train_transformation(*states(0), few._replace(seed=1))(states(1)[0])
    assert not torch.equal(one, other)


def test_tokens_of_two_models_that_do_not_match_are_refused() -> None:
    with pytest.raises(RefusedError, match="same tokens of both models"):
        train_transformation(torch.zeros(3, 2), torch.zeros(4, 2), QUICK)


def test_explained_variance_is_one_for_the_truth_and_zero_for_its_mean() -> None:
    true = states(0)[1]
    assert explained_variance(true, true) == 1
    assert explained_variance(true.mean(0).expand_as(true), true) == pytest.approx(0, abs=1e-6)


def test_clouds_have_the_spread_and_distance_that_they_were_given() -> None:
    lattice = np.arange(10.0)[:, None]
    means = {"receiver": lattice, "sharer": 2 * lattice + 100, "transformed": lattice[::-1] + 0.25, "fused": lattice}
    table = cloud_table(means).set_index("cache")
    assert table["spread"].tolist() == pytest.approx([1, 4, 1, 1])
    assert table["distance"].tolist() == pytest.approx([1, 100, 0.25, 0])


def test_a_narrower_cache_is_filled_up_and_clouds_apart_stay_apart_in_the_plane(questions) -> None:
    draw = np.random.default_rng(0)
    means = {"receiver": draw.normal(size=(8, 6)), "sharer": draw.normal(size=(8, 3)) + 50}
    plane = point_table(means, questions["choice"], perplexity=4, iterations=300)
    assert plane["question_id"].tolist() == [f"q{n}" for n in range(8)] * 2
    middles = plane.groupby("cache")[["x", "y"]].mean()
    within = plane.groupby("cache")[["x", "y"]].std().to_numpy().max()
    assert np.linalg.norm(middles.loc["receiver"] - middles.loc["sharer"]) > within
    again = point_table(means, questions["choice"], perplexity=4, iterations=300)
    assert plane.equals(again)


@pytest.fixture
def run(fused_settings, tmp_path) -> TsneRun:
    given = fused_settings | {"questions": 5, "output": tmp_path / "points.csv"}
    more = {"training_questions": 3, "perplexity": 4, "iterations": 250, "clouds": tmp_path / "clouds.csv"}
    return TsneRun(**given, **more, training=TransformationTraining(hidden=8, steps=5))


def test_the_run_places_each_question_in_each_cache(run) -> None:
    points, clouds = place_caches(run)
    assert points.groupby("cache")["question_id"].nunique().to_dict() == dict.fromkeys(CACHES, 5)
    assert clouds["cache"].tolist() == list(CACHES) and clouds["explained"].notna().tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_questions_that_the_transformation_learned_from_are_not_shown(run, fused_settings) -> None:
    with pytest.raises(RefusedError, match=r"as many questions as the analysis takes \(9\); received 8"):
        place_caches(TsneRun(**vars(run) | {"training_questions": 4}))


def test_a_perplexity_beyond_the_points_is_refused(run) -> None:
    with pytest.raises(RefusedError, match="below a third of its 20 points"):
        TsneRun(**vars(run) | {"perplexity": 7})
