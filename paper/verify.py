"""Recompute every committed number from its per-question records, without torch, and compare.

Exit code 1 on a change, 2 where there is nothing to recompute from.

Prints each table next to the paper's value where the paper has one, each claim with its verdict, and for each file
whether it is the same.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from c2c.evaluation.schema import read_records
from c2c.provenance import SUFFIX
from c2c.testbed.card.numbers import NOTHING, decimal, show
from paper.command import command
from paper.reading import names
from paper.reading.committed import (
    BASIS,
    COST,
    CURVES,
    PROTOCOL,
    QUESTIONS,
    RECORDS,
    REMARKS,
    TESTBED_CURVES,
    TESTBED_RECORDS,
    TIMES,
    protocol_of,
)
from paper.reading.curves import check_curves, last_and_best, read_curves
from paper.reading.files import read_table
from paper.reading.fusers import FuserRun
from paper.reading.questions import check_questions, read_questions
from paper.reading.reference import Reference
from paper.recompute import recompute_committed

COMMITTED = Path(__file__).with_name("records")
COLLECT = "Restore it, or run the workflow and python -m paper.collect"
PICTURES = COMMITTED.parents[1] / "docs/figures"
REDRAW = ": draw it from the new table with python -m paper.figures.gains"
SHOWN_LINES = 6


def verify(folder: Path) -> bool:
    """Recompute one scale's folder, print the result, and return whether nothing changed.

    Raises:
        RefusedError: The folder lacks its records, or its latency records although it holds what follows from them.
    """
    if not (folder / RECORDS).is_file():
        raise RefusedError("A folder of committed records must hold its records", str(folder / RECORDS), COLLECT)
    has_times = (folder / TIMES).is_file()
    if not has_times and (folder / "latency.csv").is_file():
        raise RefusedError("Times must follow from latency records", str(folder / TIMES), COLLECT)
    protocol = protocol_of(folder)
    print(f"\n=== {folder.name}: recomputed from {folder / RECORDS} (protocol {protocol})\n")
    if not has_times:
        print(f"No {TIMES}: nothing was timed at this scale.\n")
    print_curves(folder)
    print_questions(folder)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary)
        files = recompute_committed(folder, target)
        # What was recomputed, next to the paper's values.
        reference = Reference()
        print_main(read_table(target / "tables/main.csv", empty_is_missing=True), reference)
        for table, entries in reference.values().items():
            print_table(table, target / f"tables/{table}.md", entries)
        for file in ("claims.json", "claims_time.json"):
            print_claims(json.loads((target / file).read_text(encoding="utf-8")))
        print()
        # Whether each file is as committed; .tex files of older folders are not compared.
        names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        read_files = {RECORDS, TIMES, QUESTIONS, COST, CURVES, TESTBED_RECORDS, TESTBED_CURVES}
        names -= read_files | {PROTOCOL, BASIS, REMARKS} | {name for name in names if name.endswith((SUFFIX, ".tex"))}
        results = [compare_file(folder / name, target / name, name) for name in sorted(names | set(files))]
        if folder.resolve().parent != COMMITTED.resolve():
            return all(results)
        return all([*results, compare_picture(PICTURES / f"gains_{folder.name}.png", target / "tables/gains.csv")])


def print_curves(folder: Path) -> None:
    """Check the training curves against the records, and print how far the kept last step is from the best one.

    Raises:
        RefusedError: The curves are not those of the trainings whose fusers answered.
    """
    if not (folder / CURVES).is_file():
        print(f"No {CURVES}: the training curves of this scale were not kept.\n")
        return
    curves = read_curves(folder / CURVES)
    check_curves(curves, pd.read_parquet(folder / RECORDS, columns=[*FuserRun._fields]))
    ends = last_and_best(curves)
    further = ends[ends["best_step"] < ends["last_step"]]
    gap = 0.0 if further.empty else float((further["last"] - further["best"]).max())
    print(
        f"{CURVES}: {len(ends)} trainings; the validation loss is lowest at the last step of "
        f"{len(ends) - len(further)}, and in the others at most {decimal(gap, 4)} nats lower before.\n"
    )


def print_questions(folder: Path) -> None:
    """Check the texts of questions against the hashes in the records, and print how many there are.

    Raises:
        RefusedError: A text is not that of the question that was answered.
    """
    if not (folder / QUESTIONS).is_file():
        print(f"No {QUESTIONS}: the texts of this scale's questions are not part of the records.\n")
        return
    questions = read_questions([folder / QUESTIONS])
    check_questions(questions, read_records([folder / RECORDS]))
    print(f"{QUESTIONS}: {len(questions)} texts, all of them those that the records' models read.\n")


def print_main(frame: pd.DataFrame, reference: Reference) -> None:
    """The main table in text, with the paper's cell for the same pair, and its mean over Table 4 for the method."""
    head = ("pair", "benchmark", "method", "accuracy, %", "n", "paper", "paper, mean of Table 4")
    print("{:28} {:18} {:14} {:>22} {:>5} {:>7} {:>23}".format(*head))
    for row in frame.itertuples():
        cell = reference.cell(row.pair, row.receiver, row.sharer, row.arm, row.benchmark)
        mean = reference.mean_of("Table 4", row.arm)
        print(
            f"{names.title('pairs', row.pair):28} {names.title('benchmarks', row.benchmark):18} "
            f"{names.title('arms', row.arm):14} {show(row.value, row.low, row.high):>22} "
            f"{NOTHING if pd.isna(row.n) else int(row.n):>5} {_number(cell):>7} {_number(mean):>23}"
        )


def print_table(name: str, path: Path, paper_values: list[dict[str, Any]]) -> None:
    """A recomputed table, and the paper's values for it."""
    if path.is_file():
        text = path.read_text(encoding="utf-8").partition("<!--")[0].strip()
        print(f"\n{name}\n\n{text}\n")
        for entry in paper_values:
            print(f"  paper: {entry['label']}: {_number(entry['value'])} {entry['unit']}")


def print_claims(claims: list[dict[str, Any]]) -> None:
    """One line a claim: verdict, our value, the paper's."""
    for claim in claims:
        value = "" if claim["value"] is None else "ours " + show(claim["value"], claim["low"], claim["high"])
        if claim["evidence"]["kind"] == "check":
            value = f"printed elsewhere {_number(claim['evidence']['recomputed'])}"
        print(f"{claim['verdict']:28} {claim['id']:28} {value:28} paper {_number(claim['paper_value'])}")
        if claim["reason"]:
            print(f"{'':28} {claim['reason']}")


def compare_file(committed: Path, fresh: Path, name: str) -> bool:
    """Print whether a committed file is what was recomputed, and how it differs; return whether it is."""
    # What is no text differs as well.
    texts = (path.read_bytes() if path.is_file() else b"" for path in (committed, fresh))
    committed_lines, fresh_lines = (text.decode("utf-8", errors="replace").splitlines() for text in texts)
    if committed.is_file() and fresh.is_file() and committed.read_bytes() == fresh.read_bytes():
        print(f"same     {name}")
        return True
    print(f"CHANGED  {name}" if committed.is_file() else f"NEW      {name}: not committed yet")
    difference = [
        line for line in difflib.unified_diff(committed_lines, fresh_lines, "committed", "recomputed", lineterm="", n=0)
    ][2:]
    for line in [line for line in difference if not line.startswith("@@")][:SHOWN_LINES]:
        print(f"           {line}")
    return False


def compare_picture(picture: Path, table: Path) -> bool:
    """Print whether a committed figure was drawn from this table, whose hash it holds."""
    if not picture.is_file():
        return True
    is_current = hashlib.sha256(table.read_bytes()).hexdigest().encode() in picture.read_bytes()
    print(
        f"{'same   ' if is_current else 'CHANGED'}  {picture.parent.name}/{picture.name}{'' if is_current else REDRAW}"
    )
    return is_current


@command
def main() -> int:
    """Command line; a refusal is printed as one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, nargs="*", help="folders of committed records; default: all of them")
    folders = parser.parse_args().records or sorted(path.parent for path in COMMITTED.glob(f"*/{RECORDS}"))
    start = time.perf_counter()
    if not folders:
        raise RefusedError("There must be committed records to verify", str(COMMITTED), COLLECT)
    is_unchanged = all([verify(folder) for folder in folders])
    verdict = "Everything is as committed" if is_unchanged else "NOT as committed"
    print(f"\n{verdict}: {len(folders)} scale(s) recomputed in {time.perf_counter() - start:.0f} s.")
    if not is_unchanged:
        records = " ".join(str(folder) for folder in folders)
        print(f"If the change is intended, or a table is new: python -m paper.recompute --records {records}")
    return 0 if is_unchanged else 1


def _number(value: float | None) -> str:
    return NOTHING if value is None else decimal(value, 2)


if __name__ == "__main__":
    sys.exit(main())
