"""Intervals and paired tests over questions and seeds. Imports no torch.

Answers of one method on one benchmark are a frame of zeros and ones, questions as rows (`Q`), training seeds as
columns (`S`). A method without training has the single column `NO_SEED`. Where each seed answered questions of its own,
rows are mere ranks, and the index of a frame is named `OWN_QUESTIONS`. Values are fractions, not percent. Where a
scoring gives parts of a point, answers are *graded*: numbers between 0 and 1, to which tests of counts do not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binomtest, bootstrap, norm
from scipy.stats import t as student

from c2c.errors import RefusedError

CONFIDENCE = 0.95
EQUIVALENCE_CONFIDENCE = 0.9
"""Of the interval that must lie within the margin for equivalence at the level 5 %."""
POWER = 0.8
RESAMPLES = 10_000
NO_SEED = -1
OWN_QUESTIONS = "rank among the questions of a seed"
"""Name of the index of answers of which each seed has questions of its own."""
SEEDS_COUNT_FROM = 0.5
"""See `own_questions_spread`."""
MINIMAL_P = 1e-12
"""One-sided p below which a t test says no more."""
GAINS = {
    "system": ("c2c", "receiver"),
    "any_message": ("c2c_deranged", "receiver"),
    "pairing": ("c2c", "c2c_deranged"),
    "content": ("c2c", "c2c_same_answer"),
    "communication": ("c2c", "adapter"),
    "adaptation": ("adapter", "receiver"),
}
"""Which two methods each gain compares (``docs/controls.md``); the control of `content` is not run everywhere. System,
any message and pairing are the OPE, OME and CAG of the causal audits, and the first is the sum of the other two."""


@dataclass(frozen=True)
class Spread:
    """The standard error of a mean in two parts: that of the questions drawn, and that of the trainings drawn.

    Attributes:
        questions: Standard error from the questions, in the unit of the mean.
        seeds: Standard error from the training seeds; 0 where a method has one seed, which says nothing about others.
        questions_df: Degrees of freedom of `questions`.
        seeds_df: Degrees of freedom of `seeds`; 0 with one seed.
        floor: Below what standard error from the questions no interval goes.
    """

    questions: float
    seeds: float
    questions_df: float
    seeds_df: float
    floor: float = 0.0

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return float(np.hypot(self.questions, self.seeds))

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """Half the width of the t interval.

        The standard error is multiplied by a quantile. Two or three seeds estimate their part of the variance badly:
        Satterthwaite's degrees of freedom make too little of that, Cochran's (1964) weighted quantile too much. The
        quantile here is the mean of both, which was chosen by the simulation in ``paper/coverage.csv``. Seeds that
        agree exactly by chance do not make the interval narrower than `floor` allows.
        """
        return self._width((1 + confidence) / 2)

    def p_value(self, value: float) -> float:
        """The two-sided p of the hypothesis that the true mean is 0: 1 - the confidence whose interval ends at 0."""
        if value == 0 or self._width(1 - MINIMAL_P) == 0:
            return float(value == 0)
        if self._width(1 - MINIMAL_P) <= abs(value):
            return 2 * MINIMAL_P
        return float(2 * brentq(lambda tail: self._width(1 - tail) - abs(value), MINIMAL_P, 0.5))

    def one_sided_p(self, distance: float) -> float:
        """The one-sided p of the hypothesis that the true mean is not above a bound, `distance` below the mean."""
        tail = self.p_value(distance) / 2
        return tail if distance > 0 else 1 - tail

    def _width(self, level: float) -> float:
        by_part = student.ppf(level, [self.questions_df, self.seeds_df or 1])
        questions, seeds = self.questions**2, self.seeds**2
        if not seeds:
            return float(max(self.questions, self.floor) * by_part[0])
        total = questions + seeds
        df = total**2 / (questions**2 / self.questions_df + seeds**2 / self.seeds_df)
        cochran = (questions * by_part[0] + seeds * by_part[1]) / total
        width = total**0.5 * (float(student.ppf(level, df)) + cochran) / 2
        return float(max(width, self.floor * by_part[0]))


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `n` questions, `seeds` training seeds.

    With one seed the interval is over questions, for this training; with several it is over questions and trainings.

    Attributes:
        spread: The parts of the standard error; None where the interval is another than that of `mean_with_interval`.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int
    spread: Spread | None = None

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit, as in ``estimate.scaled(100)`` for percent."""
        parts = ("questions", "seeds", "floor")
        spread = self.spread and replace(self.spread, **{part: getattr(self.spread, part) * factor for part in parts})
        scaled = {name: getattr(self, name) * factor for name in ("value", "low", "high")}
        return replace(self, **scaled, spread=spread)

    @property
    def p_value(self) -> float:
        """The two-sided p of the hypothesis that the true mean is 0; not a number where there is no `spread`."""
        return self.spread.p_value(self.value) if self.spread else float("nan")

    def equivalence_p(self, margin: float) -> float:
        """The p of the hypothesis that the true mean is `margin` or farther from 0: two one-sided tests (TOST).

        The greater of the p-values of "not above -margin" and "not below margin" (Schuirmann 1987, J. Pharmacokinet.
        Biopharm. 15, 657-680), each a t test with the quantiles of `Spread.half_width`. It is at most 5 % where the
        90 % interval lies within the margin. A p above that shows nothing: see `equivalence_margin`.

        Args:
            margin: In the unit of the value, above 0; it must be chosen before the data are seen.

        Returns:
            p, or not a number where there is no `spread`.

        Raises:
            RefusedError: The margin is not positive.
        """
        if not margin > 0:
            raise RefusedError(
                "A margin of equivalence must be above 0", margin, "State the greatest harmless difference"
            )
        if not self.spread:
            return float("nan")
        return max(self.spread.one_sided_p(self.value + margin), self.spread.one_sided_p(margin - self.value))

    @property
    def equivalence_margin(self) -> float:
        """The smallest margin at which `equivalence_p` is at most 5 %: the farther end of the 90 % interval.

        A great one means too few questions or trainings to tell "nothing there" from "not seen".
        """
        return abs(self.value) + self.spread.half_width(EQUIVALENCE_CONFIDENCE) if self.spread else float("nan")

    def not_below_p(self, margin: float) -> float:
        """The one-sided p of the hypothesis that the true mean is -`margin` or less (non-inferiority)."""
        return self.spread.one_sided_p(self.value + margin) if self.spread else float("nan")

    @property
    def seed_sd(self) -> float:
        """The standard deviation of one training's value around the mean over trainings; not a number for one seed."""
        return self.spread.seeds * self.seeds**0.5 if self.spread and self.seeds > 1 else float("nan")

    def with_seed_sd(self, seed_sd: float) -> Estimate:
        """The interval that a value of one seed has over trainings too, if these differ by `seed_sd` (in its unit).

        Raises:
            RefusedError: The estimate has several seeds, or no `spread`.
        """
        if self.spread is None or self.seeds != 1:
            raise RefusedError(
                "An assumed difference between trainings must be for an estimate of one seed",
                self.seeds,
                "With several seeds use the interval as it is",
            )
        half = float(np.hypot(self.spread.half_width(), _quantiles()[0] * seed_sd))
        return replace(self, low=self.value - half, high=self.value + half)

    def widened(self, seed_sd: float) -> Estimate:
        """The interval in which one further training of somebody else is expected, on the same benchmark.

        The interval over questions is widened by the seed term z s √(1 + 1/k) of k seeds with standard deviation s, and
        is never narrower than the estimate's own. With one seed s is unknown, and `seed_sd` (in the unit of the value)
        is taken for it.
        """
        sd = seed_sd if np.isnan(self.seed_sd) else self.seed_sd
        term = _quantiles()[0] * sd * (1 + 1 / max(self.seeds, 1)) ** 0.5
        below, above = self.value - self.low, self.high - self.value
        if self.spread:
            questions = replace(self.spread, seeds=0.0).half_width()
            below, above = min(below, questions), min(above, questions)
        low, high = self.value - float(np.hypot(below, term)), self.value + float(np.hypot(above, term))
        return replace(self, low=min(low, self.low), high=max(high, self.high))


@dataclass(frozen=True)
class McNemar:
    """Discordant questions of two methods: `left_only` and `right_only` summed over seeds.

    `p_values` are the exact two-sided p-values, one a seed: answers of several seeds to one question are not
    independent, so their counts are not pooled in a test.
    """

    left_only: int
    right_only: int
    p_values: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """Values `(Q, S)` of one pair on one benchmark; cells of a pair share seeds, of a benchmark questions."""

    values: pd.DataFrame
    pair: str = ""
    benchmark: str = ""

    @property
    def questions(self) -> tuple[str, tuple[object, ...]]:
        """What cells share whose values are added up by question: the benchmark and its questions."""
        return self.benchmark, tuple(sorted(map(str, self.values.index)))

    @property
    def seeds(self) -> tuple[str, tuple[int, ...]]:
        """What cells share whose values are added up by seed: the pair and its training seeds."""
        return self.pair, tuple(int(seed) for seed in self.values.columns)


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927).

    Raises:
        RefusedError: `total` is not positive, or `successes` is not within 0..total.
    """
    if not (total > 0 and 0 <= successes <= total):
        raise RefusedError(
            "A proportion must have 0 <= successes <= total and total > 0", (successes, total), "Count again"
        )
    interval = binomtest(int(successes), int(total)).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """The difference `left - right`, question by question and seed by seed: `(Q, S)`.

    It covers the seeds that both have. A side without seeds is compared with every seed of the other.

    Raises:
        RefusedError: The questions differ, or both sides have seeds but none in common.
    """
    left, right = _pair_up(left, right)
    return left.astype(float) - right.astype(float)


def comparable(left: pd.DataFrame | None, right: pd.DataFrame | None) -> bool:
    """Whether both sides are there and have a training seed in common, or one of them none at all."""
    if left is None or right is None:
        return False
    seeds, others = set(left.columns), set(right.columns)
    return bool(seeds & others) or {NO_SEED} in (seeds, others)


def is_graded(*answers: pd.DataFrame) -> bool:
    """Whether any answer got a part of a point."""
    return any(not frame.isin([0, 1]).to_numpy().all() for frame in answers)


def exact_mcnemar(left: pd.DataFrame, right: pd.DataFrame) -> McNemar:
    """Exact McNemar test of two methods' answers (0 or 1), seed by seed.

    Raises:
        RefusedError: Answers are graded.
    """
    if is_graded(left, right):
        remedy = "Look at the interval of the paired difference"
        raise RefusedError("The answers in McNemar's test must be right or wrong", "parts of a point", remedy)
    difference = paired_difference(left, right)
    wins, losses = (difference > 0).sum(), (difference < 0).sum()
    p_values = tuple(_binomial_p(int(win), int(loss)) for win, loss in zip(wins, losses, strict=True))
    return McNemar(int(wins.sum()), int(losses.sum()), p_values)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): p_(i) becomes max over j <= i of min(1, (m - j + 1) p_(j)).

    An entry that is not a number is no test: it stays as it is and does not count in m.
    """
    adjusted = np.array(p_values, dtype=float)
    order = [index for index in np.argsort(adjusted) if not np.isnan(adjusted[index])]
    greatest = 0.0
    for rank, index in enumerate(order):
        greatest = max(greatest, min(1.0, (len(order) - rank) * adjusted[index]))
        adjusted[index] = greatest
    return [float(p_value) for p_value in adjusted]


def detectable_difference(left: pd.DataFrame, right: pd.DataFrame) -> float:
    """The smallest true difference that a comparison like this one finds: two-sided 5 %, power 80 %, for one seed.

    With the discordance (or, for graded answers, the spread of the differences) that was observed, averaged over seeds.

    Raises:
        RefusedError: As `paired_difference`.
    """
    difference = paired_difference(left, right)
    if is_graded(left, right):
        return sum(_quantiles()) * float(difference.std(ddof=1).mean()) / len(difference) ** 0.5
    return minimal_detectable_difference(len(difference), float((difference != 0).to_numpy().mean()))


def minimal_detectable_difference(n: int, discordance: float, power: float = POWER) -> float:
    """The difference of two paired proportions that a two-sided 5 % test of `n` questions finds with `power`.

    Solves ``n δ² = (z₁ √ψ + z₂ √(ψ − δ²))²`` for the difference δ, where ψ is the share of questions that only one of
    the two answers correctly, z₁ and z₂ the normal quantiles of the level and the power (Miettinen 1968; Connor 1987,
    Biometrics 43, 207-211). No difference is greater than ψ; where the solution would be, ψ = δ is what is solved.

    Args:
        n: Questions.
        discordance: ψ, 0 to 1.
        power: Of the test.

    Returns:
        δ as a fraction, at most 1.

    Raises:
        RefusedError: `n` is not positive, or the discordance no fraction.
    """
    if not (n > 0 and 0 <= discordance <= 1):
        raise RefusedError("A discordance must be a fraction of n > 0 questions", (n, discordance), "Count again")
    level, power_quantile = _quantiles(power)

    def excess(delta: float, spread: float) -> float:
        return n**0.5 * delta - level * spread**0.5 - power_quantile * max(spread - delta**2, 0.0) ** 0.5

    if excess(discordance, discordance) >= 0 and discordance > 0:
        return float(brentq(lambda delta: excess(delta, discordance), 0, discordance))
    return float(brentq(lambda delta: excess(delta, delta), 1e-12, 1)) if excess(1, 1) > 0 else 1.0


def crossed_spread(cells: Sequence[Cell]) -> Spread:
    """The standard error of the mean over cells, with questions and seeds both drawn at random (crossed).

    In one cell of Q questions and S seeds a value is mean + question + seed + interaction. With the mean squares MS of
    the two-way analysis of variance, whose expectations are S σ_q² + σ_i², Q σ_s² + σ_i² and σ_i², the mean has the
    variance (MS_q + MS_s - MS_i) / (Q S). Its part MS_s / (Q S) has S - 1 degrees of freedom and is the seeds' part
    here; the rest, not below 0, is the questions'. The floor is half of MS_q / (Q S), which is at most the variance.
    Over several cells values are first added up by question (cells of
    one benchmark) and by seed (cells of one pair); degrees of freedom of sums are Satterthwaite's (1946). A cell of
    equal values has no variance to measure, and adds `constant_error` to the floor.
    """
    weight = 1 / len(cells)
    by_question: dict[object, np.ndarray] = {}
    by_seed: dict[object, np.ndarray] = {}
    interaction = constant_part = 0.0
    for cell in cells:
        values = weight * cell.values.sort_index().to_numpy(float)
        if np.ptp(values) == 0:
            constant_part += (weight * constant_error(float(values[0, 0]) / weight, len(values))) ** 2
        question_means, seed_means = values.mean(axis=1), values.mean(axis=0)
        by_question[cell.questions] = by_question.get(cell.questions, 0.0) + question_means
        if len(seed_means) > 1:
            by_seed[cell.seeds] = by_seed.get(cell.seeds, 0.0) + seed_means
            residual = values - question_means[:, None] - seed_means + values.mean()
            interaction += _error_of_mean(residual.ravel(), max(1, (len(values) - 1) * (len(seed_means) - 1)))
    question_part, questions_df = _sum_of_parts(by_question.values())
    seed_part, seeds_df = _sum_of_parts(by_seed.values())
    # Question means vary by the questions' part and the interaction; half of that variance is a floor.
    floor = (question_part / 2 + constant_part) ** 0.5
    return Spread(max(question_part - interaction, 0.0) ** 0.5, seed_part**0.5, questions_df, seeds_df, floor)


def own_questions_spread(values: pd.DataFrame) -> Spread:
    """The standard error of the mean where each of the seeds answered questions of its own, `(Q, S)`.

    Questions are nested in seeds. The questions' part is the variance within seeds over Q S, with S (Q - 1) degrees of
    freedom. The variance between the means of seeds over S has the questions' part in it, too. Where it is less than
    `SEEDS_COUNT_FROM` of that, nothing shows that trainings differ, and the seeds' part is 0; else it is counted whole,
    with S - 1 degrees of freedom. The bound was chosen by simulation (``paper/coverage_equivalence.csv``): to count the
    excess alone covers too rarely, to count it always makes intervals of three seeds twice as wide as need be.
    """
    numbers = values.to_numpy(float)
    size, seeds = numbers.shape
    within = float(numbers.var(axis=0, ddof=1).mean()) / numbers.size
    floor = constant_error(float(numbers[0, 0]), numbers.size) if np.ptp(numbers) == 0 else 0.0
    if seeds == 1:
        return Spread(within**0.5, 0.0, size - 1, 0.0, floor)
    between = float(numbers.mean(axis=0).var(ddof=1)) / seeds
    seed_part = between if between > SEEDS_COUNT_FROM * within else 0.0
    return Spread(within**0.5, seed_part**0.5, seeds * (size - 1), seeds - 1, floor)


def constant_error(value: float, n: int) -> float:
    """The standard error of a mean difference of answers that is the same for all of `n` questions.

    By Agresti and Min (2005): with half a question more in each of the four cells of right and wrong answers of two
    methods. Seven questions that both methods answer alike do not show that they agree on every question. Values
    outside -1 to 1 are no differences of answers; of them nothing is assumed, and the error is 0.
    """
    if abs(value) > 1:
        return 0.0
    # Of the n + 2 questions `discordant` are answered correctly by one method alone.
    discordant, total = n * abs(value) + 1, n + 2
    return float(((discordant - (n * value) ** 2 / total) ** 0.5) / total)


def _error_of_mean(deviations: np.ndarray, df: int) -> float:
    """The squared standard error of a mean from the deviations of its values and their degrees of freedom."""
    return float((deviations**2).sum() / df / len(deviations))


def _sum_of_parts(sums: Iterable[np.ndarray]) -> tuple[float, float]:
    """Total squared standard error of independent means, and its degrees of freedom (Satterthwaite)."""
    parts = [
        (_error_of_mean(values - values.mean(), max(1, len(values) - 1)), max(1, len(values) - 1)) for values in sums
    ]
    total = sum(part for part, _ in parts)
    squares = sum(part**2 / df for part, df in parts)
    return total, total**2 / squares if squares else float(sum(df for _, df in parts))


def mean_with_interval(cells: Sequence[Cell] | pd.DataFrame) -> Estimate:
    """Mean over cells (each counts alike) with the 95 % t interval of `crossed_spread`.

    Raises:
        RefusedError: There is no cell, or a cell has no value.
    """
    cells = [Cell(cells)] if isinstance(cells, pd.DataFrame) else list(cells)
    shapes = [cell.values.shape for cell in cells]
    if not cells or any(0 in shape for shape in shapes):
        raise RefusedError("A mean must have at least one value", shapes, "Pass answered questions")
    value = float(np.mean([np.sort(cell.values.to_numpy(float), axis=None).mean() for cell in cells]))
    questions = {cell.questions: len(cell.values) for cell in cells}
    n, seeds = sum(questions.values()), min(shape[1] for shape in shapes)
    if n == 1:
        return Estimate(value, float("nan"), float("nan"), n, seeds)
    has_own_questions = len(cells) == 1 and cells[0].values.index.name == OWN_QUESTIONS
    spread = own_questions_spread(cells[0].values) if has_own_questions else crossed_spread(cells)
    return Estimate(value, value - spread.half_width(), value + spread.half_width(), n, seeds, spread)


def ratio_with_interval(top: pd.DataFrame, bottom: pd.DataFrame) -> Estimate:
    """mean(top) / mean(bottom) of values `(Q, S)` on the same questions, with a 95 % interval.

    The interval is that of the mean of (top - ratio x bottom) / mean(bottom), the linear part of the ratio (the delta
    method). A side without seeds goes with every seed of the other.

    Raises:
        RefusedError: The questions differ, there are none, both sides have seeds but none in common, or the mean of
            `bottom` is zero.
    """
    if set(top.index) != set(bottom.index) or top.empty or not bottom.to_numpy(float).mean():
        remedy = "Pair the questions, and look whether the gap is there at all"
        raise RefusedError(
            "A ratio must have the same questions above and below, and a mean other than zero below", len(top), remedy
        )
    top, bottom = _pair_up(top, bottom)
    mean = float(bottom.to_numpy(float).mean())
    value = float(top.to_numpy(float).mean()) / mean
    linear = mean_with_interval((top.astype(float) - value * bottom.astype(float)) / mean)
    return replace(linear, value=value, low=value + linear.low, high=value + linear.high)


def accuracy_with_interval(answers: pd.DataFrame) -> Estimate:
    """Share of right answers in `(Q, S)`: Wilson's interval for one seed, that of `mean_with_interval` for several.

    Where all answers are right, or all wrong, that would claim certainty: Wilson's over the questions is given. Graded
    answers get the t interval for one seed, too. No bound lies outside 0 to 1.
    """
    values = answers.to_numpy(float)
    if is_graded(answers) or (values.shape[1] > 1 and values.min() != values.max()):
        estimate = mean_with_interval(answers)
        return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))
    low, high = wilson_interval(int(values[:, 0].sum()), len(values))
    # Several seeds that agree in every answer have a measured spread, which is 0.
    spread = mean_with_interval(answers).spread if values.shape[1] > 1 else None
    return Estimate(float(values.mean()), low, high, len(values), values.shape[1], spread)


def gain_decomposition(answers: Mapping[str, pd.DataFrame]) -> dict[str, Estimate | None]:
    """The gains of `GAINS` with paired intervals; None where the two methods are not `comparable`."""
    gains: dict[str, Estimate | None] = dict.fromkeys(GAINS)
    for gain, (left, right) in GAINS.items():
        if comparable(answers.get(left), answers.get(right)):
            gains[gain] = mean_with_interval(paired_difference(answers[left], answers[right]))
    return gains


def bootstrap_mean(values: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """Mean of one value a question (a time, say) with its 95 % percentile bootstrap interval over the questions."""
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0:
        raise RefusedError("A mean must have at least one value", [], "Pass measured questions")
    if len(sample) == 1:
        return Estimate(float(sample[0]), float("nan"), float("nan"), 1, 1)
    interval = _resample((sample,), np.mean, seed)
    return Estimate(float(sample.mean()), *interval, len(sample), 1)


def bootstrap_ratio(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """mean(left) / mean(right) over the same questions in the same order, with a paired bootstrap interval."""
    first, second = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    sizes = len(first), len(second)
    if sizes[0] != sizes[1] or sizes[0] < 2:
        raise RefusedError("A ratio must compare the same two or more questions", sizes, "Pair the questions")
    interval = _resample((first, second), _ratio_of_means, seed, paired=True)
    return Estimate(float(first.mean() / second.mean()), *interval, len(first), 1)


def _ratio_of_means(left: np.ndarray, right: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean(left, axis=axis) / np.mean(right, axis=axis)


def _resample(
    data: tuple[np.ndarray, ...], statistic: Callable[..., Any], seed: int, paired: bool = False
) -> tuple[float, float]:
    result = bootstrap(
        data,
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _quantiles(power: float = POWER) -> tuple[float, float]:
    return float(norm.ppf((1 + CONFIDENCE) / 2)), float(norm.ppf(power))


def _binomial_p(wins: int, losses: int) -> float:
    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def _pair_up(left: pd.DataFrame, right: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    if set(left.index) != set(right.index):
        odd = sorted(map(str, set(left.index) ^ set(right.index)))
        raise RefusedError(
            "Paired methods must have answered the same questions", odd[:5], "Generate the missing answers first"
        )
    right = right.loc[left.index]
    seedless = [list(side.columns) == [NO_SEED] for side in (left, right)]
    if seedless[0] and not seedless[1]:
        left = pd.concat([left[NO_SEED]] * right.shape[1], axis=1, keys=right.columns)
    if seedless[1] and not seedless[0]:
        right = pd.concat([right[NO_SEED]] * left.shape[1], axis=1, keys=left.columns)
    common = [seed for seed in left.columns if seed in set(right.columns)]
    if not common:
        seeds = list(left.columns), list(right.columns)
        raise RefusedError("Paired methods must share training seeds", seeds, "Train both with the same seeds")
    return left[common], right[common]
