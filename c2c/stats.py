"""Intervals and paired tests over questions and seeds. Imports no torch.

Answers of one method on one benchmark are a frame of zeros and ones, questions as rows (`Q`), training seeds as
columns (`S`). A method without training has the single column `NO_SEED`. Values are fractions, not percent. Where a
scoring gives parts of a point, answers are *graded*: numbers between 0 and 1, to which tests of counts do not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binomtest, bootstrap, norm

from c2c.errors import RefusedError

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 10_000
NO_SEED = -1
GAINS = {
    "system": ("c2c", "receiver"),
    "pairing": ("c2c", "c2c_deranged"),
    "communication": ("c2c", "adapter"),
    "adaptation": ("adapter", "receiver"),
}


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `n` questions, `seeds` training seeds."""

    value: float
    low: float
    high: float
    n: int
    seeds: int

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit, as in ``estimate.scaled(100)`` for percent."""
        return replace(self, value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True)
class McNemar:
    """Discordant questions of two methods: `left_only` and `right_only` summed over seeds.

    `p_value` is the largest of the seeds' exact two-sided p-values: answers of several seeds to one question are not
    independent, so their counts are not pooled in a test.
    """

    left_only: int
    right_only: int
    p_value: float


@dataclass(frozen=True)
class Cell:
    """Values `(Q, S)` of one pair on one benchmark; cells of a pair share seeds, of a benchmark questions."""

    values: pd.DataFrame
    pair: str = ""
    benchmark: str = ""

    @property
    def questions(self) -> tuple[str, tuple[object, ...]]:
        """What is resampled together: the benchmark and its questions."""
        return self.benchmark, tuple(self.values.index)

    @property
    def seeds(self) -> tuple[str, tuple[int, ...]]:
        """What is resampled together: the pair and its training seeds."""
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
    worst = max(_binomial_p(int(win), int(loss)) for win, loss in zip(wins, losses, strict=True))
    return McNemar(int(wins.sum()), int(losses.sum()), worst)


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
    the two answers rightly, z₁ and z₂ the normal quantiles of the level and the power (Miettinen 1968; Connor 1987,
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


def crossed_bootstrap(cells: Sequence[Cell], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Replicates `(resamples,)` of the mean over cells, questions and seeds both drawn with replacement.

    Two-way (crossed) bootstrap: a replicate draws questions once per benchmark and seeds once per pair, and weighs
    every value by how often its question and its seed were drawn (Owen 2007, the pigeonhole bootstrap). Questions with
    equal rows are interchangeable, so only the number of draws of each kind of row is drawn; this is exact.
    """
    rng = np.random.default_rng(seed)
    ordered = sorted(cells, key=lambda cell: (cell.benchmark, cell.pair, cell.seeds))
    seed_draws = {key: _draw(rng, np.ones(len(key[1])), resamples) for key in sorted({cell.seeds for cell in ordered})}
    total = np.zeros(resamples)
    for _, group in groupby(ordered, key=lambda cell: cell.questions):
        together = list(group)
        # All cells of the same questions side by side: (Q, columns of all cells).
        rows = np.hstack([cell.values.to_numpy(float) for cell in together])
        kinds, counts = np.unique(rows, axis=0, return_counts=True)
        by_column = _draw(rng, counts, resamples) @ kinds
        edges = np.cumsum([cell.values.shape[1] for cell in together])[:-1]
        for cell, by_seed in zip(together, np.split(by_column, edges, axis=1), strict=True):
            total += (by_seed * seed_draws[cell.seeds]).sum(axis=1) / cell.values.size
    return total / len(ordered)


def mean_with_interval(cells: Sequence[Cell] | pd.DataFrame, seed: int = 0) -> Estimate:
    """Mean over cells (each counts alike) with the 95 % percentile interval of `crossed_bootstrap`.

    Raises:
        RefusedError: There is no cell, or a cell has no value.
    """
    cells = [Cell(cells)] if isinstance(cells, pd.DataFrame) else list(cells)
    shapes = [cell.values.shape for cell in cells]
    if not cells or any(0 in shape for shape in shapes):
        raise RefusedError("A mean must have at least one value", shapes, "Pass answered questions")
    low, high = np.percentile(crossed_bootstrap(cells, seed=seed), _bounds())
    value = float(np.mean([cell.values.to_numpy(float).mean() for cell in cells]))
    questions = {cell.questions: len(cell.values) for cell in cells}
    return Estimate(value, float(low), float(high), sum(questions.values()), min(shape[1] for shape in shapes))


def crossed_ratio(top: pd.DataFrame, bottom: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """mean(top) / mean(bottom) of values `(Q, S)` on the same questions, with a 95 % percentile interval.

    The bootstrap is that of `crossed_bootstrap`; both means of a replicate are over the questions that it drew, and
    over the seeds that it drew of each. Where both have the same seeds these are drawn once. A replicate whose
    mean of `bottom` is zero is no ratio and is left out.

    Raises:
        RefusedError: The questions differ, there are none, or the mean of `bottom` is zero.
    """
    if set(top.index) != set(bottom.index) or top.empty or not bottom.to_numpy(float).mean():
        remedy = "Pair the questions, and look whether the gap is there at all"
        raise RefusedError(
            "A ratio must have the same questions above and below, and a mean other than zero below", len(top), remedy
        )
    bottom = bottom.loc[top.index]
    rng = np.random.default_rng(seed)
    # Questions with equal rows are one kind: (kinds, S_top + S_bottom), drawn together for both means.
    rows = np.hstack([top.to_numpy(float), bottom.to_numpy(float)])
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    drawn = _draw(rng, counts, resamples) @ kinds
    # Seeds are drawn once where both have the same.
    above = _draw(rng, np.ones(top.shape[1]), resamples)
    below = above if list(top.columns) == list(bottom.columns) else _draw(rng, np.ones(bottom.shape[1]), resamples)
    parts = zip(np.split(drawn, [top.shape[1]], axis=1), (above, below), strict=True)
    upper, lower = ((part * seeds).sum(axis=1) / seeds.sum(axis=1) for part, seeds in parts)
    # A replicate without a denominator is no ratio.
    nonzero = lower != 0
    low, high = np.percentile(upper[nonzero] / lower[nonzero], _bounds())
    value = float(top.to_numpy(float).mean() / bottom.to_numpy(float).mean())
    return Estimate(value, float(low), float(high), len(top), top.shape[1])


def accuracy_with_interval(answers: pd.DataFrame) -> Estimate:
    """Share of right answers in `(Q, S)`: Wilson's interval for one seed, the crossed bootstrap for several.

    Where all answers are right, or all wrong, a bootstrap would claim certainty: Wilson's over the questions is given.
    Graded answers get the bootstrap also for one seed.
    """
    values = answers.to_numpy(float)
    if is_graded(answers) or (values.shape[1] > 1 and values.min() != values.max()):
        return mean_with_interval(answers)
    low, high = wilson_interval(int(values[:, 0].sum()), len(values))
    return Estimate(float(values.mean()), low, high, len(values), values.shape[1])


def gain_decomposition(answers: Mapping[str, pd.DataFrame]) -> dict[str, Estimate | None]:
    """The four gains of `GAINS` with paired intervals; None where the two methods are not `comparable`."""
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


def _draw(rng: np.random.Generator, counts: np.ndarray, resamples: int) -> np.ndarray:
    """How often each kind is drawn: `(resamples, kinds)`; as many draws as things counted."""
    total = int(counts.sum())
    return rng.multinomial(total, counts / total, size=resamples).astype(float)


def _bounds() -> list[float]:
    return [100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2]


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
