"""The table of the score card."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.comparing import LEVELS
from c2c.testbed.card.numbers import NOT_RUN, NOTHING, decimal, show
from c2c.testbed.card.records import MessageRecords
from c2c.testbed.card.scorecard import build_card
from paper.reading.messages import load_records
from paper.rows import with_bounds
from paper.writing.columns import BOUNDS as BOUND_NAMES
from paper.writing.columns import counts, decimals, differences, estimates, sizes, titles
from paper.writing.output import run_table, write_table

BRIEF_LEVELS = dict(zip(LEVELS, ("none", "any message", "this message", "no parameters", "ceiling"), strict=True))
"""The evidence levels as the printed table has room for them."""


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""

    def shown(prefix: str, digits: int = 1) -> list[str]:
        # What a channel cannot have (a donor without a deranged message, say) is a dash.
        columns = with_bounds(prefix)
        return [NOTHING if text == NOT_RUN else text for text in estimates(frame[columns], f"{prefix}_", digits=digits)]

    # The right answers of the measure on which the level rests.
    columns = [[f"{row['measure']}_{bound}" for bound in BOUND_NAMES] for _, row in frame.iterrows()]
    shares = [show(*row[names]) for (_, row), names in zip(frame.iterrows(), columns, strict=True)]
    return pd.DataFrame(
        {
            "Pair": titles(frame, "pair"),
            "Task": titles(frame, "task"),
            "Channel": titles(frame, "channel"),
            "Right, %": shares,
            "CAG": differences(frame, "cag_"),
            "Communication": differences(frame, "communication_"),
            "Donor named, %": shown("donor"),
            "Of full, %": shown("of_full"),
            "Bits": shown("bits", 2),
            "Bytes": counts(frame, "bytes"),
            "Added, ms": decimals(frame, "time_added_ms", 1),
            "Parameters, M": decimals(frame["parameters"].astype(float).div(1e6).to_frame(), "parameters", 1),
            **sizes(frame),
            "Evidence": [BRIEF_LEVELS.get(level, NOTHING) for level in frame["level"]],
        }
    )


def write(records: MessageRecords, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build_card(records)
    margin = decimal(records.settings.margin, 1)
    notes = [
        "Right: answers with the matched message, by choice among options or exactly written. CAG: less those with a "
        "deranged one; communication: less the same parameters without a message. Donor named: answers with a deranged "
        "message that name the value of the item whose message was read.",
        "Of full: (matched - Receiver) / (full - Receiver), with the interval of the delta method. The .csv has the "
        "share of own states too, both measures, training items, steps and seconds.",
        "Bits: a lower bound of the mutual information of message and answer, a question (docs/reading-results.md). "
        "Added: milliseconds beyond those of the Receiver alone.",
        "Evidence, from the 95 % intervals: any message (matched above the Receiver); this message (above deranged "
        "too); no parameters (above the adapter too, which is equivalent to the Receiver within "
        f"{margin} points); ceiling (not {margin} points below full either).",
        *_notes_on_reasons(frame),
    ]
    return write_table(frame, text_table(frame), stem, notes)


def _notes_on_reasons(frame: pd.DataFrame) -> list[str]:
    """Why cells have no evidence level, a line each reason."""
    rows = frame[frame["reason"] != ""].drop_duplicates(["pair", "task"])
    lines = zip(titles(rows, "pair"), titles(rows, "task"), rows["reason"], strict=True)
    return [f"No evidence level for {pair}, {task}: {reason}." for pair, task, reason in lines]


if __name__ == "__main__":
    run_table(__doc__, write, testbed=load_records)
