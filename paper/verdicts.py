"""The words of verdicts and the rules that choose them. They were fixed before the runs."""

from __future__ import annotations

import math

from c2c.stats import Estimate

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_RUN, INCONSISTENT = "not run", "paper inconsistent"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN, INCONSISTENT)
AGREES, HIGHER, LOWER = "agrees", "ours is higher", "ours is lower"
SEED_SD = 2.0
"""Standard deviation of an accuracy over trainings, in points, where a method has one seed: in several trainings of
this package it is 0 to 3, and the authors' two versions of Figure 6 differ by 1.2 and 1.7 points."""


def decide(estimate: Estimate | None, bound: float) -> str:
    """Supported if the interval lies above the bound, contradicted if below, undecided if it covers the bound."""
    if estimate is None or math.isnan(estimate.low):
        return NOT_RUN
    return SUPPORTED if estimate.low > bound else CONTRADICTED if estimate.high < bound else UNDECIDED


def compare_size(estimate: Estimate | None, printed: float | None, seed_sd: float = SEED_SD) -> str:
    """Whether a printed value lies in our interval, widened by the seed term (`Estimate.widened`).

    Args:
        estimate: Ours, in the unit of the printed value.
        printed: The paper's value, of one training that it does not repeat.
        seed_sd: For an estimate of one seed.

    Returns:
        `AGREES`, `HIGHER` or `LOWER`; empty where one of the two is missing.
    """
    if estimate is None or printed is None or math.isnan(printed) or math.isnan(estimate.low):
        return ""
    widened = estimate.widened(seed_sd)
    return AGREES if widened.low <= printed <= widened.high else HIGHER if widened.low > printed else LOWER
