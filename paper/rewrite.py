"""Everything that follows from committed records, written anew beside them after a change of how it is written.

    python -m paper.rewrite paper/records/smoke

`git diff` then shows what the change did; `python -m paper.verify` holds what is committed against the records.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from c2c.errors import RefusedError
from c2c.evaluation.schema import LATENCY_SCHEMA, read_records
from paper.recompute import RECORDS, TIMES, protocol_of, recompute, remarks_of


def rewrite(folder: Path) -> list[str]:
    """`recompute` into the folder that holds the records; returns the names of the files.

    Raises:
        RefusedError: The folder has no records.
    """
    if not (folder / RECORDS).is_file():
        raise RefusedError("A folder of committed records holds its records", str(folder), f"Name one with {RECORDS}")
    times = read_records([folder / TIMES], LATENCY_SCHEMA) if (folder / TIMES).is_file() else None
    return recompute(read_records([folder / RECORDS]), times, folder, protocol_of(folder), remarks_of(folder))


def main() -> int:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of committed records")
    try:
        for folder in parser.parse_args().folders:
            rewrite(folder)
    except RefusedError as refusal:
        print(f"paper.rewrite: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
