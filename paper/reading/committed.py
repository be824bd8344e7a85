"""A folder of committed records, ``paper/records/<scale>``: its files, and what they hold besides records."""

from __future__ import annotations

from pathlib import Path

from c2c.evaluation.protocol import CORRECTED

RECORDS, TIMES = "records.parquet", "latency.parquet"
"""File names of all answer records and all latency records of a scale, in a folder of committed records."""
COST = "training_cost.csv"
"""What training cost, in a folder of committed records where it was measured; Table 12 is made from it."""
CURVES = "curves.csv"
"""Training curves of the fusers (`paper.reading.curves`), in a folder of committed records where they were kept."""
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
