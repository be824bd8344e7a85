"""Training: exact resume, honest batches, and only the Fusers learn."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from c2c import RosettaModel
from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.models.contract import ContractCheck
from c2c.training import state
from c2c.training.batches import collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example, read_lines
from c2c.training.fusers import FuserLearner, TrainingRun
from c2c.training.run import train
from c2c.types import IGNORED
from tests.training.command import ENVIRONMENT, command, same_files, save_inputs, wait_for_step
from tests.training.conftest import SMALL, tokenise, weights


def test_a_run_cut_off_and_resumed_ends_with_the_same_bits_and_the_same_history(trainer, monkeypatch) -> None:
    stack, history = trainer("whole").run()

    class CutOffError(Exception):
        pass

    cut = trainer("cut")
    save = state.save

    def save_then_die(accelerator, folder, progress) -> None:
        save(accelerator, folder, progress)
        if progress.steps == 4:
            raise CutOffError

    monkeypatch.setattr(state, "save", save_then_die)
    with pytest.raises(CutOffError):
        cut.run()
    monkeypatch.setattr(state, "save", save)
    resumed, history_resumed = trainer("cut").run()
    assert all(
        torch.equal(a, b) for a, b in zip(stack.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert history.to_csv() == history_resumed.to_csv()


def test_the_order_that_is_saved_is_what_was_trained_on_resumed_or_not(trainer, monkeypatch) -> None:
    whole = trainer("whole")
    whole.run()
    seen: list[list[str]] = []
    collate_ = FuserLearner.collate

    def watch(self: FuserLearner, examples) -> object:
        if self.model.training:
            seen.append(sorted(example.id for example in examples))
        return collate_(self, examples)

    monkeypatch.setattr(FuserLearner, "collate", watch)
    resumed = trainer("resumed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FuserLearner, "loss_on", _interrupted_at(6, resumed))
        resumed.run()
    assert len(seen) == 6
    again = trainer("resumed")
    again.run()
    assert whole.example_ids().equals(again.example_ids())
    ids = [sorted(each) for each in again.example_ids()["ids"]]
    assert seen == [*ids, *ids[4:]]  # steps 5 and 6 came after the last checkpoint, so they were done again
    flat = [name for each in again.example_ids()["ids"] for name in each]
    assert sorted(flat[:10]) == sorted(flat[10:20]) == sorted(example.id for example in again.training)


def _interrupted_at(step: int, built: FuserLearner) -> Callable[[FuserLearner, object], float]:
    def loss_on(self: FuserLearner, examples: object) -> float:
        if built.progress.steps >= step:
            raise KeyboardInterrupt
        return 1.0

    return loss_on


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(trainer) -> None:
    one, two, other = (weights(t) for t in (_run(trainer("a")), _run(trainer("b")), _run(trainer("c", seed=1))))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def _run(built: FuserLearner) -> FuserLearner:
    built.run()
    return built


def test_only_the_fusers_learn(trainer) -> None:
    built = trainer()
    before = [p.clone() for model in built.model.model_list for p in model.parameters()]
    first = weights(built)
    built.run()
    after = [p for model in built.model.model_list for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert any(not torch.equal(first[name], tensor) for name, tensor in weights(built).items())


def test_models_in_half_precision_train_fusers_of_single_precision(trainer, pair) -> None:
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.to(torch.bfloat16)
    built = trainer(dtype="bfloat16")
    first = weights(built)
    built.run()
    assert {tensor.dtype for tensor in weights(built).values()} == {torch.float32}
    assert {p.dtype for model in built.model.model_list for p in model.parameters()} == {torch.bfloat16}
    assert any(not torch.equal(first[name], tensor) for name, tensor in weights(built).items())


def test_micro_batches_give_the_gradient_of_the_whole_batch(trainer) -> None:
    plain = {"dropout": 0.0, "variant": "fuse", "steps": 1}
    whole, parts = trainer("whole", **plain), trainer("parts", **plain, micro_batch_size=1)
    losses = [built.run()[1]["loss"].item() for built in (whole, parts)]
    norms = [
        built.run()[1]["gradient_norm"].item()
        for built in (trainer("w", **plain), trainer("p", **plain, micro_batch_size=3))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_loss_of_a_padded_batch_is_the_token_weighted_mean_of_its_rows(trainer) -> None:
    built = trainer()
    built.model.eval()
    for fuser in built.model.stacks[0].fusers:
        fuser.key_gate_logit.data.fill_(1.0)
    examples = built.training[:4]
    singles = [built.collate([example]) for example in examples]
    mean = sum(built._loss(s).item() * s.supervised for s in singles) / sum(s.supervised for s in singles)
    assert built._loss(built.collate(examples)).item() == pytest.approx(mean, rel=1e-5)


def test_the_temperature_falls_geometrically_from_first_to_last(trainer) -> None:
    built = trainer(steps=4)
    _, history = built.run()
    ratios = history["temperature"].to_numpy()[1:] / history["temperature"].to_numpy()[:-1]
    assert ratios == pytest.approx([0.001 ** (1 / 4)] * 3, rel=1e-4)
    assert history["temperature"][0] == pytest.approx(1.0)


def test_a_batch_shares_one_boundary_and_supervises_exactly_the_responses(pair, rows) -> None:
    examples = tokenise(rows, pair, "span", 64)[:4]
    batch = collate(examples, pair)
    fused, rest = (index.shape[1] for index in batch.kv_cache_index)
    assert fused == max(len(e.prompt.receiver_ids) for e in examples) - 1
    assert fused + rest == batch.input_ids.shape[1]
    for row, example in enumerate(examples):
        assert batch.labels[row][batch.labels[row] != IGNORED].tolist() == example.response_ids
        kept = batch.input_ids[row][batch.attention_mask[row] == 1].tolist()
        assert kept == example.prompt.receiver_ids + example.response_ids


def test_the_history_says_how_much_of_each_batch_was_pads(trainer) -> None:
    built = trainer()
    _, history = built.run()
    for share, indices in zip(history["padding"], built.progress.trained, strict=True):
        batch = built.collate([built.training[index] for index in indices])
        assert share == pytest.approx(float((batch.attention_mask == 0).float().mean()))


def test_a_person_sees_loss_speed_gates_and_each_validation(trainer, capsys) -> None:
    trainer(steps=3).run()
    shown = capsys.readouterr().err
    told = r"loss \d+\.\d+, \d+ tokens/s, gates open \d+%, temperature \d\.\d+, memory \d+\.\d GB"
    for step in (1, 2, 3):
        assert re.search(rf"^step {step} of 3: {told}, \d\d:\d\d left$", shown, re.MULTILINE)
    assert "\r" not in shown
    assert re.search(
        r"step 3: validation loss \d+\.\d{4} \(\d+\.\d{4} where the Sharer reads another prompt\), training loss", shown
    )


def test_examples_that_are_too_long_are_left_out_and_none_fitting_is_refused(pair, rows) -> None:
    lengths = [len(e.prompt.receiver_ids) + len(e.response_ids) for e in tokenise(rows, pair, "span", 64)]
    kept = tokenise(rows, pair, "span", min(lengths))
    assert len(kept) == lengths.count(min(lengths))
    with pytest.raises(RefusedError, match="must fit into max_length"):
        tokenise(rows, pair, "span", 2)


@pytest.mark.parametrize(
    ("text", "rule"),
    [('{"id": "1", "prompt": "a"}', "must have id, prompt and response"), ("", "at least one example")],
)
def test_a_broken_training_set_is_refused(tmp_path, text, rule) -> None:
    (tmp_path / "set.jsonl").write_text(text)
    with pytest.raises(RefusedError, match=rule):
        read_lines(tmp_path / "set.jsonl")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"steps": 0}, "steps must be a whole number of 1 to"),
        ({"variant": "ful"}, "Did you mean 'full'"),
        ({"warmup_ratio": 1.0}, "warmup_ratio"),
        ({"micro_batch_size": 999}, "micro_batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"validation_limit": -1}, "validation_limit"),
        ({"sharer_cache": "empty"}, "--sharer-cache"),
        ({"prompts": "chats"}, "--prompts"),
        ({"keep": "first"}, "--keep"),
        ({"dtype": "bfloat32"}, "--dtype"),
    ],
)
def test_impossible_settings_are_refused(changes, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        TrainingConfig(**changes)


@pytest.mark.slow
def test_a_run_killed_by_the_system_and_started_again_ends_with_the_bytes_of_a_whole_one_that_tokenised_by_itself(
    pair, rows, tmp_path
) -> None:
    lines, stored = save_inputs(tmp_path, pair, rows), tmp_path / "set.parquet"
    models = ("--receiver", str(tmp_path / "receiver"), "--sharer", str(tmp_path / "sharer"))
    assert main(["tokenise", *models, "--max-length", "64", "--data", str(lines), "--output", str(stored)]) == 0
    subprocess.run(command(tmp_path, "whole", {"data": lines, "validation": lines}), check=True, env=ENVIRONMENT)

    killed = subprocess.Popen(
        command(tmp_path, "killed", {"tokenised": stored}), env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    wait_for_step(killed, tmp_path / "checkpoints-killed")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()

    subprocess.run(command(tmp_path, "killed", {"tokenised": stored}), check=True, env=ENVIRONMENT, capture_output=True)
    assert same_files(tmp_path / "whole", tmp_path / "killed")
    assert not list((tmp_path / "checkpoints-killed").iterdir())
    check = RosettaModel.from_pretrained(
        tmp_path / "whole", receiver=tmp_path / "receiver", sharers=tmp_path / "sharer"
    ).contract_check
    assert check == ContractCheck()


def test_an_example_keeps_its_prompt_and_response_apart(pair, rows) -> None:
    example: Example = tokenise(rows, pair, "span", 64)[0]
    assert example.response_ids[-1] == pair.receiver.tokenizer.eos_token_id
    assert pair.receiver.tokenizer.decode(example.response_ids[:-1]).strip() == rows[0]["response"]


def test_fusers_trained_with_the_response_fused_say_so_and_are_used_so(pair, rows, tmp_path) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    config = TrainingConfig(**SMALL, response="fused")
    run = TrainingRun(
        receiver=str(tmp_path / pair.receiver.name),
        sharer=str(tmp_path / pair.sharer.name),
        recipe="c2c",
        config=config,
        data=tmp_path / "train.jsonl",
        validation=tmp_path / "validation.jsonl",
        checkpoints=tmp_path / "checkpoints",
        output=tmp_path / "fuser",
    )
    fused = train(run)["final"]["loss"]
    plain = train(replace(run, config=TrainingConfig(**SMALL), output=tmp_path / "plain"))["final"]["loss"]
    assert fused != plain
    for folder, expected in (("fuser", True), ("plain", False)):
        model = RosettaModel.from_pretrained(tmp_path / folder, receiver=run.receiver, sharers=run.sharer)
        assert model.include_response is expected


def test_fusers_whose_output_starts_at_zero_change_nothing_before_they_learn(trainer) -> None:
    built = trainer("zero", output_init="zero")
    batch = built.collate(built.training[:4])
    with torch.no_grad():
        built.model.eval()
        with built.model.restricted(gates="closed"):
            alone = float(built._loss(batch))
        with built.model.restricted(gates="open"):
            assert float(built._loss(batch)) == pytest.approx(alone, rel=1e-6)
    built.run()
    with torch.no_grad(), built.model.eval().restricted(gates="open"):
        assert float(built._loss(batch)) != pytest.approx(alone, rel=1e-6)
