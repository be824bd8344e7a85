"""What a model is stands in every hash by which work is found again, and in provenance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from c2c.analysis.run import AnalysisRun
from c2c.evaluation.generate import GenerationRun
from c2c.models import hub
from c2c.storage.formats import write_json
from c2c.training.config import TrainingConfig
from c2c.training.fusers import TrainingRun
from c2c.training.latent import LatentRun
from c2c.training.single import SingleRun

OTHER = "model.norm.weight"


@pytest.fixture(params=["manifest", "folder", "mirror"])
def model(request, model_folder, tmp_path, monkeypatch) -> tuple[str, Path]:
    """How a model is named, and its folder."""
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    folder = Path(shutil.copytree(model_folder, tmp_path / "mirror" / "owner" / "model"))
    if request.param == "manifest":
        write_json(tmp_path / "model.json", hub.describe(str(folder), None))
        return str(tmp_path / "model.json"), folder
    return ("owner/model" if request.param == "mirror" else str(folder)), folder


@pytest.fixture
def lines(tmp_path) -> Path:
    (tmp_path / "fuser").mkdir()
    (tmp_path / "tasks").mkdir()
    path = tmp_path / "lines.jsonl"
    path.write_text('{"id": "1"}\n')
    return path


def replace_weights(folder: Path, named: str) -> None:
    """Other weights of the same shapes, fetched again where there is a manifest."""
    state = load_file(folder / "model.safetensors")
    save_file(state | {OTHER: state[OTHER] * 2}, folder / "model.safetensors", metadata={"format": "pt"})
    if named.endswith(".json"):
        write_json(Path(named), hub.describe(str(folder), None))


def asked(model: str, lines: Path) -> dict[str, Any]:
    here = lines.parent
    return {"scale": "s", "pair": "p", "receiver": model, "tasks": here / "tasks", "output": here / "o.parquet"} | {
        "benchmarks": {"b": lines},
        "alignment": "span",
        "seed": 0,
    }


def hash_of(work: str, model: str, lines: Path) -> str:
    here, config = lines.parent, TrainingConfig(batch_size=2)
    sets: dict[str, Any] = {"checkpoints": here / "c", "output": here / "o", "config": config}
    pair = {"receiver": model, "sharer": model}
    if work == "training":
        return TrainingRun(recipe="c2c", data=lines, validation=lines, **pair, **sets).key()
    if work == "single":
        return SingleRun(tokenised=[lines, lines], **pair, **sets).key()
    if work == "latent":
        size = {"latent_layers": 1, "latent_heads": 1, "latent_head_dim": 2}
        named = {"pairs": ["a", "b"], "receivers": [model] * 2, "sharers": [model] * 2}
        return LatentRun(train=[lines] * 2, validation=[lines] * 2, **named, **size, **sets).key()
    if work == "group":
        given = {"methods": ("c2c",), "sharers": [model] * 2, "fusers": [str(here / "fuser")] * 2}
        return GenerationRun(**asked(model, lines), **given).fingerprint()
    kind = {"generation": GenerationRun, "analysis": AnalysisRun}[work]
    return kind(**asked(model, lines), sharers=[model], methods=("receiver",)).fingerprint()


@pytest.mark.parametrize("work", ["training", "single", "latent", "generation", "group", "analysis"])
def test_F13_F14_work_on_other_weights_is_other_work(work, model, lines, monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.run.task_files", lambda *arguments: [])
    named, folder = model
    first = hash_of(work, named, lines)
    assert hash_of(work, named, lines) == first
    replace_weights(folder, named)
    assert hash_of(work, named, lines) != first


def test_F15_provenance_states_the_hash_of_the_files(model) -> None:
    named, folder = model
    first = hub.about(named)
    assert first["sha256"] == hub.content(folder)
    replace_weights(folder, named)
    second = hub.about(named)
    assert second["sha256"] == hub.content(folder) != first["sha256"]
    assert second["id"] == first["id"]


def test_a_manifest_states_no_time_and_no_place_of_a_mirrored_model(model_folder, tmp_path, monkeypatch) -> None:
    written = []
    for mirror in ("one", "two"):
        shutil.copytree(model_folder, tmp_path / mirror / "owner" / "model")
        monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / mirror))
        written.append(json.dumps(hub.describe("owner/model", "main")))
    assert written[0] == written[1]
