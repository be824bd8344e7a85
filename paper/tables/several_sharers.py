"""Several Sharers at once, whose Fusers were trained alone: each alone, all together, and the controls (Table 13)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.types import FUSIONS
from paper.reading import names
from paper.reading.answers import Answers, PairIds, difference
from paper.rows import alignment_column, arm_row, tidy, with_bounds
from paper.writing.columns import differences, estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

COLUMNS = (
    "scale",
    "pair",
    "receiver",
    "sharers",
    "benchmark",
    "arm",
    *with_bounds("difference", ""),
    "n",
    "seeds",
    "reason",
)


def build(answers: Answers) -> pd.DataFrame:
    """One row a group, benchmark and arm; `difference` is what an arm has beyond the better of the single C2C.

    Which of the single ones is the better is seen on the same questions, so that the difference is a cautious one.
    """
    rows = []
    for group in _groups(answers):
        for benchmark in answers.benchmarks_of(group.name):
            frames, best = _frames(answers, group, benchmark)
            for arm, frame in frames.items():
                gain = difference(frame, best) if arm in FUSIONS else None
                rows.append(arm_row(answers, group, benchmark, arm, frame, {"difference": gain}, False))
    return tidy([row | {"sharers": row["sharer"]} for row in rows], COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Sharers": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Who answers": titles(frame, "arm"),
        **alignment_column(frame),
        "Accuracy, % [95 %]": estimates(frame),
        "Difference to the better single C2C, points [95 %]": differences(frame),
        **sizes(frame),
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "The Fusers of each Sharer were trained alone; nothing is trained for their use together. The last column is "
        "paired, on the training seeds that both have.",
        *(_models(group) for group in _groups(answers)),
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _groups(answers: Answers) -> list[PairIds]:
    """Groups that were asked with Fusers that were trained for one Sharer each."""
    return [group for group in answers.groups if not answers.arms_of(group.name).isdisjoint(FUSIONS)]


def _models(group: PairIds) -> str:
    sharers = [f"Sharer {place}: {names.title('models', name)}" for place, name in enumerate(group.sharers, start=1)]
    receiver = f"Receiver: {names.title('models', group.receiver)}"
    return f"{names.title('pairs', group.name)}: {'; '.join([receiver, *sharers])}."


def _members(answers: Answers, group: PairIds) -> list[str]:
    """The pair of each Sharer with the same Receiver; one that was run with recipe c2c, where there are several."""
    members = []
    for sharer in group.sharers:
        pairs = [pair.name for pair in answers.all_pairs if pair[1:] == (group.receiver, sharer)]
        candidates = sorted(
            pairs, key=lambda name: ("c2c" not in answers.arms_of(name), not names.has_own_tables(name))
        )
        members.append(next(iter(candidates), ""))
    return members


def _frames(
    answers: Answers, group: PairIds, benchmark: str
) -> tuple[dict[str, pd.DataFrame | None], pd.DataFrame | None]:
    """Answers by arm, and those of the better of the single C2C."""
    members = _members(answers, group)
    places = range(1, len(members) + 1)
    # Each model alone, and C2C from each Sharer alone.
    frames = {"receiver": answers.get(members[0], benchmark, "receiver")}
    for arm in ("sharer", "c2c"):
        for place, pair in zip(places, members, strict=True):
            frames[f"{arm}_{place}"] = answers.get(pair, benchmark, arm)
    # All Sharers together, with the controls.
    controls = ("deranged", "zeroed", *(f"zeroed_{place}" for place in places))
    for fusion in FUSIONS:
        if fusion in answers.arms_of(group.name):
            for arm in (fusion, *(f"{fusion}_{control}" for control in controls)):
                frames[arm] = answers.get(group.name, benchmark, arm)
    single = [frame for place in places if (frame := frames[f"c2c_{place}"]) is not None]
    return frames, max(single, key=lambda frame: frame.mean(axis=None), default=None)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
