"""The gate of the test bed: two checks of the instrument, without which no number of a run counts.

*Identity* sends the Receiver's own states of the text that has the answer, and must reach the bound `own_states`.
*Random states* carry nothing, and must not differ from the Receiver without a message. If one fails, the channel's path
is broken or leaks the answer, and the run is void.

On a task that needs no message, such as a benchmark, the Receiver's own states are those of its prompt, so *identity*
must match the Receiver without a message. Random states then take the place of what the Receiver has read of the
question. They may do harm, and must not lie above the Receiver.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from c2c.stats import Estimate, holm
from c2c.testbed.card.comparing import LEVEL, difference
from c2c.testbed.card.numbers import show_difference
from c2c.testbed.card.records import (
    BOUNDS,
    IDENTITY,
    MATCHED,
    OWN_STATES,
    RANDOM,
    RANDOM_STATES,
    RECEIVER,
    CellIds,
    MessageRecords,
)

CHECKS = {IDENTITY: OWN_STATES, RANDOM_STATES: RECEIVER}
"""Channels of the gate, and the bound that each must match."""
PASSED, UNDECIDED, FAILED, ABSENT = "passed", "not refuted", "failed", "not run"
VOID = "void"


@dataclass(frozen=True)
class GateCheck:
    """One check on one pair, task and measure.

    Attributes:
        pair: Id of the pair.
        task: Id of the task.
        measure: `choice` or `exact`.
        channel: `identity` or `random_states`.
        bound: The channel with which it is compared.
        result: `PASSED`: equivalent within the margin; of identity on a task that needs a message also above, and of
            random states on one that needs none also below. `UNDECIDED`: no difference is seen, and
            too few items to state equivalence. `FAILED`: it differs, by the p adjusted for all checks of the run
            (Holm). `ABSENT`: one of the two was not run.
        value: Difference to the bound, in points.
        low: Its 95 % interval.
        high: The same.
    """

    pair: str
    task: str
    measure: str
    channel: str
    bound: str
    result: str
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def reason(self) -> str:
        """Why the check makes the run void; empty where it does not."""
        where = f"{self.pair} on {self.task} ({self.measure})"
        if self.result == ABSENT:
            return f"{self.channel} or {self.bound} was not run for {where}"
        if self.result != FAILED:
            return ""
        points = show_difference(self.value, self.low or 0.0, self.high or 0.0)
        verb = "does not reach" if self.bound == OWN_STATES else "differs from"
        return f"{self.channel} {verb} {self.bound} for {where}: {points} points"


@lru_cache(maxsize=4)
def check_gate(records: MessageRecords, margin: float) -> list[GateCheck]:
    """All checks of a run, a pair, a task and a measure each.

    Args:
        records: Of one scale.
        margin: Of equivalence, in points.
    """
    places = [
        (pair, task, measure, channel)
        for pair, task in records.tasks
        for measure in records.measures(task)
        for channel in CHECKS
    ]
    needs = {place: records.needs_message(*place) for place in records.tasks}
    bounds = [CHECKS[channel] if needs[pair, task] else RECEIVER for pair, task, _, channel in places]
    estimates = [_compare(records, *place, bound) for place, bound in zip(places, bounds, strict=True)]
    p_values = holm([estimate.p_value if estimate else float("nan") for estimate in estimates])
    checks = []
    for place, bound, estimate, p_holm in zip(places, bounds, estimates, p_values, strict=True):
        pair, task, _, channel = place
        result = _judge(channel, estimate, p_holm, margin, needs[pair, task])
        values = {name: getattr(estimate, name) for name in ("value", "low", "high")} if estimate else {}
        checks.append(GateCheck(*place, bound, result, **values))
    return checks


def states(records: MessageRecords) -> dict[tuple[str, str], str]:
    """By pair and task the word in the column `gate` of tables: `PASSED`, or `VOID` where a check failed or is absent.

    Claims read rows alone whose gate is passed.
    """
    faults = reasons(check_gate(records, records.settings.margin))
    return {place: VOID if place in faults else PASSED for place in records.tasks}


def reasons(checks: list[GateCheck]) -> dict[tuple[str, str], str]:
    """Why the cells of a pair and task are void; empty where all checks pass."""
    texts: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        if check.reason:
            texts.setdefault((check.pair, check.task), []).append(check.reason)
    return {place: "; ".join(of_place) for place, of_place in texts.items()}


def _compare(records: MessageRecords, pair: str, task: str, measure: str, channel: str, bound: str) -> Estimate | None:
    """The channel of the gate less its bound, in points; random states may be sent as the matched message."""
    cell = CellIds(pair, task, channel)
    against = (CellIds(pair, task, bound), BOUNDS[bound])
    messages = [message for message in (MATCHED, RANDOM) if message in records.messages(cell)]
    return difference(records, (cell, messages[0]), against, measure) if messages else None


def _judge(channel: str, estimate: Estimate | None, p_holm: float, margin: float, needs_message: bool) -> str:
    if estimate is None:
        return ABSENT
    is_harmless = estimate.value > 0 if channel == IDENTITY else estimate.value < 0
    if (is_harmless and needs_message == (channel == IDENTITY)) or estimate.equivalence_p(margin) <= LEVEL:
        return PASSED
    return FAILED if p_holm <= LEVEL else UNDECIDED
