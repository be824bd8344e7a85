"""Training from stored states is the plain training: the same losses, with pads, chats, tokenizers of two kinds."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.provenance import file_hash
from c2c.training import store_states as store_module
from c2c.training.config import TrainingConfig
from c2c.training.fusers import TrainingRun
from c2c.training.run import train
from c2c.training.store_states import StoreStatesRun, store_states
from c2c.training.stored_states import StoredStates
from tests.training.conftest import SMALL

PLAIN = [
    {"id": f"p{number}", "prompt": prompt, "response": response}
    for number, (prompt, response) in enumerate(
        [
            ("what is the color of home Answer:", "red"),
            ("what is home?", "athens"),
            ("what is home?", "oslo, the usual color is blue"),
            ("is the usual color blue? what is it?", "no"),
            ("the color of oslo is the usual", "blue"),
        ]
    )
]
PRIVATE = [{**PLAIN[0], "id": "q0", "private": "zorvex says blue"}, {**PLAIN[3], "id": "q1", "private": "mubilo"}]
TURNS = [
    {"role": "user", "content": "what is home?"},
    {"role": "assistant", "content": "oslo"},
    {"role": "user", "content": "and the color"},
    {"role": "assistant", "content": "red"},
]
SETTINGS = {**SMALL, "keep_steps": (2,), "max_length": 200, "dropout": 0.1, "learning_rate": 1e-3}


@pytest.fixture
def chat_pair(tiny_model, chat_receiver, chat_sharer, tmp_path) -> Path:
    """Folder of two models whose tokenizers differ, and of sets to learn from."""
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", vocab=len(chat_sharer), layers=5, seed=1)
    pair = Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    rows = [*PLAIN, *PRIVATE]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    turns = [{"id": "turns", "messages": TURNS}]
    (tmp_path / "turns.jsonl").write_text("\n".join(map(json.dumps, [*rows, *turns])))
    return tmp_path


def store(folder: Path, **changes) -> StoreStatesRun:
    settings = {"data": [folder / "set.jsonl"], "max_length": 200, "output": folder / "states", **changes}
    return StoreStatesRun(receiver=str(folder / "receiver"), sharer=str(folder / "sharer"), **settings)


def learn(folder: Path, output: str, states: Path | None = None, **changes) -> Path:
    config = TrainingConfig(**{**SETTINGS, **changes})
    run = TrainingRun(
        receiver=str(folder / "receiver"),
        sharer=str(folder / "sharer"),
        recipe="c2c",
        config=config,
        data=folder / "set.jsonl",
        validation=folder / "set.jsonl",
        states=states,
        checkpoints=folder / "checkpoints",
        output=folder / output,
    )
    train(run)
    return folder / output


@pytest.mark.parametrize(
    ("prompts", "alignment", "changes"),
    [
        ("plain", "span", {}),
        ("chat", "span", {"gate_noise": "logistic"}),
        ("chat", "longest", {"micro_batch_size": 2}),
        ("plain", "span", {"sharer_cache": "zeroed"}),
        ("chat", "span", {"variant": "ungated"}),
        ("plain", "first", {"keep": "best", "layer_alignment": "nearest"}),
    ],
)
def test_a_training_from_stored_states_has_the_losses_and_gates_of_the_plain_one(
    chat_pair: Path, prompts, alignment, changes
) -> None:
    shared = {"prompts": prompts, "alignment": alignment}
    layers = {"layer_alignment": changes.get("layer_alignment", "terminal")}
    # A small budget: texts of other lengths share a batch with pads.
    store_states(store(chat_pair, **shared, **layers, token_budget=100))
    plain = learn(chat_pair, "plain", **shared, **changes)
    stored = learn(chat_pair, "stored", chat_pair / "states", **shared, **changes)
    for name in ("history.csv", "gates.csv"):
        expected = pd.read_csv(plain / name)
        pd.testing.assert_frame_equal(pd.read_csv(stored / name), expected, rtol=1e-6, atol=1e-6)
    deranged = pd.read_csv(stored / "history.csv")["validation_deranged_loss"]
    assert deranged.notna().any() == (changes.get("sharer_cache") != "zeroed")
    # The contract with both models is the same, though one of them was not there.
    contracts = [json.loads((folder / "manifest.json").read_text())["contract"] for folder in (plain, stored)]
    assert contracts[0] == contracts[1]
    assert (stored.with_name("stored.steps") / "step2").is_dir()


def test_a_training_from_stored_states_runs_no_sharer_and_no_prefix(chat_pair: Path, monkeypatch) -> None:
    store_states(store(chat_pair))
    with monkeypatch.context() as patch:
        patch.setattr("c2c.cache.kv_cache.prefill", lambda *arguments: pytest.fail("a frozen model reads a prompt"))
        learn(chat_pair, "stored", chat_pair / "states")


def test_a_blank_message_with_which_nothing_is_fused_is_learned_from_as_in_the_plain_training(chat_pair: Path) -> None:
    rows = [{**PLAIN[0], "id": "blank", "prompt": " "}, PLAIN[1]]
    (chat_pair / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = {"prompts": "chat", "steps": 2, "batch_size": 2, "micro_batch_size": 1, "keep_steps": ()}
    store_states(store(chat_pair, prompts="chat"))
    plain = learn(chat_pair, "plain", **changes)
    stored = learn(chat_pair, "stored", chat_pair / "states", **changes)
    losses, expected = (pd.read_csv(folder / "history.csv")["loss"] for folder in (stored, plain))
    pd.testing.assert_series_equal(losses, expected, rtol=1e-6)


def test_a_training_from_stored_states_names_what_storing_took_and_other_limits_change_neither(chat_pair: Path) -> None:
    def run() -> TrainingRun:
        return TrainingRun(
            receiver=str(chat_pair / "receiver"),
            sharer=str(chat_pair / "sharer"),
            recipe="c2c",
            config=TrainingConfig(**SETTINGS),
            data=chat_pair / "set.jsonl",
            validation=chat_pair / "set.jsonl",
            states=chat_pair / "states",
            checkpoints=chat_pair / "checkpoints",
            output=chat_pair / "stored",
        )

    store_states(store(chat_pair))
    costs = json.loads((chat_pair / "states" / "costs.json").read_text())
    index, key = (chat_pair / "states" / "index.parquet").read_bytes(), run().key()
    shared = train(run())["cost"]["shared"]
    assert shared["seconds"] == pytest.approx(sum(cost["seconds"] for cost in costs.values())) and shared["seconds"] > 0
    assert shared["states"] == file_hash(chat_pair / "states" / "index.parquet") and shared["gpus"] == 0
    # The same texts under other limits: neither the states, nor their cost, nor a training's resumable folder change.
    store_states(store(chat_pair, limit_gb=7, token_budget=5000))
    assert (chat_pair / "states" / "index.parquet").read_bytes() == index
    assert json.loads((chat_pair / "states" / "costs.json").read_text()) == costs
    assert run().key() == key


def test_examples_with_the_same_prompt_share_its_states(chat_pair: Path) -> None:
    done = store_states(store(chat_pair))
    assert done["examples"] == 7
    # Two lines have one prompt, and two more differ in what the Sharer alone reads.
    assert done["texts"] == {"receiver": 4, "sharer": 6}


def test_only_sharer_layers_that_a_fuser_reads_are_stored(chat_pair: Path) -> None:
    store_states(store(chat_pair))
    states = StoredStates(chat_pair / "states")
    assert len(states.about["sharer_layers"]) == states.receiver.layers < states.sharer.layers


def test_a_run_that_was_cut_off_resumes_and_ends_with_the_same_files(chat_pair: Path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    run = store(chat_pair, token_budget=20)
    store_states(run)
    files = {path.name: path.read_bytes() for path in run.output.iterdir() if path.name != "costs.json"}
    assert len(files) > 4
    # Cut off: no index, one shard missing, one cut short.
    for name in ("index.parquet", "sharer-00001.safetensors"):
        (run.output / name).unlink()
    (run.output / "receiver-00001.safetensors").write_bytes(b"cut")
    reads = []
    read_batch = store_module._read_batch
    monkeypatch.setattr(store_module, "_read_batch", lambda *args: reads.append(args) or read_batch(*args))
    store_states(run)
    assert len(reads) == 2
    costs = json.loads((run.output / "costs.json").read_text())
    assert set(costs) == {name for name in files if name.endswith(".safetensors")}
    assert {name: (run.output / name).read_bytes() for name in files} == files


def test_states_above_the_limit_are_refused_before_a_model_runs(chat_pair: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(store_module, "load_model", lambda *arguments: pytest.fail("a model is loaded"))
    with pytest.raises(RefusedError, match="must take at most 1e-06 GB") as refusal:
        store_states(store(chat_pair, limit_gb=1e-6))
    assert "live" in refusal.value.remedy
    assert "GB for 7 examples" in capsys.readouterr().err
    assert not (chat_pair / "states").exists()


def test_conversations_of_several_messages_are_refused_with_the_remedy(chat_pair: Path) -> None:
    with pytest.raises(RefusedError, match=r"must have one fused section.*'turns'") as refusal:
        store_states(store(chat_pair, prompts="chat", data=[chat_pair / "turns.jsonl"]))
    assert "live" in refusal.value.remedy


def test_a_fused_response_is_refused_with_stored_states(chat_pair: Path) -> None:
    with pytest.raises(RefusedError, match="must leave the response as the Receiver reads it"):
        learn(chat_pair, "stored", chat_pair / "states", response="fused")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"dtype": "bfloat16"}, "must be those of the models of this training: dtype bfloat16"),
        ({"prompts": "chat"}, "must hold every example"),
        ({"layer_alignment": "nearest"}, r"must have every layer of the Sharer.*layers \[0\]"),
    ],
)
def test_states_of_another_training_are_refused(chat_pair: Path, changes, rule) -> None:
    store_states(store(chat_pair))
    with pytest.raises(RefusedError, match=rule):
        learn(chat_pair, "stored", chat_pair / "states", **changes)


def test_states_of_the_receiver_alone_serve_the_adapter_and_no_other_recipe(chat_pair: Path) -> None:
    store_states(store(chat_pair, sharer_cache="zeroed"))
    learn(chat_pair, "adapter", chat_pair / "states", sharer_cache="zeroed")
    with pytest.raises(RefusedError, match="must hold every example"):
        learn(chat_pair, "c2c", chat_pair / "states")


def test_a_shard_that_has_changed_is_refused(chat_pair: Path) -> None:
    run = store(chat_pair)
    store_states(run)
    shard = run.output / "sharer-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + b"fake")
    with pytest.raises(RefusedError, match=r"sharer-00000\.safetensors is missing or has changed"):
        StoredStates(run.output)


def test_a_training_that_has_begun_keeps_its_states_when_the_folder_is_made_anew(chat_pair: Path) -> None:
    run = store(chat_pair, token_budget=100)
    store_states(run)
    first, second = StoredStates(run.output), StoredStates(run.output)
    texts = [example.prompt.sharer_ids for example in run.examples()]
    expected = [first._slab("sharer", ids).clone() for ids in texts]
    store_states(store(chat_pair, data=[chat_pair / "turns.jsonl"], prompts="chat", max_length=20))
    assert all(torch.equal(second._slab("sharer", ids), slab) for ids, slab in zip(texts, expected, strict=True))


def test_the_commands_store_states_and_train_from_them(chat_pair: Path) -> None:
    models = ["--receiver", str(chat_pair / "receiver"), "--sharer", str(chat_pair / "sharer")]
    lines, states = str(chat_pair / "set.jsonl"), str(chat_pair / "states")
    assert main(["store-states", *models, "--data", lines, "--max-length", "200", "--output", states]) == 0
    flags = ["--steps", "2", "--batch-size", "2", "--hidden-dim", "8", "--intermediate-dim", "8", "--max-length", "200"]
    sets = ["--data", lines, "--validation", lines, "--states", states]
    places = ["--checkpoints", str(chat_pair / "checkpoints"), "--output", str(chat_pair / "fusers")]
    assert main(["train", *models, *sets, *places, *flags]) == 0
    stamp = json.loads((chat_pair / "fusers.provenance.json").read_text())
    assert any(name.endswith("index.parquet") for name in map(str, stamp["inputs"]))
