"""Commands of rules: each text that they are given is one word or several, whatever is in it, and wherever they run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import format as fill

from tests.checkout import REDUCED, copy_checkout, environment_of
from workflow.load import load_settings
from workflow.settings import flags

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
Run = Callable[..., str]
SNAKEMAKE = ("snakemake", "--cores", "2", "--configfile")
MINE: dict[str, Any] = {
    "scale": "mine",
    "baselines": ["receiver", "sharer"],
    "runs": [{"pair": "gap_a", "recipe": "c2c", "alignment": "span", "seeds": [0]}],
    "world": {"entities": 64, "pretraining": {"steps": 2, "batch_size": 8}},
    "training": {"steps": 2, "batch_size": 4, "checkpoint_every": 2, "evaluate_every": 1},
    "artefacts": {"tables": ["main", "gains"], "figures": ["gains", "accuracy", "training"], "paper": True},
}
FREE_TEXT = 'it\'s $(touch broken) `touch broken` ; touch broken "x" *'


def commands() -> dict[str, str]:
    """The command of each rule, by file and rule."""
    found = {}
    for path in [ROOT / "workflow" / "Snakefile", *RULES]:
        for indent, name, body in re.findall(r"^( *)rule (\w*):\n((?:\1 +.*\n|\n)+)", path.read_text(), re.MULTILINE):
            if "shell:" in body:
                lines = re.findall(r'^ *"(.*)"$', body.split("shell:")[1], re.MULTILINE)
                found[f"{path.name}: {name}"] = "".join(lines)
            assert indent is not None
    return found


def test_every_command_of_every_rule_is_looked_at() -> None:
    text = "".join(path.read_text() for path in [ROOT / "workflow" / "Snakefile", *RULES])
    assert len(commands()) == len(re.findall(r"^ +shell:$", text, re.MULTILINE)) > 25
    assert "run:" not in re.findall(r"^ +(\w+:)$", text, re.MULTILINE)


@pytest.mark.parametrize("rule", commands())
def test_every_value_in_a_command_is_quoted(rule: str) -> None:
    fields = re.findall(r"\{(.*?)\}", commands()[rule])
    assert fields and not [field for field in fields if not re.fullmatch(r"[a-z_.]+:q", field)]


def test_quoted_words_reach_a_command_as_they_are(tmp_path: Path) -> None:
    params = flags({"revision": FREE_TEXT, "steps": [1, 2], "subset": "*"})
    line = fill("printf '%s\\n' {params:q}", params=params)
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["--revision", FREE_TEXT, "--steps", "1,2", "--subset", "*"]
    assert not any(tmp_path.iterdir())


def test_every_planned_command_gets_its_values_back_as_words(config_of: Callable[[str], dict[str, Any]]) -> None:
    settings = load_settings(config_of("laptop"), ROOT)
    for words in (settings.data.sources("choice_mix"), flags(settings.data.preparation("mmlu_redux"))):
        assert shlex.split(fill("{words:q}", words=words)) == words


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in a folder whose name a careless command would cut or execute."""
    return copy_checkout(tmp_path_factory.mktemp("my runs") / "it's here")


@pytest.fixture(scope="module")
def run(checkout: Path) -> Iterator[Run]:
    """Runs ``python -m <arguments>`` in the copy; what it says comes back."""

    def call(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=checkout, env=environment_of(checkout) | variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    yield call
    assert not list(checkout.rglob("broken"))


@pytest.fixture(scope="module")
def configs(checkout: Path) -> list[str]:
    """A few steps of the reduced scale, by a config whose path has a blank, a quote and a command."""
    own = checkout / "config" / "my 'own' $(touch broken)" / "mine.yaml"
    own.parent.mkdir()
    own.write_text(yaml.safe_dump(MINE))
    return [*REDUCED, str(own.relative_to(checkout))]


def test_a_run_in_a_folder_with_a_blank_and_a_quote_plans_every_command_with_its_paths_whole(
    run: Run, configs: list[str]
) -> None:
    planned = run(*SNAKEMAKE, *configs, "--dry-run", "--printshellcmds", "--forceall", "--", "all", "crate")
    commands = re.findall(r"^(?:Shell command: )?\s*((?:c2c|python -m) .*)$", planned, re.MULTILINE)
    lines = [shlex.split(line) for line in commands]
    assert len(lines) > 15
    told = [words[words.index("--configfile") + 1 :][: len(configs)] for words in lines if "--configfile" in words]
    assert told == [configs, configs], "the report and the crate"


@pytest.fixture(scope="module")
def finished(run: Run, checkout: Path, configs: list[str]) -> Path:
    """Results of a whole run there, with its crate."""
    run(*SNAKEMAKE, *configs, "--", "all", "crate")
    return checkout / "results" / "mine"


@pytest.mark.slow
def test_a_run_in_a_folder_with_a_blank_and_a_quote_is_finished(finished: Path, run: Run, configs: list[str]) -> None:
    assert all((finished / name).is_file() for name in ("report.html", "crate.zip", "paper/paper.pdf"))
    assert "Nothing to be done" in run(*SNAKEMAKE, *configs, "--", "all", "crate")
    assert not list(finished.glob(".snakemake/holders/*")), "who ran it has left"


@pytest.mark.slow
def test_a_model_is_fetched_in_that_folder_from_a_mirror_beside_it(finished: Path, run: Run, checkout: Path) -> None:
    mirror = checkout / "my mirror's"
    shutil.copytree(finished / "models/gap_receiver_a", mirror / "HuggingFaceTB/SmolLM2-135M-Instruct")
    manifest = "results/trial/models/smollm2_135m.json"
    said = run(*SNAKEMAKE, "config/config.yaml", "config/trial.yaml", "--", manifest, C2C_HUB_MIRROR=str(mirror))
    assert json.loads((checkout / manifest).read_text())["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert len(re.findall(r"\d+ of \d+ inputs are not pinned", said)) == 1, "said once, at the start"


@pytest.mark.slow
def test_each_file_of_each_artefact_that_is_missing_is_made_again(finished: Path, run: Run, configs: list[str]) -> None:
    rounds = [
        {"tables/main.md": "tabulate", "figures/gains.pdf": "draw", "claims.json": "judge_claims"},
        {"tables/main.tex": "tabulate", "figures/gains.png": "draw", "claims_time.json": "judge_claims"},
        {"tables/main.csv": "tabulate", "paper/paper.pdf": "build_paper", "scores.csv": "score_records"},
        {"tables/gains.md.provenance.json": "tabulate", "claims.json.provenance.json": "judge_claims"},
    ]
    for cases in rounds:
        for name in cases:
            (finished / name).rename(finished / f"{name}.away")
        planned = run(*SNAKEMAKE, *configs, "--dry-run", "--quiet", "rules")
        for name, rule in cases.items():
            (finished / f"{name}.away").rename(finished / name)
            assert re.search(rf"^{rule} +[1-9]", planned, re.MULTILINE), f"{name}: {planned}"
    assert "Nothing to be done" in run(*SNAKEMAKE, *configs, "--dry-run")


@pytest.mark.slow
def test_a_forced_rule_that_is_killed_leaves_work_to_do(finished: Path, run: Run, configs: list[str]) -> None:
    # Snakemake removes the outputs of what it is forced to make before it starts.
    for path in (finished / "tables").glob("*.*"):
        path.unlink()
    planned = run(*SNAKEMAKE, *configs, "--dry-run", "--quiet", "rules")
    assert re.search(rf"^tabulate +{len(MINE['artefacts']['tables'])}$", planned, re.MULTILINE), planned
