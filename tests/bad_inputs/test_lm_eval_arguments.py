"""Bad arguments of lm-eval's command line: refused in one line before a model or a task loads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from c2c.errors import REFUSED
from c2c.evaluation.harness import command

ASKED = ["--model", "c2c_receiver", "--model_args", "model=nowhere", "--tasks", "mine"]


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *given: str) -> str:
    monkeypatch.setattr(sys, "argv", ["lm_eval", *given])
    assert command.main() == REFUSED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("c2c.evaluation.harness: ") and " must " in said and len(said) < 4_000
    return said


CASES: dict[str, tuple[list[str], list[str]]] = {
    "a model's name with a slip": (["--model", "c2c_receiverr"], ["'c2c_receiverr'", "Did you mean 'c2c_receiver'"]),
    "an unknown model": (["--model", "zzzzzz"], ["'zzzzzz'", "c2c"]),
    "a negative limit": (["--limit", "-1"], ["--limit", "-1"]),
    "a limit that is no number": (["--limit", "nan"], ["--limit", "nan"]),
    "a limit without end": (["--limit", "inf"], ["--limit", "inf"]),
    "no such folder of tasks": (["--include_path", "nothere"], ["--include_path", "nothere"]),
    "samples and a limit": (["--samples", '{"mine": [0]}', "--limit", "1"], ["--limit must be None"]),
    "samples without a folder": (["--log_samples"], ["--output_path"]),
    "no such config": (["--config", "nothere.yaml"], ["nothere.yaml"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_argument_is_refused(case, monkeypatch, capsys) -> None:
    more, words = CASES[case]
    said = refusal(monkeypatch, capsys, *ASKED, *more)
    assert not [word for word in words if word not in said], said


def test_no_model_is_refused_with_ours(monkeypatch, capsys) -> None:
    assert "routing_trained" in refusal(monkeypatch, capsys, "--tasks", "mine", "--limit", "1")


def test_no_task_is_refused(monkeypatch, capsys) -> None:
    assert "task" in refusal(monkeypatch, capsys, *ASKED[:4])


def test_arguments_of_a_config_file_are_checked_as_those_of_the_command(monkeypatch, capsys, tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"model": "c2c_receiver", "tasks": "mine", "limit": -2}), encoding="utf-8")
    assert "--limit" in refusal(monkeypatch, capsys, "--config", str(path), "--tasks", "mine")
    path.write_text(yaml.safe_dump({"tasks": "mine"}), encoding="utf-8")
    assert "must be given a model" in refusal(monkeypatch, capsys, "--config", str(path), "--tasks", "mine")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the task `mine`, which alone is known, as lm-eval reads its own for seconds."""

    class Few(command.TaskManager):
        def __init__(self, **options) -> None:
            super().__init__(**options | {"include_defaults": False})

    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(yaml.safe_dump({"task": "mine", "dataset_path": "json"}))
    monkeypatch.setattr("lm_eval.tasks.TaskManager", Few)
    monkeypatch.setattr(command, "TaskManager", Few)
    return tmp_path / "tasks"


@pytest.mark.parametrize("tasks", ["mien", "mine,mien"])
def test_a_task_s_name_with_a_slip_is_refused_before_any_model_loads(tasks, few, monkeypatch, capsys) -> None:
    said = refusal(monkeypatch, capsys, *ASKED[:4], "--tasks", tasks, "--include_path", str(few))
    assert "--tasks must name known tasks; received ['mien']. Did you mean 'mine'?" in said


def test_a_task_file_that_is_not_there_is_refused(few, monkeypatch, capsys) -> None:
    assert "mien.yaml" in refusal(monkeypatch, capsys, *ASKED[:4], "--tasks", "mien.yaml")


def test_a_folder_without_task_files_is_refused(few, monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert "--tasks must name a task" in refusal(monkeypatch, capsys, *ASKED[:4], "--tasks", str(tmp_path / "empty"))
