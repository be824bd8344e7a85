"""Bits that a message brings: a lower bound of its mutual information with the right answer.

Let V be the right answer, M what the Receiver was sent and X what it reads besides. Where V is one of n values that are
equally likely and X says nothing of them, H(V | X) = log2 n. For every distribution q over the values

    I(V; M | X) = H(V | X) - H(V | M, X) >= log2 n + E[log2 q(V | M, X)],

since a cross-entropy is never below the entropy (Barber and Agakov 2003, "The IM algorithm"; Poole et al. 2019,
arXiv 1905.06922, section 2.1). The Receiver's own distribution, after it has read the message, is taken for q. A
Receiver that is too sure of itself would make the bound loose, so q is calibrated by one number: with options by an
inverse temperature (Guo et al. 2017, arXiv 1706.04599), for a written value by a share of the uniform distribution.
The number is fitted on one half of the items and applied to the other, and the reverse (cross-fitting, Chernozhukov
et al. 2018), so that q does not depend on the answers that it is judged by, and the bound stays one.

Where X alone tells something of V (ordinary benchmarks), the same quantity says how much the Receiver knows of the
answer in all, and only the difference to the Receiver without a message tells of the message: that difference is an
estimate and no bound.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from c2c.testbed.card.records import MATCHED, CellIds, MessageRecords

STEEPEST = 20.0
"""The largest inverse temperature that is tried."""


def bits(records: MessageRecords, cell: CellIds, message: str = MATCHED) -> pd.DataFrame | None:
    """log2 n + log2 q(right answer) by item and seed, `(Q, S)`; None where nothing tells it.

    Of a task for which the settings state how many equally likely `values` it has, from the log-likelihood of the
    written answer; of another one from the options.
    """
    layout, options = records.layout(cell, message), records.options(cell, message)
    if layout is None or options is None:
        return None
    values = records.settings.values.get(cell.task)
    if values is not None:
        logps = records.numbers(cell, message, "answer_logp")
        if logps is None or logps.isna().to_numpy().any():
            return None
        scores = written_bits(logps.to_numpy(), int(values))
    else:
        gold = records.numbers(cell, message, "gold")
        if gold is None or (gold < 0).to_numpy().any() or not np.isfinite(options[..., 0]).all():
            return None
        scores = option_bits(options, gold.to_numpy(int))
    return pd.DataFrame(scores, layout.index, list(layout.seeds))


def option_bits(logps: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Bits from options: log2 n + log2 softmax(b logps)[gold] with an inverse temperature b that is cross-fitted.

    Args:
        logps: Nats, `(Q, S, options)`; minus infinity behind the last option of an item that has fewer.
        gold: Index of the right option, `(Q, S)`.

    Returns:
        `(Q, S)`; the mean is at most log2 n.
    """
    has_option = np.isfinite(logps)
    finite = np.where(has_option, logps, 0.0)

    def nats(steepness: float, rows: np.ndarray) -> np.ndarray:
        scores = np.where(has_option[rows], steepness * finite[rows], -np.inf)
        top = scores.max(axis=-1, keepdims=True)
        total = top[..., 0] + np.log(np.exp(scores - top).sum(axis=-1))
        right: np.ndarray = np.take_along_axis(scores, gold[rows][..., None], axis=-1)[..., 0] - total
        return right

    return (np.log(has_option.sum(axis=-1)) + _cross_fitted(nats, len(logps), STEEPEST)) / np.log(2)


def written_bits(logps: np.ndarray, values: int) -> np.ndarray:
    """Bits from a written answer: log2 N + log2((1 - e) p + e / N) with a share e that is cross-fitted.

    p is what the Receiver gives all tokens of the right value. Over the N values such p add up to at most 1, so that
    the mixture is no more than a distribution, and the bound holds.

    Args:
        logps: Nats of the right answer, `(Q, S)`.
        values: N, how many values are equally likely.
    """

    def nats(share: float, rows: np.ndarray) -> np.ndarray:
        return np.log((1 - share) * np.exp(logps[rows]) + share / values)

    # A share of 0 would let one answer without any probability cost infinitely much.
    return (np.log(values) + _cross_fitted(nats, len(logps), 1.0, 1e-6)) / np.log(2)


def _cross_fitted(
    nats: Callable[[float, np.ndarray], np.ndarray], items: int, greatest: float, least: float = 0.0
) -> np.ndarray:
    """The log-score of each item with the setting that is best on the other half; halves are every other item."""
    halves = [np.arange(start, items, 2) for start in (0, 1)]
    scores = np.zeros_like(nats(greatest, np.arange(items)))
    for rows, fit_rows in (halves, halves[::-1]):
        # One item alone has no other half: nothing is known of a setting, and the flattest one is taken.
        setting = _best(partial(_mean_score, nats, fit_rows), least, greatest) if items > 1 else 0
        scores[rows] = nats(setting, rows)
    return scores


def _mean_score(nats: Callable[[float, np.ndarray], np.ndarray], rows: np.ndarray, setting: float) -> float:
    return float(nats(setting, rows).mean())


def _best(score: Callable[[float], float], least: float, greatest: float) -> float:
    """Where a concave function is greatest; its ends count too."""
    inside = minimize_scalar(lambda value: -score(value), bounds=(least, greatest), method="bounded")
    return max((least, float(inside.x), greatest), key=score)
