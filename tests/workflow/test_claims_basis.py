"""What verdicts rest on is held against what the config of each scale trains and makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from paper import claims
from paper.artefacts import claim_files
from paper.reading import names
from paper.reading.basis import Basis, Training
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_what_claims_rest_on_is_what_the_config_of_the_scale_trains(scale: str, config_of: Any) -> None:
    settings, basis = load_settings(config_of(scale), ROOT), Basis.load(claims.PATH, scale)
    needed = {arm.partition("@")[0] for claim in claims.read_claims() for arm in _arms(claim)}
    ran: dict[Training, list[int]] = {}
    for run in settings.main_runs:
        tasks = settings.tasks(run.pair)
        if run.recipe in needed and not any(task.startswith("gap_") for task in tasks):
            ran.setdefault(Training(run.pair, run.recipe, run.alignment), []).append(run.seed)
            assert set(basis.benchmarks[run.pair]) == set(tasks)
    assert basis.seeds == ran
    timed = [pair for pair in settings.timed_pairs if pair in basis.benchmarks]
    benchmark = settings.config["latency"]["benchmarks"][0]
    assert {pair: task for pair, task in basis.timed.items() if task} == dict.fromkeys(timed, benchmark)
    assert not [pair for pair in basis.benchmarks if names.has_own_tables(pair)]


def _arms(claim: dict[str, Any]) -> list[str]:
    evidence = claim.get("evidence", {})
    arms = [evidence[side] for side in ("of", "against") if side in evidence]
    return [name for arm in arms for name in (arm if isinstance(arm, list) else [arm])]


def test_claims_are_judged_after_the_tables_that_they_read(run_snakemake: Any) -> None:
    plan = ("--dry-run", "--nolock", "--forceall", "--printshellcmds", "--", "results/smoke/claims.json")
    done = run_snakemake("--profile", "smoke", *plan)
    assert done.returncode == 0, done.stdout
    (command,) = re.findall(r"python -m paper\.claims .*", done.stdout)
    # The smoke scale has no ladder of facts.
    read = {f"results/smoke/{file}" for file in {*claim_files()} - {"tables/testbed_facts.csv"}}
    assert read <= set(command.partition("--tables ")[2].split())
