"""A latent cache that several models share: each Receiver with each Sharer, and with all of them (Table 14)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import NOT_RUN, NOTHING
from paper.reading import names
from paper.reading.answers import Answers, PairIds, difference
from paper.reading.reference import Reference
from paper.rows import ID_COLUMNS, accuracy, arm_row, paper_column, tidy, with_bounds
from paper.writing.columns import differences, estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, LATENT = "Table 14", "latent"
ALONE, SEVERAL = "None", "Both"
"""What Table 14 calls the Receiver without a Sharer, and with all of them."""
COLUMNS = (*ID_COLUMNS, *with_bounds("", "deranged", "gain", "pairing", "own"), "n", "seeds", "paper", "reason")


def build(answers: Answers, reference: Reference | None = None) -> pd.DataFrame:
    """One row a Receiver, benchmark, and its Sharer or Sharers in a latent space, behind the Receiver alone.

    `deranged` is the accuracy with another question's message; `gain` what the right message has beyond the Receiver
    alone, `pairing` beyond another question's message, and `own` beyond Fusers that were trained for the pair alone.
    """
    reference = reference or Reference()
    pairs = [pair for pair in answers.all_pairs if _arm(answers, pair)]
    rows = []
    for receiver in dict.fromkeys(pair.receiver for pair in pairs):
        of_receiver = sorted((pair for pair in pairs if pair.receiver == receiver), key=lambda pair: pair.is_group)
        for benchmark in dict.fromkeys(
            benchmark for pair in of_receiver for benchmark in answers.benchmarks_of(pair.name)
        ):
            alone = _alone(answers, receiver, benchmark)
            paper = _paper_value(reference, receiver, ALONE, benchmark)
            rows.append(arm_row(answers, PairIds("", receiver, ""), benchmark, "receiver", alone, paper=paper))
            rows += [_row(answers, reference, pair, benchmark, alone) for pair in of_receiver]
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Receiver": [names.title("models", name) for name in frame["receiver"]],
        "Benchmark": titles(frame, "benchmark"),
        "Sharer": [_sharers(row) for row in frame.to_dict("records")],
        "Accuracy, % [95 %]": estimates(frame),
        "Another question's message, %": [
            NOTHING if text == NOT_RUN else text for text in estimates(frame, "deranged_")
        ],
        "Pairing gain, points": differences(frame, "pairing_"),
        "Difference to the pair's own Fusers, points": differences(frame, "own_"),
        **sizes(frame),
        **paper_column(frame),
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "One encoder a Sharer and one decoder a Receiver were trained together on all pairs; for several "
        "Sharers nothing more is trained. Pairing gain: less the same with another question's message. The last "
        "difference is to Fusers that were trained for one pair alone. Both are paired, on the training seeds that both"
        " have.",
        *_sharers_note(frame),
        *notes_on_gaps(frame, ["receiver", "sharer", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _arm(answers: Answers, pair: PairIds) -> str:
    """The arm of a pair or group through a latent space, or nothing."""
    arms = [arm for arm in answers.arms_of(pair.name) if arm.startswith(LATENT) and not arm.endswith("_deranged")]
    return min(arms, default="")


def _row(
    answers: Answers, reference: Reference, pair: PairIds, benchmark: str, receiver_frame: pd.DataFrame | None
) -> dict[str, object]:
    arm = _arm(answers, pair)
    arm_alone = arm.removeprefix(f"{LATENT}_") if pair.is_group else "c2c"
    frame, deranged_frame, alone_frame = (
        answers.get(pair.name, benchmark, name) for name in (arm, f"{arm}_deranged", arm_alone)
    )
    gains = {
        "gain": difference(frame, receiver_frame),
        "pairing": difference(frame, deranged_frame),
        "own": difference(frame, alone_frame),
    }
    sharer = SEVERAL if pair.is_group else names.paper_name("models", pair.sharer) or pair.sharer
    paper = _paper_value(reference, pair.receiver, sharer, benchmark)
    # The row's own n and seeds come last.
    return accuracy(deranged_frame, "deranged_") | arm_row(answers, pair, benchmark, arm, frame, gains, paper=paper)


def _alone(answers: Answers, receiver: str, benchmark: str) -> pd.DataFrame | None:
    """What the Receiver answers alone, in any of its pairs."""
    pairs = [pair.name for pair in answers.all_pairs if pair.receiver == receiver]
    frames = (answers.get(pair, benchmark, "receiver") for pair in pairs)
    return next((frame for frame in frames if frame is not None), None)


def _paper_value(reference: Reference, receiver: str, sharer: str, benchmark: str) -> float | None:
    """What Table 14 prints; where it remarks on a Sharer, the remark stands behind its name in brackets."""
    cell = (names.paper_name("models", receiver), names.paper_name("benchmarks", benchmark))
    values = [
        row["value"]
        for row in reference.rows(PLACE, "accuracy")
        if (row["receiver"], row["benchmark"]) == cell and row["sharer"].split(" (")[0] == sharer
    ]
    return values[0] if len(values) == 1 else None


def _sharers_note(frame: pd.DataFrame) -> list[str]:
    """A note that the paper's Sharers are not certain, if any of its values is compared with ours."""
    note = "Paper: as printed in Table 14, whose caption names these Sharers; the text on it names another."
    return [note] if frame["paper"].notna().any() else []


def _sharers(row: dict[str, str]) -> str:
    if row["arm"] == "receiver":
        return "none"
    pair = PairIds(row["pair"], row["receiver"], row["sharer"])
    if pair.is_group:
        return "both" if len(pair.sharers) == 2 else f"all {len(pair.sharers)}"
    return names.title("models", pair.sharer)


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
