"""The workflow as a module: from an empty folder, by three lines and an own config."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

SNAKEFILE = f"""configfile: "tiny.yaml"
module c2c:
    snakefile: {str(ROOT / "workflow" / "Snakefile")!r}
    config: config
use rule * from c2c
"""

SMOKE: dict[str, Any] = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
TINY: dict[str, Any] = {
    **{key: SMOKE[key] for key in ("gpus_per_job", "dtype", "released", "fuser", "generation")},
    "scale": "tiny",
    "world": SMOKE["world"]
    | {
        "entities": 64,
        "pretraining": SMOKE["world"]["pretraining"] | {"steps": 2, "batch_size": 8},
        "models": {
            "gap_sharer": {"architecture": "qwen3", "tokenizer": "word", "knows": "all"},
            "gap_receiver_a": {"architecture": "qwen3", "tokenizer": "word", "knows": "quarter"},
        },
    },
    "benchmarks": ["knowledge_gap_free"],
    "baselines": ["receiver", "sharer"],
    "runs": [{"pair": "gap_a", "recipe": "c2c", "alignment": "span", "seeds": [0]}],
    **{kind: [] for kind in ("agents", "single", "groups", "latent")},
    "training": {"steps": 2, "batch_size": 4, "micro_batch_size": 0, "checkpoint_every": 2, "evaluate_every": 1},
    "latency": None,
    "analysis": None,
    "artefacts": {"tables": ["gates"], "figures": [], "paper": False},
}


def snakemake(folder: Path, *arguments: str) -> str:
    """Output of snakemake in a folder, started without any path to the repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and name[:4] != "C2C_"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments], cwd=folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def test_three_lines_and_a_config_plan_a_whole_run_in_an_empty_folder(folder: Path) -> None:
    planned = snakemake(folder, "--dry-run")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", planned, flags=re.MULTILINE))
    expected = {
        "pretrain_model": "2",
        "train_fuser": "1",
        "answer_questions": "2",
        "tabulate": "1",
        "write_report": "1",
    }
    assert {rule: counts[rule] for rule in expected} == expected
    assert "results/tiny/scores.csv" in planned


def test_a_table_of_the_folder_replaces_the_one_of_the_repository(folder: Path) -> None:
    (folder / "config").mkdir()
    pairs = (ROOT / "config" / "pairs.tsv").read_text().replace("gap_a\t", "mine\t", 1)
    (folder / "config" / "pairs.tsv").write_text(pairs)
    runs = [{**TINY["runs"][0], "pair": "mine"}]
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "runs": runs}))
    assert "results/tiny/records/mine/baselines.parquet" in snakemake(folder, "--dry-run")


@pytest.mark.slow
def test_a_table_is_made_in_an_empty_folder(folder: Path) -> None:
    table = "results/tiny/tables/gates.csv"
    snakemake(folder, table)
    rows = pd.read_csv(folder / table)
    assert len(rows) and set(rows["pair"]) == {"gap_a"}
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "Snakefile",
        "checkpoints",
        "results",
        "tiny.yaml",
    ]
