"""What an experiment shows: accuracies of all arms, evidence levels, and sentences made of the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from c2c import __version__
from c2c.testbed.card.comparing import (
    ANY_MESSAGE,
    CEILING,
    NO_EVIDENCE,
    NOT_PARAMETERS,
    THIS_MESSAGE,
    WITHOUT_NEED,
    WITHOUT_ROOM,
    in_columns,
    room,
    share,
)
from c2c.testbed.card.gate import VOID
from c2c.testbed.card.numbers import decimal, show, show_difference
from c2c.testbed.card.records import BOUNDS, CHOICE, FULL, MATCHED, OWN_STATES, RECEIVER, TEXT, MessageRecords
from c2c.testbed.experiment.settings import Experiment
from c2c.testbed.experiment.tasks import TITLES

Summary = dict[str, Any]

MEANINGS = {
    NO_EVIDENCE: "no message is shown to help",
    ANY_MESSAGE: "answers improve with any message, the wrong one included: adaptation, not communication",
    THIS_MESSAGE: "the right message helps and a wrong one does not replace it, but what the trained parameters do "
    "without a message is not excluded",
    NOT_PARAMETERS: "it communicates: the right message helps, a wrong one does not replace it, and the trained "
    "parameters alone do not help",
    CEILING: "it communicates as well as if the Receiver read the Sharer's text itself",
}
"""What each evidence level says."""
ARMS = {
    (RECEIVER, BOUNDS[RECEIVER]): "Receiver, no message",
    (TEXT, MATCHED): "Text that the Sharer writes",
    (FULL, BOUNDS[FULL]): "Receiver reads everything",
    (OWN_STATES, MATCHED): "Receiver's own states",
}
"""Bounds and the reference, as the report names them."""
MESSAGES = {
    MATCHED: "matched",
    "deranged": "deranged: another item's message",
    "random": "random, of the same moments",
    "zeroed": "zeroed",
    "self": "self: nothing new",
    "adapter": "adapter: trained without a message",
}
"""Messages of a method, as the report names them."""


def accuracies(records: MessageRecords) -> pd.DataFrame:
    """A row for each task, channel and message: the share of right answers in percent, with its 95 % interval."""
    rows = []
    for cell in records.cells:
        measure = records.measures(cell.task)[0]
        for message in records.messages(cell):
            right = share(records.answers(cell, message, measure))
            if right is not None:
                ids = {"task": cell.task, "channel": cell.channel, "message": message, "measure": measure}
                rows.append(ids | in_columns(right, "") | {"n": right.n, "seeds": right.seeds})
    return pd.DataFrame(rows)


def summarise(
    experiment: Experiment, records: MessageRecords, card: pd.DataFrame, gains: pd.DataFrame, warnings: list[str]
) -> Summary:
    """Tasks with the evidence of each method, the verdict, warnings, and sentences to cite."""
    tasks = [_task(experiment, records, card, gains, task) for _, task in records.tasks]
    return {
        "version": __version__,
        "pair": experiment.pair,
        "methods": list(experiment.methods),
        "size": experiment.size,
        "seeds": list(experiment.seeds),
        "margin": experiment.margin,
        "tasks": tasks,
        "verdict": " ".join(_verdicts(tasks)),
        "warnings": [*warnings, *_warnings(tasks)],
    }


def _task(
    experiment: Experiment, records: MessageRecords, card: pd.DataFrame, gains: pd.DataFrame, task: str
) -> dict[str, Any]:
    measure = records.measures(task)[0]
    rows = card[(card["task"] == task) & card["channel"].isin(experiment.methods)]
    of_task = gains[(gains["task"] == task) & (gains["measure"] == measure)]
    methods = []
    for row in rows.to_dict("records"):
        its_gains = {
            gain["gain"]: {name: gain[name] for name in ("value", "low", "high")}
            for gain in of_task[of_task["channel"] == row["channel"]].to_dict("records")
        }
        about = {"method": row["channel"], "level": row["level"], "reason": row["reason"], "gains": its_gains}
        methods.append(about | {"n": int(row["n"]), "seeds": int(row["seeds"])})
    without = share(records.answers(records.cells[0]._replace(task=task, channel=RECEIVER), BOUNDS[RECEIVER], measure))
    result = {
        "task": task,
        "title": TITLES.get(task, task),
        "needs_message": records.needs_message(experiment.pair, task),
        "gate": str(rows["gate"].iloc[0]),
        "measure": "chosen among options" if measure == CHOICE else "written exactly",
        "room": in_columns(room(records, experiment.pair, task, measure), ""),
        "receiver": in_columns(without, ""),
        "methods": methods,
    }
    matched = rows.set_index("channel")
    for about in methods:
        columns = [f"{measure}_{bound}" for bound in ("value", "low", "high")]
        about["matched"] = dict(zip(("value", "low", "high"), matched.loc[about["method"], columns], strict=True))
        about["verdict"] = _verdict(result, about)
        about["sentence"] = _sentence(experiment, result, about)
    return result


def _verdict(task: dict[str, Any], about: dict[str, Any]) -> str:
    """What a method shows on a task."""
    method, gains = about["method"], about["gains"]
    if about["reason"].startswith(VOID):
        return f"{method}: no number counts, because the gate failed."
    if about["reason"] == WITHOUT_ROOM:
        return (
            f"{method}: this task cannot show communication, since the Receiver gains too little from the text itself."
        )
    if about["reason"] == WITHOUT_NEED:
        system = gains["OPE"]
        effect = "does no visible harm or good" if system["low"] <= 0 <= system["high"] else "changes the answers"
        return f"{method}: the Receiver has the answer already; the message {effect} ({points(system)} points)."
    return f"{method}: {MEANINGS[about['level']]}. Evidence level: {about['level']}."


def _verdicts(tasks: list[dict[str, Any]]) -> Iterator[str]:
    for task in tasks:
        for about in task["methods"]:
            if task["needs_message"]:
                yield f"{task['title']}: {about['verdict']}"


def _sentence(experiment: Experiment, task: dict[str, Any], about: dict[str, Any]) -> str:
    """The sentence to put into a paper; every number is one of the score card's."""
    gains, seeds = about["gains"], about["seeds"]
    of = "trainings" if seeds > 1 else "training"
    parts = [
        f"On {about['n']} items of the task {task['task']} ({seeds} {of}, seed"
        f"{'s' if seeds > 1 else ''} {', '.join(map(str, experiment.seeds))}), the Receiver "
        f"answers {interval(task['receiver'])} % right without a message and {interval(about['matched'])} % with that "
        f"of {about['method']} ({experiment.pair})"
    ]
    if "CAG" in gains:
        parts.append(
            f"the right message is worth {points(gains['CAG'])} points more than that of another item (CAG), of a "
            f"total gain of {points(gains['OPE'])} points"
        )
    if "communication" in gains:
        parts.append(f"and {points(gains['communication'])} points more than the same parameters without a message")
    end = f"evidence level: {about['level']}" if about["level"] else (about["reason"] or "no evidence level")
    return (
        f"{'; '.join(parts)}. 95 % intervals in brackets; margin of equivalence {decimal(experiment.margin, 1)} "
        f"points; {end} (test bed of cache-to-cache {__version__}, size {experiment.size})."
    )


def interval(numbers: dict[str, float]) -> str:
    """A share with its interval."""
    return show(numbers["value"], numbers["low"], numbers["high"])


def points(numbers: dict[str, float]) -> str:
    """A difference with its interval."""
    return show_difference(numbers["value"], numbers["low"], numbers["high"])


def _warnings(tasks: list[dict[str, Any]]) -> Iterator[str]:
    for task in tasks:
        reasons = {about["reason"] for about in task["methods"]}
        if void := [reason for reason in reasons if reason.startswith(VOID)]:
            yield f"{task['title']}: the gate is red ({void[0]}). No number of this task counts."
        if WITHOUT_ROOM in reasons:
            yield (
                f"{task['title']}: even with the whole text the Receiver is only {points(task['room'])} points better. "
                "Choose a Receiver that can do the task, or easier questions."
            )
    if not any(task["needs_message"] and about["level"] for task in tasks for about in task["methods"]):
        yield "No task of this experiment could show communication."
