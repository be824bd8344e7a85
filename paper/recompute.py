"""Everything that follows from records alone: scores, latency summary, tables, claims; in a results folder's layout.

    python -m paper.recompute --records paper/records/smoke

writes it anew into a folder of committed records, as is due when a table was added or changed on purpose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.evaluation.protocol import CORRECTED
from c2c.evaluation.schema import LATENCY_SCHEMA, read_records
from c2c.evaluation.scoring import score_records, scores_text
from c2c.provenance import write_atomically
from paper import claims, summarise_latency
from paper.answers import Answers
from paper.artefacts import LATENCY, Artefact, of_kind
from paper.artefacts import RECORDS as ANSWERED
from paper.output import read_table
from paper.reference import Reference

RECORDS, TIMES = "records.parquet", "latency.parquet"
"""File names of all answer records and all latency records of a scale, in a folder of committed records."""
TABLES = ("main", "gains", "latency", "ablation", "alignment")
"""Tables that follow from those; others are made of the tidy files of analyses."""
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
) -> list[str]:
    """Write every file that follows from the records into `folder` and return their names; `remarks` go below tables.

    Without latency records there is neither a summary nor a table of times, and verdicts about time are "not run".
    """
    answers = Answers(records, protocol, remarks)
    write_atomically(folder / "scores.csv", scores_text(score_records(records, protocol)))
    if times is not None:
        summarise_latency.write(times, folder / LATENCY)
    for artefact in of_kind("table").values():
        if follows_from_records(artefact) and (times is not None or not artefact.timed):
            _tabulate(artefact, answers, folder)
    judged = LATENCY_SCHEMA.empty_table().to_pandas() if times is None else times
    claims.write(claims.PATH, answers, judged, Reference(), (folder / "claims.json", folder / "claims_time.json"))
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def follows_from_records(artefact: Artefact) -> bool:
    """Whether a table needs records alone, or tables that do."""
    tables = {f"{each.stem}.csv": each for each in of_kind("table").values()}
    return all(
        source in (ANSWERED, LATENCY) or (source in tables and follows_from_records(tables[source]))
        for source in artefact.reads.values()
    )


def _tabulate(artefact: Artefact, answers: Answers, folder: Path) -> None:
    def read(source: str) -> Any:
        if source == ANSWERED:
            return answers
        return read_table(folder / source) if (folder / source).is_file() else None

    import_module(artefact.module).write(*map(read, artefact.reads.values()), folder / artefact.stem)


def recompute_committed(folder: Path, output: Path) -> list[str]:
    """`recompute` from a folder of committed records, with its protocol and its remarks, into `output`."""
    timed = (folder / TIMES).is_file()
    times = read_records([folder / TIMES], LATENCY_SCHEMA) if timed else None
    return recompute(read_records([folder / RECORDS]), times, output, protocol_of(folder), remarks_of(folder))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="folders of committed records")
    for folder in parser.parse_args().records:
        recompute_committed(folder, folder)
        print(f"{folder}: written anew; look at the difference before you commit it")


if __name__ == "__main__":
    main()
