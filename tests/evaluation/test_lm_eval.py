"""lm-eval's command line knows the methods, honours their options or refuses them by name, from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.api.registry import get_model

from c2c.evaluation.harness import command
from c2c.evaluation.harness.model import MODELS, RegisteredModel, batch_rows
from c2c.evaluation.questions.question import Question
from c2c.models.loading import check_device
from tests.bad_inputs.refusals import refused

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folders(pair, tmp_path) -> dict[str, Path]:
    """The pair's models as folders."""
    found = {}
    for name, loaded in (("receiver", pair.receiver), ("sharer", pair.sharer)):
        found[name] = tmp_path / name
        loaded.model.save_pretrained(found[name])
        loaded.tokenizer.save_pretrained(found[name])
    return found


@pytest.fixture
def arguments(folders, fuser) -> str:
    return ",".join(f"{name}={path}" for name, path in {**folders, "fuser": fuser}.items())


@pytest.fixture
def mine(benchmark_files) -> Path:
    """A folder with the task `mine`, which has a metric of lm-eval."""
    tasks, files = benchmark_files
    task = {
        "include": "free.yaml",
        "task": "mine",
        "dataset_kwargs": {"data_files": {"test": str(files["free"])}},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tasks / "mine.yaml").write_text(yaml.safe_dump(task))
    return tasks


@pytest.mark.slow
@pytest.mark.parametrize("named", ["c2c", "hf"])
def test_lm_evals_command_knows_this_projects_models_and_its_own(named, arguments, folders, mine, tmp_path) -> None:
    given = arguments if named == "c2c" else f"pretrained={folders['receiver']}"
    command = [sys.executable, "-m", "c2c.evaluation.harness", "--model", named, "--model_args", given]
    command += ["--tasks", "mine", "--include_path", str(mine), "--output_path", str(tmp_path / "out")]
    command += ["--device", "cpu"] if named == "hf" else []
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (written,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(written.read_text())
    assert found["n-samples"]["mine"]["effective"] == 8
    assert 0 <= found["results"]["mine"]["exact_match,none"] <= 1


def run(monkeypatch: pytest.MonkeyPatch, *given: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lm_eval", *given])
    return command.main()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (",fusr=typo", "Did you mean 'fuser'"),
        (",alignment=longest", "alignment"),
        (",trust_remote_code=True", "trust_remote_code"),
        (",dtype=float8", "dtype"),
        (",device=cuda:77", "cuda:77"),
        (",max_length=0", "max_length"),
        (",max_length=100000", "128 positions"),
        (",token_budget=-3", "token_budget"),
        (",batch_size=few", "batch_size"),
    ],
)
def test_an_option_that_is_unknown_or_cannot_be_honoured_is_refused(more, named, arguments) -> None:
    with refused(named):
        get_model("c2c").create_from_arg_string(arguments + more, {"batch_size": 1, "device": "cpu"})


@pytest.mark.slow
def test_a_request_that_is_refused_ends_the_command_before_anything_is_answered(
    arguments, mine, monkeypatch, capsys
) -> None:
    (mine / "none.yaml").write_text(
        (mine / "mine.yaml").read_text().replace("task: mine", "task: none\ndoc_to_text: ''")
    )
    given = ["--model", "c2c", "--model_args", arguments, "--tasks", "none", "--include_path", str(mine)]
    assert run(monkeypatch, *given) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("c2c.evaluation.harness: ") and "must not be empty" in said


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_needs_is_asked_for_by_name(name) -> None:
    with refused(f"--model {name}"):
        get_model(name).create_from_arg_string("", {"batch_size": 1})


def built(name: str, folders: dict[str, Path], **options: Any) -> RegisteredModel:
    where = {"model": folders["receiver"]} if name in ("c2c_receiver", "c2c_sharer") else folders
    return get_model(name).create_from_arg_obj({key: str(path) for key, path in where.items()}, options)


@pytest.mark.parametrize("name", ["c2c_receiver", "c2c_sharer", "c2c_t2t", "c2c_routing", "c2c"])
def test_precision_and_device_are_those_asked_for(name, folders, fuser) -> None:
    given = {"fuser": fuser} if name == "c2c" else {}
    model = built(name, folders, dtype="bfloat16", device="cpu", **given)
    assert {each.model.dtype for each in model.method.models} == {torch.bfloat16}
    assert model.get_model_info()["model_dtype"] == "torch.bfloat16"
    assert model.device == torch.device("cpu")


def test_a_batch_has_as_many_requests_as_asked_for(folders) -> None:
    assert (batch_rows(3), batch_rows("16"), batch_rows("auto"), batch_rows("auto:4", 9)) == (3, 16, None, 9)
    assert built("c2c_receiver", folders, batch_size=3).respondent.rows == 3
    for wrong in ("few", 0, -1, 1.5, True):
        with refused("batch_size"):
            batch_rows(wrong)


@pytest.mark.parametrize("device", ["cuda:77", "nonsense", "meta", "cpu:x"])
def test_a_device_that_is_not_here_is_refused(device) -> None:
    with refused(device):
        check_device(device)


def test_text_to_text_takes_the_wording_of_another_file(folders, tmp_path) -> None:
    wording = {"metadata": {"t2t_question": "what {{prompt}}", "t2t_prompt": "{{message}} {{prompt}}"}}
    (tmp_path / "wording.yaml").write_text(yaml.safe_dump(wording))
    model = built("c2c_t2t", folders, wording=str(tmp_path / "wording.yaml"))
    question = model.respondent.with_wording(Question("mine", 0, {"id": "1"}, "red", gold=""))
    assert model.method.request(question).prompt == "what red"
    (tmp_path / "wording.yaml").write_text("metadata: {t2t_question: what}")
    with refused("t2t_prompt"):
        built("c2c_t2t", folders, wording=str(tmp_path / "wording.yaml"))


def test_each_method_is_an_entry_point_that_leads_to_its_class() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lm_eval.models"]
    assert set(declared) == set(MODELS)
    for name, place in declared.items():
        # As importlib.metadata loads it, and as the registry of this lm-eval has it.
        model = EntryPoint(name, place, "lm_eval.models").load()
        assert issubclass(model, RegisteredModel)
        assert (model.name, model.method_name) == (name, MODELS[name])
        assert get_model(name) is model


def test_no_model_name_is_one_that_another_package_could_mean() -> None:
    assert all(name == "c2c" or name.startswith("c2c_") for name in MODELS)
