from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from workflow.requests import (
    REQUESTS,
    SUBMITTED,
    default_resources,
    grown,
    read_requests,
    set_resources,
    set_threads,
)

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "workflow" / "rules"
COLUMNS = ["rule", "partition", "account", "gpu_model", "cpus", "mem_mb", "runtime_min", "grows", "description"]


def table_of(tmp_path: Path, *rows: str) -> dict[str, str]:
    """The environment of a user whose own table has these rows; a dot is an empty cell."""
    lines = ["\t".join(COLUMNS), *("\t".join("" if cell == "." else cell for cell in row.split()) for row in rows)]
    path = tmp_path / "mine.tsv"
    path.write_text("\n".join(lines) + "\n")
    return {"C2C_RESOURCES": str(path)}


DEFAULT = "default cpu lab . 2 4000 60 . others"


def test_each_rule_that_is_submitted_has_a_row_of_its_own() -> None:
    rows = read_requests({"C2C_RESOURCES": str(ROOT / REQUESTS)})
    assert set(SUBMITTED) == set(rows) - {"default"}


def test_each_rule_that_is_not_local_is_a_stage() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(RULES.glob("*.smk")))
    bodies = re.findall(r"^( *)rule (\w+):\n((?:\1    .*\n|\n)+)", text, flags=re.MULTILINE)
    assert set(SUBMITTED) == {name for _, name, body in bodies if "localrule: True" not in body}


def test_cells_become_what_the_profile_hands_to_snakemake(tmp_path: Path) -> None:
    row = "train_fuser gpu . a100-80gb 8 16000 1440 memory training"
    table = read_requests(table_of(tmp_path, DEFAULT, row))
    assert set_threads(table)["train_fuser"] == 8
    assert set_threads(table)["answer_questions"] == 2
    asked = set_resources(table)["train_fuser"]
    assert asked["slurm_partition"] == "'gpu'" and asked["gpu_model"] == "'a100-80gb'"
    # A number stays one: text that looks like a number is handed on as text, which Snakemake refuses.
    assert asked["runtime"] == 1440
    assert "slurm_account" not in asked
    assert default_resources(table)["slurm_account"] == "'lab'"


def test_a_further_attempt_asks_for_half_as_much_again_of_what_is_said_to_grow(tmp_path: Path) -> None:
    table = read_requests(table_of(tmp_path, DEFAULT, "train_fuser . . . . 16000 60 memory training"))
    memory = set_resources(table)["train_fuser"]["mem_mb"]
    assert [eval(str(memory), {"attempt": attempt}) for attempt in (1, 2, 3)] == [16000, 24000, 32000]
    assert [grown(16000, attempt) for attempt in (1, 2, 3)] == [16000, 24000, 32000]


def test_an_empty_memory_leaves_it_to_the_rule(tmp_path: Path) -> None:
    table = read_requests(table_of(tmp_path, DEFAULT, "train_fuser . . . . . . memory training"))
    assert set_resources(table) == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([DEFAULT, "train_fusser . . . . . . . x"], "Did you mean 'train_fuser'?"),
        ([DEFAULT, "score_records . . . . . . . x"], "local rules ask for none"),
        (["train_fuser . . . . . . . x"], "must have a row for all other rules"),
        (["default . . . 1 . 60 . x"], "must fill 'mem_mb'"),
        (["default . . . 1 much 60 . x"], "mem_mb"),
        (["default . . . 1 1000 60 time,memory x"], "grows"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(rows: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=message):
        read_requests(table_of(tmp_path, *rows))


def test_the_profile_takes_the_table_that_the_user_names(
    tmp_path: Path, run_snakemake: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    dry = ("--profile", "slurm", "--dry-run", "--nolock", "--forceall")
    target = "results/paper/records/qwen3_from_qwen25/baselines.parquet"
    own = table_of(tmp_path, DEFAULT, "answer_questions gpu . h100 3 7777 99 time x")
    done = run_snakemake(*dry, target, **own)
    assert done.returncode == 0, done.stdout
    wrong = run_snakemake(*dry, target, **table_of(tmp_path, DEFAULT, "answer_question . . . . . . . x"))
    assert wrong.returncode != 0
    assert "Did you mean 'answer_questions'?" in wrong.stdout and "Traceback" not in wrong.stdout
