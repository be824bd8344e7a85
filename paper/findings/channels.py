"""What tables of the test bed say, in sentences; each function takes the rows of one tidy file."""

from __future__ import annotations

import pandas as pd

from c2c.testbed.card.bounds import ENOUGH
from c2c.testbed.card.comparing import AGAINST_RECEIVER, LEVELS, WITHOUT_NEED, WITHOUT_ROOM
from c2c.testbed.card.gains import EQUIVALENT
from c2c.testbed.card.gate import VOID
from c2c.testbed.card.records import ADAPTER, MATCHED
from paper.findings.wording import percents, points, rows_with, series, tally
from paper.reading import names

OF_CELLS = "channels, tasks and pairs"


def scorecard(frame: pd.DataFrame) -> list[str]:
    """How many channels have each evidence level, and which of them is best on each task."""
    rows = rows_with(frame, "level")
    sentences = []
    if len(rows):
        counts = rows["level"].value_counts()
        parts = [f"“{level}” on {counts[level]}" for level in LEVELS if level in counts]
        sentences.append(
            f"Of {len(rows)} combinations of a channel, a task and a pair, the evidence is {series(parts)}."
        )
    for (pair, task), cells in rows.groupby(["pair", "task"], sort=False):
        measure = str(cells["measure"].iloc[0])
        best = cells.loc[pd.to_numeric(cells[f"{measure}_value"]).idxmax()]
        sentence = f"On {_place(pair, task)} {names.title('channels', best['channel'])} is best"
        sentence += f" with {percents(best, f'{measure}_')}"
        if not pd.isna(best["cag_value"]):
            sentence += f", {points(best, 'cag_')} above its deranged message"
        sentences.append(f"{sentence}.")
    reasons = frame["reason"].fillna("")
    causes = {VOID: "The gate does not hold", WITHOUT_ROOM: "No communication can show"}
    for reason, words in (causes | {WITHOUT_NEED: "No message is needed"}).items():
        places = frame[reasons.str.startswith(reason)].drop_duplicates(["pair", "task"])
        if len(places):
            titles = [_place(row["pair"], row["task"]) for _, row in places.iterrows()]
            sentences.append(f"{words} on {series(titles)}, so that no evidence level is stated there.")
    return sentences


def testbed_bounds(frame: pd.DataFrame) -> list[str]:
    """On how many tasks communication can show."""
    rows = rows_with(frame, "room_value").drop_duplicates(["pair", "task", "measure"])
    if rows.empty:
        return []
    enough = int((rows["finding"] == ENOUGH).sum())
    widest = rows.loc[pd.to_numeric(rows["room_value"]).idxmax()]
    return [
        f"There is room for a message on {enough} of {len(rows)} combinations of a pair, a task and a measure; most on "
        f"{_place(widest['pair'], widest['task'])}, {points(widest, 'room_')}."
    ]


def testbed_gains(frame: pd.DataFrame) -> list[str]:
    """Where the gains lie, and on how many cells messages without the answer are equivalent to none."""
    sentences = []
    for gain in ("OPE", "OME", "CAG", "communication"):
        rows = rows_with(frame, gain=gain)
        if len(rows):
            sentences.append(f"{names.title('gains', gain)} is {tally(rows, '', OF_CELLS)}.")
    tests = rows_with(frame, "equivalence_p")
    tests = tests[tests["gain"].isin(AGAINST_RECEIVER)]
    if len(tests):
        equivalent = int((tests["finding"] == EQUIVALENT).sum())
        sentences.append(
            f"Of {len(tests)} messages that hold nothing of the answer, {equivalent} are shown to be equivalent to no "
            "message."
        )
    return sentences


def testbed_curves(frame: pd.DataFrame) -> list[str]:
    """What each training reaches at its last step, and how its loss lies to the one without a message."""
    sentences = []
    rows = rows_with(frame, "step", message=MATCHED)
    for (pair, task, measure), cells in rows.groupby(["pair", "task", "measure"], sort=False):
        parts = []
        for channel, course in cells.groupby("channel", sort=False):
            last = course.loc[pd.to_numeric(course["step"]).idxmax()]
            parts.append(f"{names.title('channels', str(channel))} {percents(last)} after {int(last['step'])} steps")
        floor = loss_floor(frame, str(pair), str(task))
        losses = pd.to_numeric(cells["loss"]).groupby(cells["channel"]).min()
        above = [names.title("channels", str(channel)) for channel in losses[losses >= floor].index]
        note = f"; no loss below that of the adapter: {series(above)}" if floor and above else ""
        sentences.append(f"On {_place(pair, task)} ({measure}): {series(parts)}{note}.")
    return sentences


def loss_floor(frame: pd.DataFrame, pair: str, task: str) -> float:
    """The lowest loss that an adapter reaches on a task, in nats; not a number where there is no adapter."""
    rows = frame[(frame["pair"] == pair) & (frame["task"] == task) & (frame["message"] == ADAPTER)]
    return float(pd.to_numeric(rows["loss"]).min())


def testbed_items(frame: pd.DataFrame) -> list[str]:
    """Which channels were trained on different numbers of items, and what the most of them bring."""
    sentences = []
    for (pair, task, channel, measure), rows in frame.groupby(["pair", "task", "channel", "measure"], sort=False):
        ordered = rows.sort_values("training_items")
        if len(ordered) > 1:
            ends = [f"{percents(row)} with {int(row['training_items'])}" for _, row in ordered.iloc[[0, -1]].iterrows()]
            title = names.title("channels", str(channel))
            sentences.append(f"On {_place(pair, task)} ({measure}) {title} reaches {series(ends)} items.")
    return sentences


def testbed_facts(frame: pd.DataFrame) -> list[str]:
    """What each channel keeps from the fewest to the most facts."""
    sentences = []
    rows = rows_with(frame, message=MATCHED)
    for (pair, channel, measure), cells in rows.groupby(["pair", "channel", "measure"], sort=False):
        ends = cells.sort_values("facts").iloc[[0, -1]]
        texts = [f"{percents(row)} with {int(row['facts'])}" for _, row in ends.iterrows()]
        title = f"{names.title('channels', str(channel))} ({names.title('pairs', str(pair))}, {measure})"
        sentences.append(f"{title}: {series(texts)} facts.")
    return sentences


def _place(pair: object, task: object) -> str:
    return f"{names.title('tasks', str(task)).lower()} ({names.title('pairs', str(pair))})"
