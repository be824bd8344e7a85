"""lm-eval's command line knows the methods, from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def folders(pair, tmp_path) -> dict[str, Path]:
    """The pair's models as folders."""
    found = {}
    for name, loaded in (("receiver", pair.receiver), ("sharer", pair.sharer)):
        found[name] = tmp_path / name
        loaded.model.save_pretrained(found[name])
        loaded.tokenizer.save_pretrained(found[name])
    return found


@pytest.mark.slow
def test_a_fuser_is_evaluated_by_lm_evals_command_on_questions_of_another_file(
    folders, fuser, benchmark_files, tmp_path
) -> None:
    tasks, files = benchmark_files
    mine = {
        "include": "free.yaml",
        "task": "mine",
        "dataset_kwargs": {"data_files": {"test": str(files["free"])}},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tasks / "mine.yaml").write_text(yaml.safe_dump(mine))
    arguments = ",".join(f"{name}={path}" for name, path in {**folders, "fuser": fuser}.items())
    command = [sys.executable, "-m", "c2c.evaluation.lm_eval", "--model", "c2c", "--model_args", arguments]
    command += ["--tasks", "mine", "--include_path", str(tasks), "--output_path", str(tmp_path / "out")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (written,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(written.read_text())
    assert found["n-samples"]["mine"]["effective"] == 8
    assert 0 <= found["results"]["mine"]["exact_match,none"] <= 1
