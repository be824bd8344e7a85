"""Properties of the intervals and paired tests, on cases with known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp

from c2c import stats
from c2c.errors import RefusedError
from c2c.stats import NO_SEED, Cell


def answers(values: list[list[int]], seeds: list[int]) -> pd.DataFrame:
    return pd.DataFrame(values, index=[f"q{row}" for row in range(len(values))], columns=seeds)


def random_answers(rate: float, seeds: list[int], questions: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return answers((rng.random((questions, len(seeds))) < rate).astype(int).tolist(), seeds)


def test_wilson_interval_is_newcombes_published_example():
    low, high = stats.wilson_interval(81, 263)  # Newcombe 1998, table I: 0.2553, 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_interval_of_no_success_begins_at_zero_and_has_width():
    low, high = stats.wilson_interval(0, 20)
    assert low == 0 and round(high, 4) == 0.1611  # Newcombe 1998: 0/20


def test_impossible_proportion_is_refused():
    with pytest.raises(RefusedError, match="successes"):
        stats.wilson_interval(3, 2)


def test_a_gain_of_identical_answers_is_zero_with_an_interval_around_it():
    same = random_answers(0.4, [0, 1, 2])
    gain = stats.mean_with_interval(stats.paired_difference(same, same))
    assert (gain.value, gain.n, gain.seeds) == (0, 200, 3)
    assert gain.low == -gain.high and 0 < gain.high < 0.01


def test_a_method_without_seeds_is_compared_with_every_seed():
    difference = stats.paired_difference(answers([[1, 0], [1, 1]], [0, 1]), answers([[0], [1]], [NO_SEED]))
    assert difference.to_numpy().tolist() == [[1, 0], [0, 0]]


def test_methods_are_compared_on_the_seeds_they_share_whatever_the_order_of_questions():
    left, right = answers([[1, 0], [0, 1]], [0, 1]), answers([[1], [0]], [1]).iloc[::-1]
    assert stats.paired_difference(left, right).to_dict() == {1: {"q0": -1.0, "q1": 1.0}}


def test_different_questions_are_refused():
    with pytest.raises(RefusedError, match="same questions"):
        stats.paired_difference(answers([[1]], [0]), answers([[1], [0]], [0]))


def test_methods_without_a_common_seed_are_refused():
    with pytest.raises(RefusedError, match="share training seeds"):
        stats.paired_difference(answers([[1]], [0]), answers([[1]], [1]))


def test_with_one_seed_the_interval_is_the_t_interval_of_the_questions():
    sample = random_answers(0.3, [0]) - 0.25
    expected = ttest_1samp(sample[0], 0).confidence_interval(0.95)
    estimate = stats.mean_with_interval(sample)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.p_value == pytest.approx(ttest_1samp(sample[0], 0).pvalue)


def test_the_spread_of_a_balanced_table_is_that_of_the_two_way_analysis_of_variance():
    values = np.random.default_rng(3).normal(size=(40, 3)) + np.arange(3)
    mean, by_question, by_seed = values.mean(), values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    ms_question = 3 * ((by_question - mean) ** 2).sum() / 39
    ms_seed = 40 * ((by_seed - mean) ** 2).sum() / 2
    ms_rest = ((values - by_question - by_seed + mean) ** 2).sum() / 78
    spread = stats.crossed_spread([Cell(pd.DataFrame(values))])
    assert spread.error**2 == pytest.approx((max(ms_question - ms_rest, 0) + ms_seed) / 120)
    assert spread.seeds_df == pytest.approx(2)


def test_where_all_that_differs_is_the_seed_the_interval_is_the_t_interval_of_the_seeds():
    sample = pd.DataFrame(np.tile([0.1, 0.2, 0.6], (50, 1)))
    expected = ttest_1samp([0.1, 0.2, 0.6], 0).confidence_interval(0.95)
    estimate = stats.mean_with_interval(sample)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.seed_sd == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))


def test_seeds_that_agree_by_chance_do_not_make_an_interval_of_no_width():
    # Each of three trainings loses two questions of a hundred and wins one: the same mean, by different answers.
    values = pd.DataFrame(np.zeros((100, 3)))
    for seed in range(3):
        values.loc[[10 * seed, 10 * seed + 1], seed] = -1.0
        values.loc[10 * seed + 2, seed] = 1.0
    estimate = stats.mean_with_interval(values)
    assert estimate.low < -0.01 < 0 < estimate.high
    assert estimate.p_value > 0.05


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.5, 1.0])
def test_questions_that_all_agree_give_an_interval_that_has_a_width_and_narrows_with_their_number(value, seeds):
    widths = []
    for n in (2, 7, 30, 200):
        estimate = stats.mean_with_interval(pd.DataFrame(np.full((n, seeds), value)))
        assert estimate.value == value and estimate.low < value < estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths == sorted(widths, reverse=True)


def test_the_error_of_equal_differences_is_that_of_agresti_and_min():
    # Eight questions answered alike by both: 1 of 10 is discordant, which gives √1 / 10.
    assert stats.constant_error(0.0, 8) == pytest.approx(0.1)
    # One method alone right on all eight: 9 of 10 discordant, √(9 - 64 / 10) / 10.
    assert stats.constant_error(1.0, 8) == pytest.approx(2.6**0.5 / 10)
    assert stats.constant_error(-1.0, 8) == stats.constant_error(1.0, 8)


def test_seeds_that_agree_in_every_answer_have_a_measured_spread_of_zero():
    assert stats.accuracy_with_interval(answers([[1, 1, 1]] * 30, [0, 1, 2])).seed_sd == 0
    assert np.isnan(stats.accuracy_with_interval(answers([[1]] * 30, [0])).seed_sd)


def test_p_is_below_five_percent_just_where_the_interval_leaves_zero_out():
    draw = np.random.default_rng(0)
    for _ in range(50):
        sample = pd.DataFrame(draw.normal(draw.normal(0, 0.3), 1, (60, 3)) + draw.normal(0, 0.2, 3))
        estimate = stats.mean_with_interval(sample)
        assert (estimate.p_value < 0.05) == (not estimate.low <= 0 <= estimate.high)


def test_an_assumed_difference_between_trainings_adds_to_the_error_of_one_seed_and_of_no_other():
    estimate = stats.mean_with_interval(random_answers(0.3, [0]))
    widths = [estimate.with_seed_sd(seed_sd).high - estimate.value for seed_sd in (0.0, 0.01, 0.03)]
    assert widths == sorted(widths) and widths[0] == pytest.approx(estimate.high - estimate.value)
    assert widths[2] ** 2 - widths[0] ** 2 == pytest.approx((1.959964 * 0.03) ** 2)
    with pytest.raises(RefusedError, match="one seed"):
        stats.mean_with_interval(random_answers(0.3, [0, 1])).with_seed_sd(0.01)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_never_turns_the_order():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    adjusted = stats.holm([float("nan"), 0.02])
    assert np.isnan(adjusted[0]) and adjusted[1] == 0.02


def test_seeds_that_differ_widen_the_interval():
    agreeing = pd.concat([random_answers(0.5, [0])[0]] * 2, axis=1, keys=[0, 1])
    differing = pd.concat([agreeing[0], 0 * agreeing[1]], axis=1)
    widths = [e.high - e.low for e in map(stats.mean_with_interval, (agreeing, differing))]
    assert widths[1] > 2 * widths[0]


def test_the_order_of_questions_changes_no_interval():
    sample = random_answers(0.4, [0, 1])
    assert stats.mean_with_interval(sample) == stats.mean_with_interval(sample.sample(frac=1, random_state=3))


def test_pairs_that_share_their_questions_do_not_count_as_independent():
    sample = random_answers(0.4, [0])
    shared = [Cell(sample, pair, "bench") for pair in ("a", "b")]
    separate = [Cell(sample, pair, f"bench_{pair}") for pair in ("a", "b")]
    errors = [stats.crossed_spread(cells).error for cells in (shared, separate)]
    assert errors[0] == pytest.approx(2**0.5 * errors[1])


def test_benchmarks_of_one_pair_share_its_trainings():
    sample = pd.DataFrame(np.tile([0.1, 0.2, 0.6], (50, 1)))
    shared = [Cell(sample, "pair", benchmark) for benchmark in ("a", "b")]
    separate = [Cell(sample, f"pair {benchmark}", benchmark) for benchmark in ("a", "b")]
    spreads = [stats.crossed_spread(cells) for cells in (shared, separate)]
    assert spreads[0].seeds == pytest.approx(2**0.5 * spreads[1].seeds)
    assert [spread.seeds_df for spread in spreads] == pytest.approx([2, 4])


def test_every_cell_counts_alike_in_the_mean():
    cells = [Cell(answers([[1]] * 10, [0]), benchmark="small"), Cell(answers([[0]] * 90, [0]), benchmark="large")]
    assert stats.mean_with_interval(cells).value == 0.5


def test_gains_add_up():
    arms = {
        name: random_answers(rate, [0, 1]) for name, rate in (("c2c", 0.8), ("c2c_deranged", 0.1), ("adapter", 0.3))
    }
    gains = stats.gain_decomposition({**arms, "receiver": random_answers(0.2, [NO_SEED])})
    assert gains["system"].value == pytest.approx(gains["communication"].value + gains["adaptation"].value)
    assert gains["pairing"].low > 0.5


def test_a_gain_without_its_control_is_none():
    gains = stats.gain_decomposition({"c2c": answers([[1]], [0]), "receiver": answers([[0]], [NO_SEED])})
    assert gains["communication"] is None and gains["system"].value == 1


def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_questions():
    left, right = answers([[1]] * 9 + [[0]] * 2 + [[1]] * 5, [0]), answers([[0]] * 9 + [[1]] * 2 + [[1]] * 5, [0])
    found = stats.exact_mcnemar(left, right)
    assert (found.left_only, found.right_only) == (9, 2)
    assert found.p_values == (pytest.approx(0.06542969),) == (binomtest(2, 11, 0.5).pvalue,)


def test_mcnemar_tests_every_seed_for_itself():
    one = stats.exact_mcnemar(answers([[1]] * 4, [0]), answers([[0]] * 4, [NO_SEED]))
    three = stats.exact_mcnemar(answers([[1, 1, 1]] * 4, [0, 1, 2]), answers([[0]] * 4, [NO_SEED]))
    assert (three.left_only, three.p_values) == (12, 3 * one.p_values)


def test_all_right_for_several_seeds_still_has_an_interval():
    found = stats.accuracy_with_interval(answers([[1, 1, 1]] * 30, [0, 1, 2]))
    assert (found.value, found.high, found.n) == (1, 1, 30) and found.low < 0.9


def test_accuracy_of_one_seed_has_wilsons_interval():
    found = stats.accuracy_with_interval(answers([[1]] * 81 + [[0]] * 182, [0]))
    assert (found.low, found.high) == stats.wilson_interval(81, 263)


def test_bootstrap_mean_covers_the_normal_interval():
    sample = np.random.default_rng(0).normal(10, 2, 400)
    found = stats.bootstrap_mean(sample)
    assert found.value == pytest.approx(sample.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.05)


def test_one_question_has_no_interval():
    assert np.isnan(stats.bootstrap_mean([3.0]).low)


def test_ratio_of_proportional_times_is_exact():
    times = np.array([1.0, 2.0, 5.0])
    found = stats.bootstrap_ratio(3 * times, times)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))


def test_ratio_of_unpaired_times_is_refused():
    with pytest.raises(RefusedError, match="same two or more questions"):
        stats.bootstrap_ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("n", "discordance"), [(500, 0.2), (500, 0.1), (200, 0.4), (1500, 0.1)])
def test_a_detectable_difference_is_found_by_a_test_of_simulated_answers_in_four_of_five_cases(n, discordance):
    delta = stats.minimal_detectable_difference(n, discordance)
    share = (discordance + delta) / 2
    wins, losses, _ = np.random.default_rng(0).multinomial(n, [share, discordance - share, 1 - discordance], 20_000).T
    found = np.abs(wins - losses) / np.sqrt(np.maximum(wins + losses, 1)) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.025)
    exact = [stats._binomial_p(int(win), int(loss)) < 0.05 for win, loss in zip(wins[:500], losses[:500], strict=True)]
    assert np.mean(exact) == pytest.approx(0.8, abs=0.1)


def test_a_detectable_difference_falls_with_questions_and_rises_with_discordance():
    by_questions = [stats.minimal_detectable_difference(n, 0.2) for n in (100, 400, 1600)]
    assert by_questions == sorted(by_questions, reverse=True)
    assert by_questions[0] / by_questions[2] == pytest.approx(4, rel=0.05)
    by_discordance = [stats.minimal_detectable_difference(400, share) for share in (0, 0.05, 0.2, 0.8)]
    assert by_discordance == sorted(by_discordance)


def test_where_answers_never_differ_some_difference_is_detectable_all_the_same():
    share = stats.minimal_detectable_difference(500, 0.0)
    wins = np.random.default_rng(0).binomial(500, share, 20_000)
    exact = np.array([stats._binomial_p(number, 0) < 0.05 for number in range(500)])
    assert exact[wins].mean() == pytest.approx(0.8, abs=0.03)
    assert stats.minimal_detectable_difference(3, 0.0) == 1.0


@pytest.mark.parametrize(("n", "discordance"), [(0, 0.1), (10, 1.1), (10, -0.1)])
def test_a_discordance_that_is_none_is_refused(n, discordance):
    with pytest.raises(RefusedError, match="discordance"):
        stats.minimal_detectable_difference(n, discordance)


def graded(draw: np.random.Generator, mean: float) -> pd.DataFrame:
    return pd.DataFrame({0: draw.beta(2 * mean, 2 * (1 - mean), 400), 1: draw.beta(2 * mean, 2 * (1 - mean), 400)})


def test_graded_answers_have_intervals_and_a_detectable_difference_but_no_mcnemar():
    draw = np.random.default_rng(0)
    left, right = graded(draw, 0.6), graded(draw, 0.4)
    found = stats.accuracy_with_interval(left[[0]])
    assert found.low < found.value < found.high and found.value == pytest.approx(left[0].mean())
    assert stats.mean_with_interval(stats.paired_difference(left, right)[[0]]).low > 0.1
    spread = (left - right).std().mean() / 20
    assert stats.detectable_difference(left, right) == pytest.approx(2.8 * spread, rel=0.01)
    with pytest.raises(RefusedError, match="McNemar"):
        stats.exact_mcnemar(left, right)


def test_a_widened_interval_has_the_seed_term_of_the_replication_rule():
    values = pd.DataFrame(np.tile([0.1, 0.2, 0.6], (50, 1)))
    estimate = stats.mean_with_interval(values)
    term = 1.959964 * np.std([0.1, 0.2, 0.6], ddof=1) * (1 + 1 / 3) ** 0.5
    assert estimate.widened(0.9).high - estimate.value == pytest.approx(max(term, estimate.high - estimate.value))
    one = stats.accuracy_with_interval(random_answers(0.3, [0]))
    above, below = one.high - one.value, one.value - one.low
    widened, term = one.widened(0.02), 1.959964 * 0.02 * 2**0.5
    assert widened.high - one.value == pytest.approx(np.hypot(above, term))
    assert one.value - widened.low == pytest.approx(np.hypot(below, term))


def test_equivalence_of_one_seed_is_the_greater_of_two_one_sided_t_tests():
    values = np.random.default_rng(3).normal(0.01, 0.2, size=150)
    estimate = stats.mean_with_interval(pd.DataFrame({NO_SEED: values}))
    above = ttest_1samp(values, -0.05, alternative="greater").pvalue
    below = ttest_1samp(values, 0.05, alternative="less").pvalue
    assert estimate.equivalence_p(0.05) == pytest.approx(max(above, below))
    assert estimate.not_below_p(0.05) == pytest.approx(above)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3])
def test_equivalence_holds_just_where_the_90_percent_interval_lies_within_the_margin(rate):
    difference = stats.paired_difference(random_answers(0.3, [0, 1, 2]), random_answers(0.3 + rate, [0, 1, 2]))
    estimate = stats.mean_with_interval(difference)
    reach = abs(estimate.value) + estimate.spread.half_width(0.9)
    assert estimate.equivalence_margin == pytest.approx(reach)
    assert estimate.equivalence_p(reach * 1.001) < 0.05 < estimate.equivalence_p(reach * 0.999)


def test_a_difference_as_large_as_the_margin_or_larger_is_never_equivalent():
    estimate = stats.mean_with_interval(pd.DataFrame({NO_SEED: [0.1, 0.2, 0.1, 0.2] * 50}))
    assert estimate.equivalence_p(estimate.value) == pytest.approx(0.5)
    assert estimate.equivalence_p(estimate.value / 2) > 0.99


def test_a_margin_that_is_not_above_zero_is_refused():
    with pytest.raises(RefusedError, match="margin"):
        stats.mean_with_interval(random_answers(0.3, [0, 1])).equivalence_p(0)


def of_own_questions(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename_axis(index=stats.OWN_QUESTIONS)


def test_seeds_with_questions_of_their_own_that_agree_make_one_large_sample():
    # Each seed has the same share of right answers, on other questions.
    frame = answers([[row % 2, (row // 2) % 2] for row in range(200)], [0, 1])
    estimate = stats.mean_with_interval(of_own_questions(frame))
    values = frame.to_numpy(float).ravel()
    one = stats.mean_with_interval(pd.DataFrame({NO_SEED: values}))
    assert estimate.high - estimate.value == pytest.approx(one.high - one.value, rel=0.01)


def test_seeds_that_differ_more_than_their_questions_explain_widen_the_interval():
    frame = pd.DataFrame({0: [0] * 90 + [1] * 10, 1: [1] * 90 + [0] * 10})
    apart, alike = (stats.mean_with_interval(of_own_questions(sides)) for sides in (frame, frame[[0]]))
    assert apart.high - apart.low > 5 * (alike.high - alike.low)


def test_a_paired_difference_keeps_that_each_seed_has_questions_of_its_own():
    frame = of_own_questions(random_answers(0.5, [0, 1]))
    assert stats.paired_difference(frame, 1 - frame).index.name == stats.OWN_QUESTIONS
