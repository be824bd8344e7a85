"""Token alignments compared: C2C with the main one and with others, each with its adapter and its deranged control."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import NOTHING
from paper.reading import names
from paper.reading.alignments import MAIN_ALIGNMENT
from paper.reading.answers import Answers, PairIds, difference
from paper.rows import accuracy, points, tidy, with_bounds
from paper.writing.columns import estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

COMPARED = (MAIN_ALIGNMENT, "longest")
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "benchmark", "alignment"),
    *with_bounds("receiver", "c2c", "deranged", "adapter", "pairing", "communication", "difference"),
    *("n", "seeds", "reason"),
)


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark and alignment.

    Columns `receiver`, `c2c`, `deranged`, `adapter` are accuracies; `pairing` is C2C less its deranged control,
    `communication` C2C less the adapter of the same alignment, and `difference` C2C less C2C of the pair's main
    alignment, on the same questions and seeds; each with its interval, in percent or points.
    """
    rows = []
    for pair in answers.pairs:
        alignments = list(dict.fromkeys([answers.main_alignment(pair.name), *COMPARED, *answers.alignments(pair.name)]))
        rows += [
            _row(answers, pair, benchmark, kind)
            for benchmark in answers.benchmarks_of(pair.name)
            for kind in alignments
        ]
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    # A pair's main alignment, with which its others are compared, comes first.
    is_main = ~frame.duplicated(["pair", "benchmark"])
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Alignment": list(frame["alignment"]),
        "Receiver, %": estimates(frame, "receiver_"),
        "C2C, %": estimates(frame, "c2c_"),
        "C2C deranged, %": estimates(frame, "deranged_"),
        "Adapter, %": estimates(frame, "adapter_"),
        "Pairing gain": estimates(frame, "pairing_", sign=True),
        "Communication gain": estimates(frame, "communication_", sign=True),
        "C2C less C2C of the first": pd.Series(estimates(frame, "difference_", sign=True)).mask(is_main, NOTHING),
        **sizes(frame),
    }
    return pd.DataFrame(table)


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "Accuracies in percent and paired differences in percentage points, with 95 % intervals. The first "
        "alignment of a pair is the one that its other tables show; the last difference is what another adds to it.",
        *notes_on_gaps(frame, ["pair", "benchmark", "alignment"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _row(answers: Answers, pair: PairIds, benchmark: str, alignment: str) -> dict[str, object]:
    receiver, c2c, deranged, adapter = (
        answers.get(pair.name, benchmark, arm, alignment) for arm in ("receiver", "c2c", "c2c_deranged", "adapter")
    )
    is_main = alignment == answers.main_alignment(pair.name)
    main = c2c if is_main else answers.get(pair.name, benchmark, "c2c")
    reason = names.reason_not_run(pair=pair.name, alignment=alignment, benchmark=benchmark) if c2c is None else ""
    return (
        dict(zip(COLUMNS, [answers.scale, *pair, benchmark, alignment], strict=False))
        | accuracy(receiver, "receiver_")
        | accuracy(deranged, "deranged_")
        | accuracy(adapter, "adapter_")
        | points(difference(c2c, deranged), "pairing_")
        | points(difference(c2c, adapter), "communication_")
        | points(difference(c2c, main), "difference_")
        # The last one decides n and seeds.
        | accuracy(c2c, "c2c_")
        | {"reason": reason}
    )


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
