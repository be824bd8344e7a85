"""Resources that jobs request of a cluster: ``config/resources.tsv`` in the form of Snakemake's profiles.

`C2C_RESOURCES` names another table of the same form, such as a site's own. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from c2c.errors import RefusedError
from workflow.paths import own_or_shipped
from workflow.plan.stages import STAGES
from workflow.validation import Row, Table, check_known, read_table

REQUESTS = Path("config/resources.tsv")
OWN_TABLE = "C2C_RESOURCES"
CONTAINER = "C2C_CONTAINER"
DEFAULT = "default"
"""The row of all rules that have none of their own, and of what another row leaves empty."""
GROWTH = 0.5
"""So much of the first attempt's memory or time is added at each further one."""
SLURM_NAMES = {"partition": "slurm_partition", "account": "slurm_account", "gpu_model": "gpu_model"}
SUBMITTED = ("build_world", *dict.fromkeys(stage.rule for stage in STAGES.values()))
"""Rules whose jobs are submitted to a cluster; all others are local."""


def read_requests(environment: Mapping[str, str] = os.environ) -> Table:
    """The rows of ``config/resources.tsv``, or of the table that `C2C_RESOURCES` names, by rule.

    Raises:
        RefusedError: The table does not exist, names a rule that does not exist, or has no row `default`.
    """
    table = read_table(Path(environment.get(OWN_TABLE) or own_or_shipped(str(REQUESTS))), schema="resources")
    for rule in table:
        choices, remedy = [DEFAULT, *SUBMITTED], "Correct the table; local rules ask for none"
        check_known("A rule that asks for resources", rule, choices, "a rule whose jobs are submitted", remedy)
    if DEFAULT not in table:
        raise RefusedError(
            "The table of resources must have a row for all other rules",
            f"no row {DEFAULT!r}",
            "Add one, with memory and time",
        )
    for column in ("cpus", "mem_mb", "runtime_min"):
        if table[DEFAULT][column] is None:
            raise RefusedError(f"The row {DEFAULT!r} must fill {column!r}", "an empty cell", "Fill the cell")
    return table


def own_container(environment: Mapping[str, str] = os.environ) -> str:
    """The image that jobs run in, which `C2C_CONTAINER` names; empty for none."""
    return environment.get(CONTAINER, "")


def grown(amount: int, attempt: int) -> int:
    """The amount that a job requests at its first, second, … attempt."""
    return int(amount * (1 + GROWTH * (attempt - 1)))


def set_threads(table: Table) -> dict[str, int]:
    """The profile's `set-threads`: the cores of a job of each rule that is submitted."""
    rows = {rule: table.get(rule, table[DEFAULT]) for rule in SUBMITTED}
    return {rule: int(row["cpus"] or table[DEFAULT]["cpus"]) for rule, row in rows.items()}


def set_resources(table: Table) -> dict[str, dict[str, str | int]]:
    """The profile's `set-resources`: what the jobs of each rule ask for, as expressions of Snakemake."""
    rows = {rule: _expressions(row) for rule, row in table.items() if rule != DEFAULT}
    return {rule: row for rule, row in rows.items() if row}


def default_resources(table: Table) -> dict[str, str | int]:
    """The profile's `default-resources`: what a rule without a row, or with an empty cell, asks for.

    Slurm is not asked for disk, and Snakemake's own default has the sizes of all inputs of every job looked up.
    """
    return {"disk_mb": 1000, **_expressions(table[DEFAULT])}


def _expressions(row: Row) -> dict[str, str | int]:
    """The filled cells of a row; names are quoted, or Snakemake would compute ``a100-80gb``."""
    grows = (row["grows"] or "").split()
    values = {
        "mem_mb": _growing(row["mem_mb"], "memory" in grows),
        "runtime": _growing(row["runtime_min"], "time" in grows),
        **{resource: row[column] and repr(row[column]) for column, resource in SLURM_NAMES.items()},
    }
    return {resource: value for resource, value in values.items() if value is not None}


def _growing(amount: int | None, grows: bool) -> str | int | None:
    """`grown` as an expression of Snakemake, which knows the attempt when it submits a job."""
    if amount is None or not grows:
        return amount
    return f"int({amount} * (1 + {GROWTH} * (attempt - 1)))"
