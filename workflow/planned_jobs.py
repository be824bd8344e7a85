"""The jobs of the paper's scale by rule, as `snakemake --profile slurm --dry-run` counts them, in the README.

    python -m workflow.planned_jobs

writes them between the two marks there; a test fails while they are others.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from c2c.errors import RefusedError, exit_code
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_text

README = Path("README.md")
COMMAND = ["snakemake", "--profile", "slurm", "--dry-run", "--forceall", "--nolock", "--quiet", "rules"]
BEGIN, END = "<!-- planned jobs: python -m workflow.planned_jobs -->", "<!-- end of planned jobs -->"


def count() -> dict[str, int]:
    """Jobs by rule, most first; the last entry is their total.

    Raises:
        RefusedError: The dry run failed.
    """
    done = subprocess.run([sys.executable, "-m", *COMMAND], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError("A dry run of the paper's scale must succeed", done.stderr[-2000:], "Correct the workflow")
    told = done.stdout + done.stderr
    found = {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", told, flags=re.MULTILINE)}
    total = found.pop("total")
    return {**dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))), "total": total}


def table(jobs: dict[str, int]) -> str:
    """The counts as they stand in the README: one line for each number of jobs."""
    by_number: dict[int, list[str]] = {}
    for rule, number in jobs.items():
        if rule != "total":
            by_number.setdefault(number, []).append(f"`{rule}`")
    rows = [f"| {number} | {', '.join(rules)} |" for number, rules in by_number.items()]
    return "\n".join(["| jobs each | rules |", "| --- | --- |", *rows, f"| {jobs['total']} | all |"])


def put(text: str, jobs: dict[str, int]) -> str:
    """A text with the counts between its marks.

    Raises:
        RefusedError: It has none.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        rule = "The README must have a place for the planned jobs"
        raise RefusedError(rule, "none", f"Write {BEGIN} and {END} into it")
    return f"{before}{begin}\n\n{table(jobs)}\n\n{end}{after}"


def main() -> int:
    """Command line; a refusal ends with exit code 2."""
    return exit_code("workflow.planned_jobs", _write)


def _write() -> None:
    write_atomically(README, put(read_text(README, "Run this from the repository's root"), count()))


if __name__ == "__main__":
    sys.exit(main())
