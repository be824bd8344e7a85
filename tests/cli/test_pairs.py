"""`c2c check`, `c2c plan` for a pair, and the commands about fusers, on tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import T5Config

from c2c import FuserStack
from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.cli.main import main
from c2c.errors import REFUSED
from c2c.models.loading import LoadedModel
from tests.conftest import build_model

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "tests" / "golden" / "qwen3_from_qwen2"


@pytest.fixture(scope="module")
def models(chat_receiver, chat_sharer, tmp_path_factory) -> Path:
    """A folder with a Receiver, a Sharer, and fusers of the two, which were trained with the alignment first."""
    folder = tmp_path_factory.mktemp("models")
    receiver = LoadedModel("receiver", build_model("qwen3", vocab=len(chat_receiver)), chat_receiver)
    other = build_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    sharer = LoadedModel("sharer", other, chat_sharer)
    for loaded in (receiver, sharer):
        loaded.model.save_pretrained(folder / loaded.name)
        loaded.tokenizer.save_pretrained(folder / loaded.name)
    shapes = (sharer.model.config, receiver.model.config)
    stack = FuserStack.between(*shapes, hidden_dim=16, intermediate_dim=16)
    about = {"alignment": "first", "recipe": "c2c", "seed": 1}
    save_stack(stack, folder / "fuser", receiver=receiver.description, sharer=sharer.description, about=about)
    return folder


def pair(models: Path) -> list[str]:
    return ["--receiver", str(models / "receiver"), "--sharer", str(models / "sharer")]


def test_a_pair_that_can_be_connected_is_checked_without_its_weights(models, capsys, tmp_path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    for weights in folder.glob("*/model.safetensors"):
        if weights.parent.name != "fuser":
            weights.unlink()
    assert main(["check", *pair(folder), "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["eligible"] and report["models"]["sharer"]["layers"] == 4
    lines = {row["line"] for row in report["differences"]}
    assert {"architecture", "tokenizer", "kv_heads", "head_dim"} <= lines
    assert all(report["plan"][name] > 0 for name in ("training_memory_gb", "training_hours", "answering_hours"))


def test_the_text_of_a_check_says_what_differs_and_what_it_costs(models, capsys) -> None:
    assert main(["check", *pair(models), "--fuser", str(models / "fuser"), "--device", "H100"]) == 0
    text = capsys.readouterr().out
    assert "can be connected" in text and "tokenizer" in text and "GB of memory" in text
    assert "The contract of the fusers is met" in text


def test_models_that_are_not_those_of_the_fusers_are_named_with_exit_code_2(models, capsys) -> None:
    swap = ["--receiver", str(models / "sharer"), "--sharer", str(models / "receiver")]
    with pytest.raises(SystemExit) as end:
        main(["check", *swap, "--fuser", str(models / "fuser"), "--device", "cpu"])
    assert end.value.code == REFUSED and "receiver.layers" in capsys.readouterr().out


def test_a_model_whose_cache_cannot_be_fused_is_not_eligible(models, capsys, tmp_path) -> None:
    T5Config().save_pretrained(tmp_path)
    for path in (models / "sharer").glob("*token*"):
        shutil.copy(path, tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["check", "--receiver", str(models / "receiver"), "--sharer", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert end.value.code == REFUSED and not report["eligible"] and "encoder" in report["refusals"][0]


def test_longer_trainings_and_larger_batches_cost_more(models, capsys) -> None:
    def plan(*flags: str) -> dict[str, float]:
        assert main(["plan", *pair(models), "--json", "--device", "H100", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    short, long = plan("--steps", "10"), plan("--steps", "20")
    assert long["training_hours"] == pytest.approx(2 * short["training_hours"])
    assert plan("--batch-size", "8")["training_memory_gb"] < short["training_memory_gb"]


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--receiver", "x"], "must have both models"),
        (["--receiver", "{r}", "--sharer", "{r}", "--device", "abacus"], "a GPU whose peak is known"),
        (["--receiver", "{r}", "--sharer", "{r}", "--steps", "0"], "steps must be"),
        (["--receiver", "{r}", "--sharer", "{r}", "--questions", "0"], "--questions must be at least 1"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(flags, rule, models, capsys) -> None:
    words = [flag.replace("{r}", str(models / "receiver")) for flag in flags]
    assert main(["plan", *words]) == REFUSED
    assert rule in capsys.readouterr().err


def test_the_released_fusers_are_listed_with_models_and_revision(capsys) -> None:
    assert main(["fusers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row[name] for row in rows for name in ("receiver", "sharer", "hub_id", "revision", "memory_gb"))
    assert main(["fusers"]) == 0
    assert "c2c fetch-fuser" in capsys.readouterr().out


def test_a_checkpoint_is_inspected_with_shapes_gates_and_contract(models, capsys) -> None:
    assert main(["fuser", "inspect", str(models / "fuser"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["layout"] == "checkpoint" and about["training"]["alignment"] == "first"
    assert about["layers"] == {"fused": 3, "open keys": 0, "open values": 0}
    assert about["contract"]["sharer"]["layers"] == 4
    assert main(["fuser", "inspect", str(models / "fuser")]) == 0
    assert "3 × " in capsys.readouterr().out


def test_released_fusers_are_inspected_too(capsys) -> None:
    assert main(["fuser", "inspect", str(CASE / "released_1"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["layout"] == "released" and about["layers"]["fused"] == 3


def test_fusers_that_are_converted_there_and_back_have_the_same_weights(models, tmp_path, capsys) -> None:
    released, back = tmp_path / "released", tmp_path / "back"
    assert main(["fuser", "convert", str(models / "fuser"), str(released), "--to", "released"]) == 0
    differ = ["--accept-difference", "receiver.id", "sharer.id"]
    code = main(["fuser", "convert", str(released), str(back), *pair(models), *differ])
    assert code == 0, capsys.readouterr().err
    first, second = (load_stack(folder)[0] for folder in (models / "fuser", back))
    assert first.links.keys() == second.links.keys()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("{m}/fuser {t} --to checkpoint", "--to must name another layout"),
        ("{c} {t} --to released", "--to must name another layout"),
        ("{c} {t}", "must have the contract of both models"),
        ("{m}/fuser {m}/receiver --to released", "must be empty"),
    ],
)
def test_a_conversion_that_cannot_be_meant_is_refused(words, rule, models, tmp_path, capsys) -> None:
    places = {"{m}": str(models), "{t}": str(tmp_path / "new"), "{c}": str(CASE / "released_1")}
    for name, path in places.items():
        words = words.replace(name, path)
    assert main(["fuser", "convert", *words.split()]) == REFUSED
    assert rule in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_card_of_a_push_can_be_read_before_anything_is_published(models, capsys) -> None:
    assert main(["fuser", "push", str(models / "fuser"), "--to", "owner/name", "--card"]) == 0
    assert "owner/name" in capsys.readouterr().out
    assert main(["fuser", "push", str(models / "fuser"), "--to", "name"]) == REFUSED
    assert "owner/name" in capsys.readouterr().err
