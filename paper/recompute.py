"""Everything that follows from records alone: scores, latency summary, tables, claims; in a results folder's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from c2c.evaluation.protocol import CORRECTED
from c2c.evaluation.schema import LATENCY_SCHEMA
from c2c.evaluation.scoring import score_records, scores_text
from c2c.provenance import write_atomically
from paper import claims, summarise_latency
from paper.answers import Answers
from paper.output import read_table
from paper.reference import Reference
from paper.tables import ablation, alignment, gains, latency, main, table12

RECORDS, TIMES = "records.parquet", "latency.parquet"
"""File names of all answer records and all latency records of a scale, in a folder of committed records."""
COST = "training_cost.csv"
"""What training cost, in a folder of committed records where it was measured; Table 12 is made from it."""
PROTOCOL = "protocol.txt"
"""Names the protocol of a folder of committed records, where it is not `corrected`."""


REMARKS = "remarks.txt"
"""Says, a line each, what a reader of the committed numbers must know and the records do not hold."""


def protocol_of(folder: Path) -> str:
    """By which the answers in a folder of committed records were marked."""
    return (folder / PROTOCOL).read_text(encoding="utf-8").strip() if (folder / PROTOCOL).is_file() else CORRECTED


def remarks_of(folder: Path) -> list[str]:
    """What `REMARKS` of a folder of committed records says; nothing where there is no such file."""
    return (folder / REMARKS).read_text(encoding="utf-8").splitlines() if (folder / REMARKS).is_file() else []


def recompute(
    records: pd.DataFrame,
    times: pd.DataFrame | None,
    folder: Path,
    protocol: str = CORRECTED,
    remarks: Sequence[str] = (),
    cost: pd.DataFrame | None = None,
) -> list[str]:
    """Write every file that follows from the records into `folder` and return their names; `remarks` go below tables.

    Without latency records there is neither a summary nor a table of times, and verdicts about time are "not run".
    Without the cost of training there is no Table 12.
    """
    answers = Answers(records, protocol, remarks)
    write_atomically(folder / "scores.csv", scores_text(score_records(records, protocol)))
    tables, summary = folder / "tables", None
    if times is None:
        times = LATENCY_SCHEMA.empty_table().to_pandas()
    else:
        summarise_latency.write(times, folder / "latency.csv")
        summary = read_table(folder / "latency.csv")
        latency.write(summary, tables / "latency")
    main.write(answers, summary, tables / "main")
    for module, name in ((gains, "gains"), (ablation, "ablation"), (alignment, "alignment")):
        module.write(answers, tables / name)
    if cost is not None:
        table12.write(answers, cost, Reference(), tables / "table12")
    claims.write(claims.PATH, answers, times, Reference(), (folder / "claims.json", folder / "claims_time.json"))
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
