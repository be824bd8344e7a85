"""Published fusers, asked without any training: accuracy, controls, system and pairing gain, beside the paper's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper.reading import names
from paper.reading.answers import Answers, Pair, difference
from paper.reading.reference import Reference
from paper.writing.output import NOTHING, count, fixed, notes_on_gaps, percent, run_table, show, write_table

ARMS = ("receiver", "sharer", "t2t", "routing", "released", "released_deranged", "released_zeroed")
AGAINST = {"receiver": "system_", "released_deranged": "pairing_"}
"""What published C2C is compared with, and what the difference is called."""
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "alignment", "arm"]
BOUNDS = ("value", "low", "high")
COLUMNS = [
    *HEAD,
    *(f"{gain}{bound}" for gain in AGAINST.values() for bound in BOUNDS),
    *BOUNDS,
    "n",
    "seeds",
    "paper",
    "reason",
]


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a pair with published fusers, benchmark and arm; gains stand with the arm `released`, in points."""
    reference = reference or Reference()
    rows = [
        row
        for pair in answers.all_pairs
        if "released" in answers.arms_of(pair.name)
        for benchmark in answers.asked(pair.name)
        for row in _rows(answers, reference, pair, benchmark)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "seeds": "Int64", "paper": float})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    rows = [
        {
            "Pair": names.title("pairs", row["pair"]),
            "Benchmark": names.title("benchmarks", row["benchmark"]),
            "Method": names.title("arms", row["arm"]),
            "Accuracy, % [95 %]": show(*(row[bound] for bound in BOUNDS)),
            "System gain": _gain(row, "system_"),
            "Pairing gain": _gain(row, "pairing_"),
            "n": count(row["n"]),
            "Paper, %": NOTHING if pd.isna(row["paper"]) else fixed(row["paper"], 2),
        }
        for row in frame.to_dict("records")
    ]
    return pd.DataFrame(rows)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    found = frame[frame["arm"] == "released"].drop_duplicates("pair")
    alignments = "; ".join(f"{names.title('pairs', row.pair)}: {row.alignment}" for row in found.itertuples())
    notes = [
        "Fusers as published; nothing is trained. Gains are paired differences in points with 95 % intervals.",
        f"Token alignment, as each was published (none: the Sharer reads the Receiver's tokens). {alignments}.",
        *notes_on_gaps(frame, ["pair", "benchmark", "arm"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _gain(row: dict[str, object], gain: str) -> str:
    value, low, high = (row[f"{gain}{bound}"] for bound in BOUNDS)
    return NOTHING if pd.isna(value) else show(value, low, high, sign=True)  # type: ignore[arg-type]


def _rows(answers: Answers, reference: Reference, pair: Pair, benchmark: str) -> list[dict[str, object]]:
    of_pair = (answers.marked["pair"] == pair.name) & (answers.marked["arm"] == "released")
    alignment = str(answers.marked.loc[of_pair, "alignment"].iloc[0])
    frames = {arm: answers.get(pair.name, benchmark, arm, alignment) for arm in ARMS}
    rows = []
    for arm, frame in frames.items():
        head = dict(zip(HEAD, [answers.scale, *pair, benchmark, alignment, arm], strict=True))
        gains: dict[str, object] = {}
        for other, gain in AGAINST.items():
            gains |= percent(difference(frame, frames[other]) if arm == "released" else None, gain)
        accuracy = None if frame is None else accuracy_with_interval(frame)
        reason = names.reason_not_run(pair=pair.name, arm=arm, benchmark=benchmark) if frame is None else ""
        paper = reference.cell(*pair, "c2c" if arm == "released" else arm, benchmark)
        rows.append(head | gains | percent(accuracy) | {"paper": paper, "reason": reason})
    return rows


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
