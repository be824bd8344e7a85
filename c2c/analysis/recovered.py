"""Performance gap recovered: how much of the way from Receiver to Sharer a method goes (paper Table 9). No torch."""

from __future__ import annotations

import pandas as pd

from c2c.stats import Estimate, crossed_ratio, mean_with_interval, paired_difference


def gap_recovered(method: pd.DataFrame, receiver: pd.DataFrame, sharer: pd.DataFrame) -> Estimate | None:
    """(method - receiver) / (sharer - receiver) with its paired interval; 0 is the Receiver, 1 the Sharer.

    Args:
        method: Answers `(Q, S)` of the method, 0 to 1.
        receiver: Those of the Receiver alone.
        sharer: Those of the Sharer alone.

    Returns:
        The share as a fraction, or None where the interval of the gap covers zero: there is nothing to recover, or
        nobody knows of which sign.

    Raises:
        RefusedError: As `paired_difference`.
    """
    gap = paired_difference(sharer, receiver)
    known = mean_with_interval(gap)
    if known.low <= 0 <= known.high:
        return None
    return crossed_ratio(paired_difference(method, receiver), gap)
