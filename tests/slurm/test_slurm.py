"""The reduced smoke scale on a real Slurm, by `snakemake --profile slurm`, disturbed; held against a run at home."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkout import REDUCED, compare, copy_checkout, environment_of
from tests.slurm.single_node import GPUS, SingleNode, missing, single_node

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.skipif(bool(why := missing()), reason=why)]

RESULTS = "results/smoke_reduced"
CHECKPOINT_EVERY = 20
"""As config/smoke_reduced.yaml has it."""
LIMIT = 900
"""Seconds after which a run on the cluster is taken for stuck."""
CLUSTER = [
    "snakemake", "--profile", "slurm", "--configfile", *REDUCED, "--slurm-logdir", f"{RESULTS}/logs/slurm",
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2",
    "--seconds-between-status-checks", "2",
]  # fmt: skip


@dataclass
class Runs:
    """What both runs left, and what was seen of the one on the cluster."""

    checkout: Path
    at_home: Path
    on_cluster: Path
    output: str
    jobs: dict[str, dict[str, str]]
    requeued: str
    preempted: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    checkout = copy_checkout(tmp_path_factory.mktemp("checkout"))
    local = ["snakemake", "--profile", "smoke", "--configfile", *REDUCED]
    done = subprocess.run(
        local, cwd=checkout, env=environment_of(checkout), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    at_home = checkout / "at_home"
    (checkout / RESULTS).rename(at_home)
    shutil.rmtree(checkout / ".snakemake")
    with single_node() as node:
        yield disturbed_run(node, checkout, at_home)


def disturbed_run(node: SingleNode, checkout: Path, at_home: Path) -> Runs:
    """Run the workflow on the cluster; requeue one training in its midst, then have one preempted by a partition."""
    resources = {"C2C_RESOURCES": str(checkout / "tests/slurm/resources.tsv")}
    log = checkout / "cluster.log"
    environment = {**node.environment, **environment_of(checkout), **resources}
    with log.open("w") as file:
        run = subprocess.Popen(CLUSTER, cwd=checkout, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        requeued = wait_for_training(node, checkout, run)
        node.ask("scontrol", "requeue", requeued)
        preempted = wait_for_training(node, checkout, run, other_than=requeued)
        node.ask(
            "sbatch", "--partition=urgent", f"--gpus={GPUS}", "--mem=100", "--output=/dev/null", "--wrap", "sleep 1"
        )
        run.wait(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    output = log.read_text() + (node.logs() if run.returncode else "")
    assert run.returncode == 0, output
    # The job that preempts is none of the workflow's: it has no comment of Snakemake's.
    jobs = {comment: node.about(job) for job, comment in node.jobs().items() if comment.startswith("rule_")}
    return Runs(checkout, at_home, checkout / RESULTS, output, jobs, requeued, preempted)


def wait_for_training(node: SingleNode, checkout: Path, run: subprocess.Popen[bytes], other_than: str = "") -> str:
    """The number of a training job that runs and has written its first checkpoint."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and run.poll() is None:
        training = {job: comment for job, comment in node.jobs("running").items() if "train_fuser" in comment}
        for job, comment in training.items():
            if job != other_than and max(steps_of(checkout / RESULTS, comment), default=0) > CHECKPOINT_EVERY:
                return job
        time.sleep(0.3)
    raise TimeoutError(f"no training was met in its midst: {node.jobs()}\n{(checkout / 'cluster.log').read_text()}")


def steps_of(results: Path, comment: str) -> list[int]:
    """The steps that the log of a training job tells of since its last start."""
    recipe = "adapter" if "adapter" in comment else "c2c"
    log = results / f"logs/train_fuser/gap_a/{recipe}/span/seed0.log"
    text = log.read_text() if log.is_file() else ""
    return [int(step) for step in re.findall(r"step (\d+) of", text.rpartition("Loading weights: 100%")[2])]


def test_a_run_with_a_requeued_and_a_preempted_training_gives_the_bytes_of_a_run_at_home(runs: Runs) -> None:
    done = compare(runs.checkout, runs.at_home, runs.on_cluster)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" same")[0].split()[-1]) > 20, done.stdout


def test_both_trainings_were_cut_off_in_their_midst_and_went_on_from_a_checkpoint(runs: Runs) -> None:
    cut_off = {comment: job for comment, job in runs.jobs.items() if int(job["Restarts"])}
    assert {job["JobId"] for job in cut_off.values()} == {runs.requeued, runs.preempted}
    for comment in cut_off:
        assert min(steps_of(runs.on_cluster, comment)) > CHECKPOINT_EVERY, comment


def test_jobs_get_what_the_table_says(runs: Runs) -> None:
    (training, *_) = (job for comment, job in runs.jobs.items() if "train_fuser" in comment)
    assert training["Partition"] == "gpu"
    assert training["TimeLimit"] == "00:15:00"
    assert training["MinMemoryNode"] == "1700M"
    assert training["CPUs/Task"] == "1" and training["NumTasks"] == "1"
    assert training["TresPerJob"] == "gres:gpu:1"
    (world,) = (job for comment, job in runs.jobs.items() if "build_world" in comment)
    assert world["Partition"] == "cpu" and "TresPerJob" not in world


def test_small_cpu_jobs_share_a_job_and_local_rules_are_not_submitted(runs: Runs) -> None:
    names = [comment.split("_wildcards_")[0].removeprefix("rule_") for comment in runs.jobs]
    assert sum(name.startswith("tokenising") for name in names) == 1, "both sets are one job, named after their group"
    assert "train_fuser" in names and "tokenise_training_set" not in names
    assert not any(name.startswith(("tabulate", "draw", "score", "judge", "write")) for name in names)


def test_logs_of_the_cluster_lie_among_the_results(runs: Runs) -> None:
    kept = list((runs.on_cluster / "logs" / "slurm").rglob("*.log"))
    assert {path.stem for path in kept} >= {job["JobId"] for job in runs.jobs.values()}
