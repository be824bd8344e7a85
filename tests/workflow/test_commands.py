"""Each command that the workflow would run is one that `c2c` takes: every flag is known, every value is of its kind."""

from __future__ import annotations

import re
import shlex
from collections import Counter

import pytest

from c2c.cli.main import parse_command

COMMAND = re.compile(r"^(?:Shell command: )?\s*(?:[A-Z_]+=\S+ )*c2c (.*?)(?: >>?.*)?$", flags=re.MULTILINE)
EVERYWHERE = {"tokenise", "train", "generate", "score", "latency", "analyse"}


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_each_command_of_c2c_that_a_scale_plans_is_one_that_c2c_takes(run_snakemake, scale) -> None:
    config = [] if scale == "paper" else ["--configfile", f"config/{scale}.yaml"]
    planned = run_snakemake("--dry-run", "--printshellcmds", "--forceall", "--quiet", "progress", *config)
    assert planned.returncode == 0, planned.stdout
    taken: Counter[str] = Counter()
    for command in COMMAND.findall(planned.stdout):
        name, _ = parse_command(shlex.split(command))  # an unknown flag ends the program
        taken[name.split()[1]] += 1
    assert set(taken) >= EVERYWHERE
    assert taken["generate"] > taken["train"] >= 1
