from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paper.artefacts import RELEASED, Artefact, by_target, of_testbed, read_artefacts

ROOT = Path(__file__).resolve().parents[2]
Runner = Callable[..., "subprocess.CompletedProcess[str]"]

SCALES = {
    "smoke": ["--profile", "smoke"],
    "laptop": ["--profile", "laptop"],
    "slurm": ["--profile", "slurm"],
    "trial": ["--cores", "1", "--configfile", "config/trial.yaml"],
}


@pytest.mark.parametrize("name", ["smoke", "laptop", "slurm", "gpu"])
def test_each_profile_is_found_from_the_root(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert [path.name for path in link.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("scale", SCALES)
def test_a_dry_run_of_every_scale_plans_all_stages(scale: str, run_snakemake: Runner) -> None:
    done = run_snakemake(*SCALES[scale], "--dry-run", "--nolock", "--forceall", "--quiet", "rules")
    assert done.returncode == 0, done.stdout
    for rule in (
        "tokenise_training_set",
        "train_fuser",
        "answer_questions",
        "score_records",
        "measure_latency",
    ):
        assert re.search(rf"{rule} +[1-9]", done.stdout), done.stdout
    assert re.search(r"write_report +1", done.stdout)


FEW = {"tables": ["main", "gains"], "figures": ["gains"], "paper": False}


def test_identical_is_trained_and_asked_with_the_receiver_as_the_sharer(tmp_path: Path, run_snakemake: Runner) -> None:
    config = tmp_path / "identical.yaml"
    runs = [{"pair": "gap_a", "recipe": recipe, "alignment": "span", "seeds": [0]} for recipe in ("c2c", "identical")]
    config.write_text(
        yaml.safe_dump(
            {"runs": runs, "groups": [], "latent": [], "single": [], "agents": [], "analysis": None, "artefacts": FEW}
        )
    )
    planned = ["--cores", "1", "--configfile", "config/smoke.yaml", str(config), "--dry-run", "--nolock", "--forceall"]
    done = run_snakemake(*planned, "--printshellcmds", "results/smoke/records/gap_a/identical/span/seed0.parquet")
    assert done.returncode == 0, done.stdout
    itself = "--receiver results/smoke/models/gap_receiver_a.json --sharer results/smoke/models/gap_receiver_a.json"
    commands = re.findall(r"c2c (\w+) .*" + itself, done.stdout)
    assert sorted(commands) == ["generate", "tokenise", "tokenise", "train"]
    assert "data/tokenised/gap_a.receiver/span/256/train.parquet" in done.stdout
    assert "gap_sharer" not in done.stdout


def test_the_smoke_scale_trains_every_fuser_of_its_config_and_fetches_nothing(run_snakemake: Runner) -> None:
    config = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    fusers = sum(len(run["seeds"]) for run in config["runs"])
    done = run_snakemake(*SCALES["smoke"], "--dry-run", "--nolock", "--forceall", "--quiet", "rules")
    assert re.search(rf"train_fuser +{fusers}\n", done.stdout), done.stdout
    assert "fetch_model" not in done.stdout and "prepare_" not in done.stdout


def can_be_made(artefact: Artefact, config: dict[str, Any]) -> bool:
    analysed = not artefact.analysis or bool((config["analysis"] or {}).get(artefact.analysis))
    published = RELEASED not in artefact.reads.values() or bool(config.get("released"))
    has_bed = not of_testbed(artefact) or bool(config.get("testbed"))
    return analysed and published and has_bed and bool(config["latency"] or not artefact.timed)


@pytest.mark.parametrize("scale", SCALES)
def test_each_artefact_is_a_target_by_its_name_and_its_place_in_the_paper(
    scale: str, run_snakemake: Runner, config_of: Callable[[str], dict[str, Any]]
) -> None:
    config = config_of("paper" if scale == "slurm" else scale)
    made = [each for each in read_artefacts() if can_be_made(each, config)]
    targets = list(by_target(made))
    planned = run_snakemake(*SCALES[scale], "--dry-run", "--nolock", "--forceall", "--quiet", "rules", "--", *targets)
    assert planned.returncode == 0, planned.stdout
    for rule, kind in (("tabulate", "table"), ("draw", "figure")):
        assert re.search(rf"{rule} +{sum(each.kind == kind for each in made)}\n", planned.stdout), planned.stdout


def test_a_target_plans_only_what_its_artefact_needs(run_snakemake: Runner) -> None:
    done = run_snakemake(*SCALES["smoke"], "--dry-run", "--nolock", "--forceall", "--quiet", "rules", "--", "table3")
    assert re.search(r"measure_latency +[1-9]", done.stdout) and re.search(r"tabulate +1\n", done.stdout), done.stdout
    assert not re.search(r"^(answer_|score_|judge_|draw)", done.stdout, flags=re.MULTILINE), done.stdout


def test_lint_finds_nothing(run_snakemake: Runner) -> None:
    done = run_snakemake("--lint")
    assert done.returncode == 0, done.stdout


def test_the_workflow_is_formatted() -> None:
    command = [sys.executable, "-m", "snakefmt.snakefmt", "--check", "Snakefile", "workflow"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BAD_CONFIGS = {
    "an unknown key": ("training: {lerning_rate: 1.0e-3}\n", "Did you mean 'learning_rate'?"),
    "a key twice": (
        "scale: bad\nsample: 50\nsample: 60\n",
        "Each key in bad.yaml must be there once; received \"a second 'sample' in line 3\"",
    ),
    "the name of another scale": (
        "scale: paper\n",
        "A config with scale: paper must have in runs only names that config/config.yaml has there",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config_stops_before_any_planning_with_one_refusal_and_no_traceback(
    case: str, tmp_path: Path, run_snakemake: Runner
) -> None:
    content, message = BAD_CONFIGS[case]
    bad = tmp_path / "bad.yaml"
    bad.write_text(content)
    done = run_snakemake("--cores", "1", "--configfile", "config/smoke.yaml", str(bad))
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    assert "Building DAG" not in done.stdout


def test_a_mirror_that_is_not_there_stops_a_dry_run(run_snakemake: Runner) -> None:
    done = run_snakemake(*SCALES["trial"], "--dry-run", "--nolock", C2C_HUB_MIRROR="/nonexistent")
    assert done.returncode != 0
    assert "Each folder of C2C_HUB_MIRROR must exist; received '/nonexistent'" in done.stdout
    assert "Building DAG" not in done.stdout


def rules() -> dict[str, str]:
    """Text of each rule that runs a command, by name."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    found = dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text, flags=re.MULTILINE))
    return {name: body for name, body in found.items() if "shell:" in body}


@pytest.mark.parametrize("name", rules())
def test_every_rule_has_a_log_a_benchmark_a_message_and_one_command(name: str) -> None:
    body = rules()[name]
    for directive in ("log:", "benchmark:", "message:", "conda:", "output:"):
        assert directive in body, f"{name} lacks {directive}"
    command = body.split("shell:")[1]
    assert len(re.findall(r"\bc2c \w|\bpython -m ", command)) == 1
    assert "&&" not in command and ";" not in command


@pytest.mark.parametrize("name", ["train_fuser", "answer_questions", "measure_latency"])
def test_gpu_rules_name_their_tasks_for_slurm(name: str) -> None:
    assert "tasks=1" in rules()[name] and "gpu=" in rules()[name]


def test_checkpoints_are_no_declared_output() -> None:
    outputs = rules()["train_fuser"].split("output:")[1].split("log:")[0]
    assert "checkpoint" not in outputs


def test_every_key_and_column_is_explained() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
    tables = yaml.safe_load((ROOT / "workflow" / "schemas" / "tables.schema.yaml").read_text())
    tables.pop("$defs")
    columns = {column for table in tables.values() for column in table["properties"]}
    missing = [name for name in sorted(keys_of(schema) | columns) if f"`{name}`" not in text]
    assert not missing


def keys_of(schema: dict[str, Any]) -> set[str]:
    found = set(schema.get("properties", {}))
    for below in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
        if isinstance(below, dict):
            found |= keys_of(below)
    return found


def test_the_lock_pins_every_dependency_and_every_pin_fits_its_range() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lock = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lock)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra if project["name"] not in each),
    ]
    for requirement in map(Requirement, ranges):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert pins["torch"] == "2.13.0"


def test_the_lock_pins_what_the_dependencies_depend_on_in_their_turn() -> None:
    import importlib.metadata
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lock = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lock)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # An extra may bring others of this package, whose lines are there anyway.
    extras = [
        each for extra in project["optional-dependencies"].values() for each in extra if project["name"] not in each
    ]
    waiting = [Requirement(each) for each in (*project["dependencies"], *extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not pinned"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement}, not {pins[name]}"
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needed = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    assert len({name for name, _ in seen}) > len(project["dependencies"]) + len(extras)


def test_published_fusers_are_asked_without_any_training(run_snakemake: Runner) -> None:
    done = run_snakemake("--profile", "slurm", "--dry-run", "--nolock", "--forceall", "released")
    assert done.returncode == 0, done.stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, flags=re.MULTILINE))
    fusers = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["released"]
    assert int(jobs["fetch_fuser"]) == len(fusers)
    planned = re.findall(r"Answering with the released Fusers (\w+): ", done.stdout)
    assert sorted(planned) == sorted(fusers)
    assert not [rule for rule in jobs if rule.startswith(("train", "tokenise", "prepare_training"))]
    assert "--fuser nics-efc/C2C_Fuser --subfolder qwen3_0.6b+qwen2.5_0.5b_Fuser" in done.stdout
