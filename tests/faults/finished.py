"""A finished run in which nothing was killed, taken from elsewhere: whether it may serve, and how long it took."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd

from c2c.errors import RefusedError
from c2c.provenance import SUFFIX

MAKES_RESULTS = ("Snakefile", "benchmarks", "c2c", "config", "paper", "workflow", ":!paper/records")
"""What the files of a run hang on."""


def check_made_by(checkout: Path, results: Path) -> None:
    """Refuse results that other code or config made than that of a checkout.

    Raises:
        RefusedError: A provenance file names no commit, uncommitted changes, or a commit with other code or config.
    """
    stamps = [json.loads(path.read_text(encoding="utf-8"))["code"] for path in results.rglob(f"*{SUFFIX}")]
    made_by = {(code["commit"], code["dirty"]) for code in stamps}
    others = [each for each in made_by if each[0] is None or each[1] or _differs(checkout, each[0])]
    if others or not made_by:
        rule = "The run without a fault is of the same code and config"
        received = f"{results}, made by commit (uncommitted changes): {others or 'nothing that is stamped'}"
        raise RefusedError(rule, received, "Leave --whole out, and it is made")


def _differs(checkout: Path, commit: str) -> bool:
    """Whether what makes results was changed since a commit, or the commit is not known there."""
    command = ["git", "diff", "--quiet", commit, "--", *MAKES_RESULTS]
    return subprocess.run(command, cwd=checkout, stderr=subprocess.DEVNULL, check=False).returncode != 0


def seconds_of_jobs(results: Path) -> float:
    """Processor time of all jobs of a finished run, as Snakemake noted it."""
    noted = [pd.read_csv(path, sep="\t")["cpu_time"].sum() for path in (results / "benchmarks").rglob("*.tsv")]
    return float(sum(noted))
