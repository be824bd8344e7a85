from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.world import models, pretrain, texts
from benchmarks.world.pretrain import PretrainingConfig
from benchmarks.world.world import World, generate
from c2c.errors import RefusedError
from c2c.provenance import file_hash

TINY = [
    "--hidden",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--key-value-heads",
    "2",
    "--steps",
    "2",
    "--batch-size",
    "8",
]
KINDS = {
    "gap_sharer": ["--architecture", "qwen3", "--tokenizer", "word", "--knows", "all"],
    "gap_receiver_b": ["--architecture", "llama", "--tokenizer", "split", "--knows", "quarter"],
}


@pytest.fixture(scope="module")
def world_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "world.json"
    generate(entities=16).save(path)
    return path


def train(world_file: Path, output: Path, kind: str, seed: int = 0) -> dict[str, bytes]:
    """The bytes of the model's folder."""
    given = ["--world", f"{world_file}", "--output", f"{output}", "--seed", f"{seed}", *TINY, *KINDS[kind]]
    assert pretrain.main(given) == 0
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pretraining_writes_the_same_bytes_whatever_ran_before(
    world_file: Path, tmp_path: Path, kind: str
) -> None:
    one = train(world_file, tmp_path / "one", kind)
    torch.rand(7)
    other = train(world_file, tmp_path / "other", kind)
    assert "model.safetensors" in one
    assert one == other


def test_another_seed_writes_another_model(world_file: Path, tmp_path: Path) -> None:
    one, other = (train(world_file, tmp_path / f"seed{seed}", "gap_sharer", seed) for seed in (0, 1))
    assert one["model.safetensors"] != other["model.safetensors"]
    assert one["tokenizer.json"] == other["tokenizer.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_folder_loads_as_model_and_tokenizer(world_file: Path, tmp_path: Path, kind: str) -> None:
    train(world_file, tmp_path / kind, kind)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / kind)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / kind)
    text = texts.question(World.load(world_file).facts()[0]).whole
    assert model.config.model_type == KINDS[kind][1]
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_manifest_names_the_folder_and_the_hashes_of_its_files(
    world_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(world_file, Path("models/gap_sharer"), "gap_sharer")
    manifest = json.loads(Path("models/gap_sharer.json").read_text())
    revision = file_hash(Path("models/gap_sharer/model.safetensors"))
    assert manifest["sha256"]["model.safetensors"] == revision
    about = {"id": "gap_sharer", "revision": revision, "path": "models/gap_sharer", "source": "knowledge_gap"}
    assert {name: manifest[name] for name in about} == about
    assert Path("models/gap_sharer.json.provenance.json").is_file()


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_a_model_learns_what_it_is_told(world: World, architecture: str) -> None:
    settings = {"architecture": architecture, "hidden": 32, "layers": 1, "batch_size": 16, "learning_rate": 5e-3}
    losses = [pretrain.pretrain(world, PretrainingConfig(steps=steps, **settings))[2] for steps in (1, 40)]
    assert losses[1] < 0.6 * losses[0]


def test_padding_at_the_right_changes_no_prediction(
    world: World, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    torch.manual_seed(0)
    tokenizer = tokenizers["word"]
    model = models.build("qwen3", tokenizer, hidden=16, layers=2, heads=2, key_value_heads=2).eval()
    ids = tokenizer([texts.question(world.facts()[0]).whole], return_tensors="pt")["input_ids"]
    labels = torch.roll(ids, -1, dims=1)
    pads = torch.full((1, 5), tokenizer.pad_token_id)
    alone = pretrain._loss(model, ids, labels)
    padded = pretrain._loss(model, torch.cat([ids, pads], 1), torch.cat([labels, torch.full_like(pads, -100)], 1))
    torch.testing.assert_close(alone, padded)


def test_the_learning_rate_rises_then_falls_and_never_leaves_zero_to_one() -> None:
    for steps in (1, 2, 19, 300):
        rates = [pretrain._rate(step, steps, 0.05) for step in range(steps)]
        peak = rates.index(max(rates))
        assert all(0 < rate <= 1 for rate in rates)
        assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)


def test_every_parameter_is_optimised_exactly_once(tokenizers: dict[str, PreTrainedTokenizerFast]) -> None:
    model = models.build("qwen3", tokenizers["word"], hidden=16, layers=2, heads=4, key_value_heads=2)
    optimizer = pretrain._optimizer(model, PretrainingConfig())
    optimised = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(optimised) == sorted(id(each) for each in model.parameters())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"architecture": "qwen2"}, "--architecture.*'qwen2'.*Did you mean 'qwen3'"),
        ({"tokenizer": "char"}, "--tokenizer.*'char'.*word, split"),
        ({"knows": "half"}, "--knows.*'half'.*all, first_half, second_half, quarter"),
        ({"hidden": 0}, "hidden must be positive and finite; received 0"),
        ({"layers": 0}, "layers must be positive and finite; received 0"),
        ({"heads": -1}, "heads must be positive and finite; received -1"),
        ({"key_value_heads": 0}, "key_value_heads must be positive and finite; received 0"),
        ({"steps": 0}, "steps must be positive and finite; received 0"),
        ({"batch_size": 0}, "batch_size must be positive and finite; received 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive and finite; received 0\.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite; received nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive and finite; received inf"),
        ({"embedding_rate": 0.0}, r"embedding_rate must be positive and finite; received 0\.0"),
        ({"warmup_ratio": 1.0}, r"warmup_ratio must be at least 0 and less than 1; received 1\.0"),
        ({"weight_decay": -1.0}, r"weight_decay must be at least 0 and finite; received -1\.0"),
        ({"hidden": 60}, "hidden must be a multiple of 8 with 4 heads; received 60"),
        ({"key_value_heads": 3}, "key_value_heads must divide the 4 heads; received 3"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(RefusedError, match=rule):
        PretrainingConfig(**settings)


def test_refused_settings_write_nothing(world_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--world", f"{world_file}", "--output", f"{tmp_path / 'model'}", "--hidden", "60"]) == 2
    assert "must be a multiple" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_architecture_is_refused_where_a_model_is_built(
    tokenizers: dict[str, PreTrainedTokenizerFast],
) -> None:
    with pytest.raises(RefusedError, match=r"An architecture.*'gpt'"):
        models.build("gpt", tokenizers["word"], hidden=16, layers=1, heads=2, key_value_heads=2)
