"""Token alignments compared: C2C with span and with the reference's alignments, each beside its deranged control."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper.reading import names
from paper.reading.answers import MAIN_ALIGNMENT, Answers, Pair, difference
from paper.writing.output import NOTHING, count, notes_on_gaps, percent, run_table, show, write_table

COMPARED = (MAIN_ALIGNMENT, "longest")
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "alignment"]
PARTS = ("receiver", "c2c", "deranged", "pairing", "difference")


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and alignment.

    Columns `receiver`, `c2c`, `deranged` are accuracies, `pairing` is C2C less its deranged control, `difference` is
    span less this alignment; each with its interval, in percent or points.
    """
    rows = []
    for pair in answers.pairs:
        alignments = list(dict.fromkeys([*COMPARED, *answers.alignments(pair.name)]))
        rows += [_row(answers, pair, benchmark, kind) for benchmark in answers.asked(pair.name) for kind in alignments]
    numbers = [f"{part}_{number}" for part in PARTS for number in ("value", "low", "high")]
    return pd.DataFrame(rows, columns=[*HEAD, *numbers, "n", "seeds", "reason"]).astype(
        {"n": "Int64", "seeds": "Int64"}
    )


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    return pd.DataFrame(
        {
            "Pair": names.title("pairs", row["pair"]),
            "Benchmark": names.title("benchmarks", row["benchmark"]),
            "Alignment": row["alignment"],
            "Receiver, %": _show(row, "receiver"),
            "C2C, %": _show(row, "c2c"),
            "C2C deranged, %": _show(row, "deranged"),
            "Pairing gain": _show(row, "pairing", sign=True),
            "Span less this": NOTHING if row["alignment"] == MAIN_ALIGNMENT else _show(row, "difference", sign=True),
            "n": count(row["n"]),
            "Seeds": count(row["seeds"]),
        }
        for row in frame.to_dict("records")
    )


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Accuracies in percent and paired differences in percentage points, with 95 % intervals.",
        *notes_on_gaps(frame, ["pair", "benchmark", "alignment"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _show(row: dict[str, float], part: str, sign: bool = False) -> str:
    return show(row[f"{part}_value"], row[f"{part}_low"], row[f"{part}_high"], sign=sign)


def _row(answers: Answers, pair: Pair, benchmark: str, alignment: str) -> dict[str, object]:
    head = dict(zip(HEAD, [answers.scale, *pair, benchmark, alignment], strict=True))
    receiver, c2c, deranged = (
        answers.get(pair.name, benchmark, arm, alignment) for arm in ("receiver", "c2c", "c2c_deranged")
    )
    main = answers.get(pair.name, benchmark, "c2c")
    cells = head
    for part, frame in (("receiver", receiver), ("deranged", deranged), ("c2c", c2c)):
        cells |= percent(None if frame is None else accuracy_with_interval(frame), f"{part}_")
    for part, left, right in (("pairing", c2c, deranged), ("difference", main, c2c)):
        gain = percent(difference(left, right), f"{part}_")
        cells |= {name: value for name, value in gain.items() if name.startswith(part)}
    reason = names.reason_not_run(pair=pair.name, alignment=alignment, benchmark=benchmark) if c2c is None else ""
    return cells | {"reason": reason}


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
