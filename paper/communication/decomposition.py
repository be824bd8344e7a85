"""The table of the gains of every channel."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.comparing import LEVEL
from c2c.testbed.card.gains import EQUIVALENT, build_gains
from c2c.testbed.card.numbers import decimal
from c2c.testbed.card.records import MessageRecords
from paper.reading import names
from paper.reading.messages import load_records
from paper.writing.columns import estimates, sizes
from paper.writing.output import run_table, write_table

PRINTED = ("OPE", "OME", "CAG", "SSG", "communication")


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: a row a channel, by the measure on which its evidence rests; the .csv has all."""
    lines = []
    for (pair, task), cells in frame.groupby(["pair", "task"], sort=False):
        own = cells[cells["measure"] == cells["measure"].iloc[0]]
        for channel, gains in own.groupby("channel", sort=False):
            texts = dict(zip(gains["gain"], _marked(gains), strict=True))
            equivalent = gains.loc[gains["finding"] == EQUIVALENT, "gain"]
            lines.append(
                {
                    "Pair": names.title("pairs", pair),
                    "Task": names.title("tasks", task),
                    "Channel": names.title("channels", channel),
                    **{names.title("gains", name): texts.get(name, "–") for name in PRINTED},
                    "Equivalent to no message": ", ".join(names.title("gains", name) for name in equivalent) or "–",
                    **{name: column[0] for name, column in sizes(gains).items()},
                }
            )
    return pd.DataFrame(lines)


def _marked(gains: pd.DataFrame) -> list[str]:
    """Gains with their intervals, and a star where Holm's p is below `LEVEL`."""
    stars = ["*" if p_value < LEVEL else "" for p_value in gains["p_holm"]]
    return [text + star for text, star in zip(estimates(gains, sign=True), stars, strict=True)]


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build_gains(records)
    notes = [
        "Paired differences in points over items and trainings. OPE: matched less Receiver; OME: deranged less "
        "Receiver, what any message does; CAG: matched less deranged, so that OPE = OME + CAG; SSG: matched less the "
        "Receiver's own reading sent as the message; communication: matched less the same parameters, no message.",
        "A star: p below 0.05 after Holm's adjustment for all channels and tasks of a gain.",
        f"Equivalent to no message: by two one-sided tests, at a margin of {decimal(records.settings.margin, 1)} "
        "points that was fixed before the runs, adjusted for all cells of this kind (Holm). The .csv has both measures "
        "and all gains, p values, and the smallest margin of equivalence: if it is above ours, it tells of too "
        "few items or trainings.",
    ]
    return write_table(frame, text_table(frame), stem, notes)


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records)
