"""Several Sharers at once, whose Fusers were trained alone: each alone, all together, and the controls (Table 13)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from c2c.types import FUSIONS
from paper.reading import names
from paper.reading.answers import MAIN_ALIGNMENT, Answers, Pair, difference
from paper.writing.output import arm_cells, notes_on_gaps, percent, run_table, write_table

CONTROLS = ("deranged", "zeroed")
HEAD = ["scale", "pair", "receiver", "sharers", "benchmark", "arm"]
COLUMNS = [
    *HEAD,
    *(f"{part}{bound}" for part in ("difference_", "") for bound in ("value", "low", "high")),
    *("n", "seeds", "reason"),
]


def build(answers: Answers) -> pd.DataFrame:
    """One row a group, benchmark and arm; `difference` is what an arm has beyond the better of the single C2C.

    Which of the single ones is the better is seen on the same questions, so that the difference is a cautious one.
    """
    rows = [
        row for group in _asked(answers) for task in answers.asked(group.name) for row in _rows(answers, group, task)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "seeds": "Int64"})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    columns = [
        "Sharers",
        "Benchmark",
        "Who answers",
        "Accuracy, % [95 %]",
        "Beyond the better single C2C, points [95 %]",
    ]
    return pd.DataFrame(arm_cells(frame), columns=[*columns, "n", "Seeds"])


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "The Fusers of each Sharer were trained alone; nothing is trained for their use together. The last column is "
        "paired, on the training seeds that both have.",
        *(_who(group) for group in _asked(answers)),
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _asked(answers: Answers) -> list[Pair]:
    """Groups that were asked with Fusers that were trained alone."""
    return [group for group in answers.groups if not answers.arms_of(group.name).isdisjoint(FUSIONS)]


def _who(group: Pair) -> str:
    listed = [f"Sharer {place}: {names.title('models', name)}" for place, name in enumerate(group.sharers, start=1)]
    receiver = f"Receiver: {names.title('models', group.receiver)}"
    return f"{names.title('pairs', group.name)}: {'; '.join([receiver, *listed])}."


def _members(answers: Answers, group: Pair) -> list[str]:
    """The pair of each Sharer with the same Receiver; one that was run with recipe c2c, where there are several."""
    found = []
    for sharer in group.sharers:
        pairs = [pair.name for pair in answers.all_pairs if pair[1:] == (group.receiver, sharer)]
        ranked = sorted(pairs, key=lambda name: ("c2c" not in answers.arms_of(name), not names.aside(name)))
        found.append(next(iter(ranked), ""))
    return found


def _rows(answers: Answers, group: Pair, benchmark: str) -> list[dict[str, object]]:
    members = _members(answers, group)
    frames = {"receiver": answers.get(members[0], benchmark, "receiver")}
    for arm in ("sharer", "c2c"):
        for place, pair in enumerate(members, start=1):
            frames[f"{arm}_{place}"] = answers.get(pair, benchmark, arm)
    zeroed = [f"zeroed_{place}" for place in range(1, len(members) + 1)]
    for fusion in FUSIONS:
        if fusion in answers.arms_of(group.name):
            for arm in (fusion, *(f"{fusion}_{control}" for control in (*CONTROLS, *zeroed))):
                frames[arm] = answers.get(group.name, benchmark, arm, MAIN_ALIGNMENT)
    single = [frames[f"c2c_{place}"] for place in range(1, len(members) + 1)]
    best = max((frame for frame in single if frame is not None), key=lambda frame: frame.mean(axis=None), default=None)
    return [_row(answers, group, benchmark, arm, frame, best) for arm, frame in frames.items()]


def _row(
    answers: Answers, group: Pair, benchmark: str, arm: str, frame: pd.DataFrame | None, best: pd.DataFrame | None
) -> dict[str, object]:
    head = dict(zip(HEAD, [answers.scale, *group, benchmark, arm], strict=True))
    beyond = difference(frame, best) if arm in FUSIONS else None
    accuracy = None if frame is None else accuracy_with_interval(frame)
    reason = names.reason_not_run(pair=group.name, arm=arm, benchmark=benchmark) if frame is None else ""
    return head | percent(beyond, "difference_") | percent(accuracy) | {"reason": reason}


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
