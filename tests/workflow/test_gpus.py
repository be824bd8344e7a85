"""The profile for one machine with GPUs: each job sees its own GPUs alone, and gives them back however it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import REDUCED, copy_checkout, environment_of
from workflow.gpus import share

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "workflow/rules"
RULE = re.compile(r"^( *)rule (\w+):\n((?:\1    .*\n|\n)+)", re.MULTILINE)


def commands(body: str) -> list[str]:
    """Commands in the shell line of a rule: c2c with its subcommand, or python with its module."""
    c2c = re.findall(r'"(?:\w+=\w+ )?(c2c [a-z-]+(?: [a-z-]+\b)?)', body)
    return c2c + re.findall(r'"(?:\w+=\w+ )?(python -m [a-z_.]+)', body)


def test_commands_take_as_many_gpus_as_their_rules_declare() -> None:
    declared: dict[str, int] = {}
    for path in sorted(RULES.glob("*.smk")):
        for _, _, body in RULE.findall(path.read_text(encoding="utf-8")):
            gpus = re.findall(r"gpu=(.*),", body)
            per_job = {(): 0, ('config["gpus_per_job"]',): 4, ('config["gpus_per_job"] and 1',): 1}[tuple(gpus)]
            declared |= dict.fromkeys(commands(body), per_job)
    assert {command: share.number(command.split(), 4) for command in declared} == declared
    assert sum(count > 0 for count in declared.values()) >= len(share.ON_GPUS)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of jobs on a machine with two GPUs, whose c2c writes what it sees and waits for a file."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/c2c"
    program.write_text(
        '#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES" > "$SEEN/$2"\nwhile [ -e "$SEEN/hold" ]; do sleep 0.05; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name in (share.PER_JOB, share.DEVICES, share.PYTHON):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SEEN", str(tmp_path))
    share.start(1, ["0", "1"])
    return dict(os.environ)


def wait_for(path: Path) -> str:
    for _ in range(600):
        if path.is_file() and (text := path.read_text()):
            return text.strip()
        time.sleep(0.05)
    raise TimeoutError(path)


def test_jobs_at_the_same_time_see_different_gpus_and_a_third_waits_until_one_is_killed(
    machine: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    first, second = (subprocess.Popen(["c2c", "generate", name], env=machine) for name in ("first", "second"))
    assert {wait_for(tmp_path / "first"), wait_for(tmp_path / "second")} == {"0", "1"}
    third = subprocess.Popen(["c2c", "generate", "third"], env=machine)
    time.sleep(1)
    assert not (tmp_path / "third").exists()
    first.kill()
    first.wait()
    assert wait_for(tmp_path / "third") == (tmp_path / "first").read_text().strip()
    (tmp_path / "hold").unlink()
    assert (second.wait(30), third.wait(30)) == (0, 0)


def test_a_command_that_needs_no_gpu_sees_none_and_does_not_wait(machine: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(["c2c", "score", "scores"], env=machine, check=True, timeout=60)
    assert (tmp_path / "scores").read_text() == "\n"


def test_a_job_that_needs_more_gpus_than_there_are_is_refused(machine: dict[str, str]) -> None:
    job = ["c2c", "generate", "x"]
    done = subprocess.run(
        job, env=machine | {share.PER_JOB: "3"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0 and "must not need more GPUs than there are; received 3 of 2" in done.stderr


def test_the_environment_limits_the_gpus_and_a_machine_without_a_driver_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert share.devices({share.VISIBLE: "2, 5"}) == ["2", "5"]
    assert share.devices({share.VISIBLE: ""}) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert share.devices({}) == []
    (tmp_path / "nvidia-smi").write_text(f"#!{sys.executable}\nprint('0\\n1')\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert share.devices({}) == ["0", "1"]


@pytest.mark.parametrize("target", [(), ("released",)])
def test_a_dry_run_of_the_profile_plans_the_released_fusers_and_all_stages(
    target: tuple[str, ...], run_snakemake: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    dry = ["--profile", "gpu", *target, "--dry-run", "--nolock", "--forceall", "--quiet", "rules"]
    done = run_snakemake(*dry, CUDA_VISIBLE_DEVICES="0,1,2")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^fetch_fuser +[1-9]", done.stdout, re.MULTILINE), done.stdout
    assert bool(re.search(r"^train_fuser +[1-9]", done.stdout, re.MULTILINE)) == (not target)


def test_another_scale_is_chosen_by_config(run_snakemake: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    scale = [
        "--configfile",
        "config/config.yaml",
        "config/smoke.yaml",
        "--config",
        "gpus_per_job=1",
        "--prioritize",
        "all",
    ]
    dry = ["--profile", "gpu", "--dry-run", "--nolock", "--forceall", "--quiet", "rules"]
    done = run_snakemake(*dry, *scale, CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == 0 and re.search(r"pretrain_model +[1-9]", done.stdout), done.stdout


def test_a_run_whose_jobs_need_more_gpus_than_there_are_is_refused_before_any_job(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    environment = environment_of(checkout) | {share.VISIBLE: "0"}
    scale = ["--configfile", *REDUCED, "--config", "gpus_per_job=2", "--prioritize", "all"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "gpu", *scale],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (
        done.returncode != 0
        and "gpus_per_job must not exceed the GPUs of this machine; received '2 of 1'" in done.stderr
    )
    assert not (checkout / "results/smoke_reduced/world").exists()
