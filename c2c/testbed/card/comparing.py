"""Differences between messages, equivalence within the margin, fidelity, and the evidence level of a cell."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from c2c.stats import (
    Estimate,
    accuracy_with_interval,
    comparable,
    mean_with_interval,
    paired_difference,
    ratio_with_interval,
)
from c2c.testbed.card.records import (
    ADAPTER,
    BOUNDS,
    DERANGED,
    FULL,
    MATCHED,
    RANDOM,
    RECEIVER,
    SELF,
    ZEROED,
    CellIds,
    MessageRecords,
)

LEVEL = 0.05
"""Of all tests."""
MINIMAL_ROOM = 20.0
"""Points that `full` must lie above the Receiver, or a task cannot show communication."""
WITHOUT_ROOM = "cannot show communication"
WITHOUT_NEED = "needs no message"
"""Of a task whose full text is the Receiver's own prompt: nothing lies between both, so there is no room either."""
GAINS = {
    "OPE": (MATCHED, RECEIVER),
    "OME": (DERANGED, RECEIVER),
    "CAG": (MATCHED, DERANGED),
    "SSG": (MATCHED, SELF),
    "communication": (MATCHED, ADAPTER),
    "adaptation": (ADAPTER, RECEIVER),
    "random": (RANDOM, RECEIVER),
    "zeroed": (ZEROED, RECEIVER),
}
"""What each gain compares: messages of one channel, or the Receiver without any. OPE, OME, CAG and SSG are the names of
the causal audits (arXiv 2607.26773, 2608.04893)."""
AGAINST_RECEIVER = ("OME", "adaptation", "random", "zeroed")
"""Gains of messages that hold nothing of the right answer: equivalence to the Receiver can be stated of them."""
NO_EVIDENCE, ANY_MESSAGE, THIS_MESSAGE = "none", "any message helps", "this message helps"
NOT_PARAMETERS = "this message helps and parameters do not"
CEILING = "at the ceiling"
LEVELS = (NO_EVIDENCE, ANY_MESSAGE, THIS_MESSAGE, NOT_PARAMETERS, CEILING)
"""Evidence levels of a cell, each with all that those before it ask for."""


def in_columns(estimate: Estimate | None, prefix: str) -> dict[str, float | None]:
    """Columns of an estimate in its own unit: value, low and high behind the prefix; empty for None."""
    return {f"{prefix}{name}": getattr(estimate, name) if estimate else None for name in ("value", "low", "high")}


def share(frame: pd.DataFrame | None) -> Estimate | None:
    """The accuracy of answers in percent; None for None."""
    return None if frame is None else accuracy_with_interval(frame).scaled(100)


def difference(
    records: MessageRecords, of: tuple[CellIds, str], against: tuple[CellIds, str], measure: str
) -> Estimate | None:
    """Mean paired difference in points of two cells' answers; None where one of them was not run."""
    first, second = (records.answers(cell, message, measure) for cell, message in (of, against))
    pair = paired_frames(first, second)
    return None if pair is None else mean_with_interval(paired_difference(*pair)).scaled(100)


def paired_frames(*frames: pd.DataFrame | None) -> list[pd.DataFrame] | None:
    """The frames on the items that all of them have; None where one is missing or they share no item or seed."""
    present = [frame for frame in frames if frame is not None]
    if len(present) < len(frames) or not all(comparable(present[0], frame) for frame in present):
        return None
    items = [item for item in present[0].index if all(item in frame.index for frame in present)]
    return [frame.loc[items] for frame in present] if items else None


def gain(records: MessageRecords, cell: CellIds, name: str, measure: str) -> Estimate | None:
    """A gain of `GAINS` of a cell, in points."""
    of, against = GAINS[name]
    if against == RECEIVER:
        return difference(records, (cell, of), (cell._replace(channel=RECEIVER), BOUNDS[RECEIVER]), measure)
    return difference(records, (cell, of), (cell, against), measure)


def room(records: MessageRecords, pair: str, task: str, measure: str) -> Estimate | None:
    """How far the Receiver that reads everything lies above the one that gets no message, in points."""
    full, receiver = (CellIds(pair, task, channel) for channel in (FULL, RECEIVER))
    return difference(records, (full, BOUNDS[FULL]), (receiver, BOUNDS[RECEIVER]), measure)


def fidelity(records: MessageRecords, cell: CellIds, bound: str, measure: str) -> Estimate | None:
    """(matched - receiver) / (bound - receiver) in percent, paired, with the interval of `ratio_with_interval`.

    That is the delta method, which is exact enough where the interval of the lower difference lies far from zero;
    where it does not lie above zero there is no such share, and None is returned. With a task that can show
    communication the difference to `full` is at least 20 points, where Fieller's interval and this one agree closely.
    """
    frames = paired_frames(
        records.answers(cell, MATCHED, measure),
        records.answers(cell._replace(channel=bound), BOUNDS[bound], measure),
        records.answers(cell._replace(channel=RECEIVER), BOUNDS[RECEIVER], measure),
    )
    if frames is None:
        return None
    top, bottom, receiver = frames
    span = paired_difference(bottom, receiver)
    if not mean_with_interval(span).low > 0:
        return None
    return ratio_with_interval(paired_difference(top, receiver), span).scaled(100)


@dataclass(frozen=True)
class Findings:
    """What the evidence level of a cell follows from.

    Attributes:
        system: OPE.
        pairing: CAG.
        communication: matched - adapter; None without an adapter.
        adaptation: adapter - receiver; None without an adapter.
        shortfall: matched - full.
        is_trained: Whether the channel has trained parameters.
    """

    system: Estimate | None
    pairing: Estimate | None
    communication: Estimate | None
    adaptation: Estimate | None
    shortfall: Estimate | None
    is_trained: bool

    @classmethod
    def of(cls, records: MessageRecords, cell: CellIds, measure: str) -> Findings:
        """The differences of a cell."""
        full = (cell._replace(channel=FULL), BOUNDS[FULL])
        return cls(
            system=gain(records, cell, "OPE", measure),
            pairing=gain(records, cell, "CAG", measure),
            communication=gain(records, cell, "communication", measure),
            adaptation=gain(records, cell, "adaptation", measure),
            shortfall=difference(records, (cell, MATCHED), full, measure),
            is_trained=records.mean(cell, MATCHED, "parameters") > 0,
        )

    def level(self, margin: float) -> str:
        """The highest of `LEVELS` whose condition holds together with those of all before it.

        * any message helps: the interval of OPE lies above zero.
        * this message helps: that of CAG too.
        * this message helps and parameters do not: that of matched - adapter too, and the adapter is equivalent to the
          Receiver within the margin; of a channel without trained parameters there is nothing more to show.
        * at the ceiling: matched is not below `full` by the margin (one-sided test, 5 %).
        """
        conditions = (
            _is_above(self.system),
            _is_above(self.pairing),
            not self.is_trained
            or (_is_above(self.communication) and _is_at_most(self.adaptation, "equivalence_p", margin)),
            _is_at_most(self.shortfall, "not_below_p", margin),
        )
        level = 0
        while level < len(conditions) and conditions[level]:
            level += 1
        return LEVELS[level]


def _is_above(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.low > 0


def _is_at_most(estimate: Estimate | None, test: str, margin: float) -> bool:
    """Whether the p of a test with this margin is at most `LEVEL`."""
    return estimate is not None and getattr(estimate, test)(margin) <= LEVEL
