"""A latent cache that several models share: each Receiver with each Sharer, and with all of them (Table 14)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.stats import accuracy_with_interval
from paper.reading import names
from paper.reading.answers import MAIN_ALIGNMENT, Answers, Pair, difference
from paper.reading.reference import Reference
from paper.rows import without_empty_paper
from paper.writing.output import NOTHING, count, fixed, notes_on_gaps, percent, run_table, show, write_table

PLACE, LATENT = "Table 14", "latent"
ALONE, BOTH = "None", "Both"
"""What Table 14 calls the Receiver without a Sharer, and with all of them."""
HEAD = ["scale", "pair", "receiver", "sharer", "benchmark", "arm"]
PARTS = ("", "deranged_", "gain_", "pairing_", "own_")
COLUMNS = [
    *HEAD,
    *(f"{part}{bound}" for part in PARTS for bound in ("value", "low", "high")),
    *("n", "seeds", "paper", "reason"),
]

PRINTED = [
    *("Receiver", "Benchmark", "Sharer", "Accuracy, % [95 %]", "Another question's message, %"),
    *("Pairing gain, points", "Less the pair's own Fusers, points", "n", "Seeds", "Paper, %"),
]


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a Receiver, benchmark, and its Sharer or Sharers in a latent space, behind the Receiver alone.

    `deranged` is the accuracy with another question's message; `gain` what the right message has beyond the Receiver
    alone, `pairing` beyond another question's message, and `own` beyond Fusers that were trained for the pair alone.
    """
    reference = reference or Reference()
    asked = [pair for pair in answers.all_pairs if _arm(answers, pair)]
    receivers = dict.fromkeys(pair.receiver for pair in asked)
    rows = [
        row
        for receiver in receivers
        for row in _of_receiver(answers, reference, [pair for pair in asked if pair.receiver == receiver])
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "seeds": "Int64", "paper": float})


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads."""
    rows = [
        [
            names.title("models", row["receiver"]),
            names.title("benchmarks", row["benchmark"]),
            _sharers(row),
            show(*_part(row, "")),
            _shown(row, "deranged_", sign=False),
            _shown(row, "pairing_"),
            _shown(row, "own_"),
            count(row["n"]),
            count(row["seeds"]),
            NOTHING if pd.isna(row["paper"]) else fixed(row["paper"], 2),
        ]
        for row in frame.to_dict("records")
    ]
    table = pd.DataFrame(rows, columns=PRINTED)
    return without_empty_paper(table, frame)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "One encoder a Sharer and one decoder a Receiver were trained together on all pairs; for several "
        "Sharers nothing more is trained. Pairing gain: less the same with another question's message. The last "
        "difference is to Fusers that were trained for one pair alone. Both are paired, on the training seeds that both"
        " have.",
        *_papers(frame),
        *notes_on_gaps(frame, ["receiver", "sharer", "benchmark"]),
    ]
    return write_table(frame, printed(frame), stem, notes, answers)


def _arm(answers: Answers, pair: Pair) -> str:
    """The arm of a pair or group through a latent space, or nothing."""
    found = [arm for arm in answers.arms_of(pair.name) if arm.startswith(LATENT) and not arm.endswith("_deranged")]
    return min(found, default="")


def _of_receiver(answers: Answers, reference: Reference, asked: list[Pair]) -> list[dict[str, object]]:
    ordered = sorted(asked, key=lambda pair: pair.is_group)
    benchmarks = dict.fromkeys(task for pair in ordered for task in answers.asked(pair.name))
    receiver, rows = ordered[0].receiver, []
    for benchmark in benchmarks:
        alone = _alone(answers, receiver, benchmark)
        row = dict(zip(HEAD, [answers.scale, "", receiver, "", benchmark, "receiver"], strict=True))
        paper = _paper(reference, receiver, ALONE, benchmark)
        rows.append(row | _numbers(alone, "receiver", benchmark) | {"paper": paper})
        rows += [_row(answers, reference, pair, benchmark, alone) for pair in ordered]
    return rows


def _row(
    answers: Answers, reference: Reference, pair: Pair, benchmark: str, alone: pd.DataFrame | None
) -> dict[str, object]:
    arm = _arm(answers, pair)
    own = arm.removeprefix(f"{LATENT}_") if pair.is_group else "c2c"
    found, deranged, trained_alone = (
        answers.get(pair.name, benchmark, name, MAIN_ALIGNMENT) for name in (arm, f"{arm}_deranged", own)
    )
    row = dict(zip(HEAD, [answers.scale, *pair, benchmark, arm], strict=True))
    for part, other in (("gain_", alone), ("pairing_", deranged), ("own_", trained_alone)):
        row |= percent(difference(found, other), part)
    row |= percent(None if deranged is None else accuracy_with_interval(deranged), "deranged_")
    sharer = BOTH if pair.is_group else names.paper_name("models", pair.sharer) or pair.sharer
    return row | _numbers(found, arm, benchmark) | {"paper": _paper(reference, pair.receiver, sharer, benchmark)}


def _numbers(frame: pd.DataFrame | None, arm: str, benchmark: str) -> dict[str, object]:
    reason = names.reason_not_run(arm=arm, benchmark=benchmark) if frame is None else ""
    return percent(None if frame is None else accuracy_with_interval(frame)) | {"reason": reason}


def _alone(answers: Answers, receiver: str, benchmark: str) -> pd.DataFrame | None:
    """What the Receiver answers alone, in whichever of its pairs that is asked."""
    pairs = [pair.name for pair in answers.all_pairs if pair.receiver == receiver]
    found = (answers.get(pair, benchmark, "receiver") for pair in pairs)
    return next((frame for frame in found if frame is not None), None)


def _paper(reference: Reference, receiver: str, sharer: str, benchmark: str) -> float | None:
    """What Table 14 prints; where it remarks on a Sharer, the remark stands behind its name in brackets."""
    asked = (names.paper_name("models", receiver), names.paper_name("benchmarks", benchmark))
    found = [
        row["value"]
        for row in reference.rows(PLACE, "accuracy")
        if (row["receiver"], row["benchmark"]) == asked and row["sharer"].split(" (")[0] == sharer
    ]
    return found[0] if len(found) == 1 else None


def _papers(frame: pd.DataFrame) -> list[str]:
    """That the paper's Sharers are not certain, where any of its values stands beside ours."""
    told = "Paper: as printed in Table 14, whose caption names these Sharers; the text beside it names another."
    return [told] if frame["paper"].notna().any() else []


def _sharers(row: dict[str, str]) -> str:
    if row["arm"] == "receiver":
        return "none"
    pair = Pair(row["pair"], row["receiver"], row["sharer"])
    if pair.is_group:
        return "both" if len(pair.sharers) == 2 else f"all {len(pair.sharers)}"
    return names.title("models", pair.sharer)


def _part(row: dict[str, float], part: str) -> list[float]:
    return [row[f"{part}{bound}"] for bound in ("value", "low", "high")]


def _shown(row: dict[str, float], part: str, sign: bool = True) -> str:
    value, low, high = _part(row, part)
    return NOTHING if pd.isna(value) else show(value, low, high, sign=sign)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.read)
