"""The gate of the test bed: two checks of the instrument, without which no number of a run counts.

    python -m paper.communication.gate --testbed results/laptop/testbed/records/*/*/seed*.parquet --output gate.json

The checks are those of `c2c.testbed.card.gate`. If one fails, the command says why and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from c2c.storage.files import write_atomically
from c2c.testbed.card.gate import check_gate
from paper.command import command
from paper.reading.messages import load_records
from paper.writing.output import stamped


@command
def main() -> int:
    """Command line; exit code 1 where the run is void."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--testbed", type=Path, nargs="+", required=True, help="parquet files of the test bed")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file of all checks")
    arguments = parser.parse_args()
    with stamped([arguments.output], arguments.testbed):
        records = load_records(arguments.testbed)
        checks = check_gate(records, records.settings.margin)
        entries: list[Mapping[str, object]] = [asdict(check) | {"reason": check.reason} for check in checks]
        write_atomically(arguments.output, json.dumps(entries, indent=1) + "\n")
    faults = [check.reason for check in checks if check.reason]
    for fault in faults:
        print(f"void: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
