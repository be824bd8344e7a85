from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.checkout import REDUCED, copy_checkout, environment_of

APPTAINER = """#!/bin/bash
if [ "$1" = --version ]; then echo "apptainer version 1.3.0"; exit; fi
echo "$@" > "$CALLS"
while [ "$1" != "$C2C_CONTAINER" ]; do shift; done
shift
exec "$@"
"""
"""Takes what Snakemake gives it as apptainer does, and runs the command without a container."""


def test_jobs_run_in_the_container_that_the_user_names(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (tmp_path / "bin").mkdir()
    for name in ("apptainer", "singularity"):
        (tmp_path / "bin" / name).write_text(APPTAINER)
        (tmp_path / "bin" / name).chmod(0o755)
    image, calls = tmp_path / "c2c.sif", tmp_path / "calls"
    image.touch()
    environment = environment_of(checkout)
    path = os.pathsep.join([str(tmp_path / "bin"), environment["PATH"]])
    environment |= {"PATH": path, "C2C_CONTAINER": str(image), "CALLS": str(calls)}
    command = ["snakemake", "--profile", "smoke", "--software-deployment-method", "apptainer", "--apptainer-args=--nv"]
    made = "results/smoke_reduced/world/world.json"
    done = subprocess.run(
        [*command, "--configfile", *REDUCED, "--", made],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (checkout / made).is_file()
    told = calls.read_text()
    assert told.startswith("exec ") and "--nv" in told.split(str(image))[0]
    assert "python -m benchmarks.world.make" in told.split(str(image))[1]
