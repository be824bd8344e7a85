"""Everything that follows from records alone: scores, latency summary, tables, claims; in a results folder's layout.

    python -m paper.recompute --records paper/records/smoke

writes it anew into a folder of committed records, as is due when a table was added or changed on purpose.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.evaluation.protocol import CORRECTED
from c2c.evaluation.schema import LATENCY_SCHEMA, read_records
from c2c.evaluation.scoring import score_records, scores_text
from c2c.storage.files import write_atomically
from c2c.testbed.card.records import MessageRecords
from paper import claims, summarise_latency
from paper.artefacts import CURVES as TRAINING_CURVES
from paper.artefacts import LATENCY, RELEASED, TESTBED, Artefact, claim_files, of_kind
from paper.artefacts import RECORDS as ANSWERED
from paper.command import command
from paper.communication import curves as curves_of_testbed
from paper.modules import writer
from paper.reading.answers import Answers
from paper.reading.committed import (
    COST,
    RECORDS,
    TESTBED_CURVES,
    TESTBED_RECORDS,
    TIMES,
    basis_of,
    protocol_of,
    remarks_of,
)
from paper.reading.files import read_table
from paper.reading.messages import load_records
from paper.reading.reference import Reference

RECORD_SOURCES = {ANSWERED, RELEASED, LATENCY, COST, TESTBED, TRAINING_CURVES}
"""Sources of tables that a folder of committed records may hold."""


def recompute(
    records: pd.DataFrame,
    times: pd.DataFrame | None,
    folder: Path,
    protocol: str = CORRECTED,
    remarks: Sequence[str] = (),
    cost: pd.DataFrame | None = None,
    basis: str = "",
    testbed: MessageRecords | None = None,
    curves: pd.DataFrame | None = None,
) -> list[str]:
    """Write every file that follows from the records into `folder` and return their names; `remarks` go below tables.

    Without latency records there is neither a summary nor a table of times, and verdicts about time are "not run".
    Without the cost of training there is no Table 12, without records of a test bed none of its tables. Verdicts rest
    on the list of the scale `basis`, by default the records' own. Claims read the tables in `folder`; one that does not
    follow from records must lie there before.
    """
    answers = Answers(records, protocol, remarks)
    write_atomically(folder / "scores.csv", scores_text(score_records(records, protocol)))
    if times is not None:
        summarise_latency.write(times, folder / LATENCY)
    sources = {ANSWERED: answers, RELEASED: answers, COST: cost, TESTBED: testbed, TRAINING_CURVES: curves}
    available = sources_of_records(records, times is not None, cost is not None, testbed is not None)
    for artefact in recomputed_tables(available).values():
        _tabulate(artefact, sources, folder)
    latency = LATENCY_SCHEMA.empty_table().to_pandas() if times is None else times
    outputs = (folder / "claims.json", folder / "claims_time.json")
    tables = claims.read_tables(path for name in claim_files() if (path := folder / name).is_file())
    claims.write(claims.PATH, answers, latency, Reference(), outputs, tables, basis)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def sources_of_records(records: pd.DataFrame, is_timed: bool, is_priced: bool, has_testbed: bool) -> set[str]:
    """The sources of tables (`Artefact.reads`) that committed records have besides other tables."""
    optional = {
        LATENCY: is_timed,
        COST: is_priced,
        RELEASED: RELEASED in set(records["recipe"]),
        TESTBED: has_testbed,
        TRAINING_CURVES: has_testbed,
    }
    return {ANSWERED, *(source for source, is_available in optional.items() if is_available)}


def recomputed_tables(available: Collection[str]) -> dict[str, Artefact]:
    """Tables that follow from the `available` sources, by name; only tables of times cannot do without these."""
    gaps = RECORD_SOURCES - set(available)
    tables = [table for table in of_kind("table").values() if follows_from_records(table)]
    return {
        table.name: table
        for table in tables
        if not (gaps - {LATENCY}) & set(table.reads.values()) and (LATENCY in available or not table.timed)
    }


def follows_from_records(artefact: Artefact) -> bool:
    """Whether a table needs nothing but what a folder of committed records holds, or tables that do."""
    tables = {f"{table.stem}.csv": table for table in of_kind("table").values()}
    return all(
        source in RECORD_SOURCES or (source in tables and follows_from_records(tables[source]))
        for source in artefact.reads.values()
    )


def _tabulate(artefact: Artefact, sources: Mapping[str, Any], folder: Path) -> None:
    def load(source: str) -> Any:
        if source in sources:
            return sources[source]
        return read_table(folder / source) if (folder / source).is_file() else None

    writer(artefact)(*map(load, artefact.reads.values()), folder / artefact.stem)


def not_from_records() -> list[str]:
    """The files that claims read and that do not follow from records: what analyses and trained fusers gave."""
    files = {f"{table.stem}.csv" for table in of_kind("table").values() if follows_from_records(table)}
    return [name for name in claim_files() if name not in files]


def recompute_committed(folder: Path, output: Path) -> list[str]:
    """`recompute` from a folder of committed records, with its protocol, basis and remarks, into `output`."""
    for name in not_from_records():
        if (folder / name).is_file() and folder != output:
            write_atomically(output / name, (folder / name).read_text(encoding="utf-8"))
    has_times = (folder / TIMES).is_file()
    times = read_records([folder / TIMES], LATENCY_SCHEMA) if has_times else None
    cost = read_table(folder / COST) if (folder / COST).is_file() else None
    protocol = protocol_of(folder)
    names = recompute(
        read_records([folder / RECORDS]),
        times,
        output,
        protocol,
        remarks_of(folder),
        cost,
        basis_of(folder),
        testbed_of(folder),
        curves_of(folder),
    )
    # A .tex file repeats its .md file and is not committed.
    for path in output.glob("tables/*.tex"):
        path.unlink()
    return [name for name in names if not name.endswith(".tex")]


def testbed_of(folder: Path) -> MessageRecords | None:
    """The records of the test bed in a folder of committed records; None where it has none."""
    path = folder / TESTBED_RECORDS
    return load_records([path]) if path.is_file() else None


def curves_of(folder: Path) -> pd.DataFrame:
    """The curves of the test bed's trainings in a folder of committed records; empty where it has none."""
    path = folder / TESTBED_CURVES
    return curves_of_testbed.read([path] if path.is_file() else [])


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="folders of committed records")
    for folder in parser.parse_args().records:
        recompute_committed(folder, folder)
        print(f"{folder}: written anew; look at the difference before you commit it")


if __name__ == "__main__":
    sys.exit(main())
