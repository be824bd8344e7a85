"""A folder of committed records, ``paper/records/<scale>``: its files, and what they hold besides records."""

from __future__ import annotations

from pathlib import Path

from c2c.evaluation.protocol import CORRECTED
from c2c.provenance import SUFFIX
from c2c.storage.manifests import read_object
from paper.command import REMEDY

RECORDS, TIMES = "records.parquet", "latency.parquet"
"""File names of all answer records and all latency records of a scale, in a folder of committed records."""
QUESTIONS = "questions.parquet"
"""Texts of the questions of a scale; in a folder of committed records, those that this repository generates."""
COST = "training_cost.csv"
"""What training cost, in a folder of committed records where it was measured; Table 12 is made from it."""
CURVES = "curves.csv"
"""Training curves of the fusers (`paper.reading.curves`), in a folder of committed records where they were kept."""
TESTBED_RECORDS, TESTBED_CURVES = "testbed/records.parquet", "testbed/curves.csv"
"""Records of the test bed's channels and the curves of their trainings, where the scale has a test bed."""
PROTOCOL = "protocol.txt"
"""Names the protocol of a folder of committed records, where it is not `corrected`."""
BASIS = "basis.txt"
"""Names the scale on whose list verdicts rest, in a folder of committed records, where it is not the records' own."""
VERDICTS = "claims.json"
"""The verdicts of a results folder; the command in their provenance names its protocol and basis."""
REMARKS = "remarks.txt"
"""Says, a line each, what a reader of the committed numbers must know and the records do not hold."""


def protocol_of(folder: Path) -> str:
    """By which the answers in a folder of committed records, or of results, were marked."""
    return _stated(folder, PROTOCOL, "--protocol") or CORRECTED


def basis_of(folder: Path) -> str:
    """The scale whose ``rests_on`` in ``claims.yaml`` the verdicts in a folder have; empty: the records' own."""
    return _stated(folder, BASIS, "--basis")


def remarks_of(folder: Path) -> list[str]:
    """What `REMARKS` of a folder of committed records says; nothing where there is no such file."""
    return (folder / REMARKS).read_text(encoding="utf-8").splitlines() if (folder / REMARKS).is_file() else []


def _stated(folder: Path, file: str, option: str) -> str:
    """What a folder of committed records has in a file, and a folder of results in the command of its verdicts."""
    if (folder / file).is_file():
        return (folder / file).read_text(encoding="utf-8").strip()
    stamp = folder / f"{VERDICTS}{SUFFIX}"
    command = read_object(stamp, REMEDY).get("command", []) if stamp.is_file() else []
    return str(command[command.index(option) + 1]) if option in command[:-1] else ""
