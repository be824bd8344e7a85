"""The words of verdicts and the rules that choose them. They were fixed before the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import norm
from scipy.stats import t as student

from c2c.stats import CONFIDENCE, Estimate

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_RUN, INCONSISTENT = "not run", "paper inconsistent"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN, INCONSISTENT)
AGREES, HIGHER, LOWER = "agrees", "ours is higher", "ours is lower"
NOT_JUDGED = "not judged"
"""Of a size: several seeds answered, and their standard deviation is not known."""
ONE_SEED = "one seed: size not judged"
"""In place of those where the value is no accuracy and there is one training, whose seed term nobody knows."""
SEED_SD = 2.0
"""Standard deviation of an accuracy over trainings, in points, where a method has one seed: in several trainings of
this package it is 0 to 3, and the authors' two versions of Figure 6 differ by 1.2 and 1.7 points."""


def decide(estimate: Estimate | None, bound: float, is_below: bool = False) -> str:
    """Supported if the interval lies above the bound, contradicted if below, undecided if it covers the bound.

    With `is_below` the claim is that the value lies below the bound, and the first two change places.
    """
    if estimate is None or math.isnan(estimate.low):
        return NOT_RUN
    above, below = (CONTRADICTED, SUPPORTED) if is_below else (SUPPORTED, CONTRADICTED)
    return above if estimate.low > bound else below if estimate.high < bound else UNDECIDED


def decide_every(cells: Sequence[Estimate], missing_count: int, bound: float, is_below: bool = False) -> str:
    """The verdict on a claim about every cell.

    Supported if the 95 % interval of every cell lies above the bound and no cell is missing. Contradicted if the
    interval of one cell lies below it at the level 0.05 divided by the number of cells (Bonferroni): among many cells
    one would lie below by chance. Undecided otherwise. Few seeds make the tails of a t interval heavy, so that at the
    smaller level it is wider than a normal one; a cell without a `spread` (a row of a table) is taken to have the
    degrees of freedom of its seeds.

    Args:
        cells: The estimate of each.
        missing_count: How many cells have no value.
        bound: That every cell must exceed.
        is_below: Whether the claim is that every cell lies below.
    """
    if not cells:
        return NOT_RUN
    sign = -1 if is_below else 1
    # Mirrored where the claim is about values below: (value, low, high).
    bounds = [(sign * cell.value, *sorted((sign * cell.low, sign * cell.high))) for cell in cells]
    if not missing_count and all(low > sign * bound for _, low, _ in bounds):
        return SUPPORTED
    confidence = 1 - (1 - CONFIDENCE) / len(cells)
    is_refuted = any(
        value + _half_width(cell, high - value, confidence) < sign * bound
        for cell, (value, _, high) in zip(cells, bounds, strict=True)
    )
    return CONTRADICTED if is_refuted else UNDECIDED


def _half_width(estimate: Estimate, half: float, confidence: float) -> float:
    """Half the interval of an estimate at another confidence, where `half` is that at `CONFIDENCE`."""
    if estimate.spread:
        return estimate.spread.half_width(confidence)
    law = student(estimate.seeds - 1) if estimate.seeds > 1 else norm
    return half * float(law.ppf((1 + confidence) / 2) / law.ppf((1 + CONFIDENCE) / 2))


def compare_size(estimate: Estimate | None, paper_value: float | None, seed_sd: float = SEED_SD) -> str:
    """Whether a printed value lies in our interval, widened by the seed term (`Estimate.widened`).

    The seed term takes the normal quantile also where the standard deviation is measured on few seeds. A prediction
    interval with the t quantile of k - 1 degrees of freedom is wider (with three seeds 4.3 instead of 1.96), so that
    this rule finds a printed value outside more often.

    Args:
        estimate: Ours, in the unit of the printed value.
        paper_value: The paper's value, of one training that it does not repeat.
        seed_sd: The standard deviation over trainings, for an estimate of one seed; of several it is measured.

    Returns:
        `AGREES`, `HIGHER` or `LOWER`; empty where one of the two is missing.
    """
    if estimate is None or paper_value is None or math.isnan(paper_value) or math.isnan(estimate.low):
        return ""
    interval = estimate.widened(seed_sd)
    return place(paper_value, interval.low, interval.high)


def place(paper_value: float, low: float, high: float) -> str:
    """Where a printed value lies to our interval from `low` to `high`: within (`AGREES`), below or above."""
    return AGREES if low <= paper_value <= high else HIGHER if low > paper_value else LOWER
