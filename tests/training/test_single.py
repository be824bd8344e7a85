"""Fine-tuning the Receiver itself: it learns, it is resumed exactly, and its records stand among its pair's."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from c2c.cli.main import main
from c2c.models.loading import LoadedModel, load_model
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.single import SingleLearner
from paper.reading.answers import arm_name
from tests.training.conftest import SMALL, tokenise


@pytest.fixture
def learner(tiny_model, word_tokenizer, pair, rows, tmp_path):
    examples = tokenise(rows, pair, "span", 64)

    def build(folder: str = "checkpoints", **changes) -> SingleLearner:
        receiver = LoadedModel("receiver", tiny_model("qwen3", vocab=len(word_tokenizer)), word_tokenizer)
        config = TrainingConfig(**{**SMALL, "learning_rate": 1e-2, **changes})
        return SingleLearner(receiver, config, examples, examples[:3], tmp_path / folder)

    return build


def weights(built: SingleLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in built.module.state_dict().items()}


def test_every_weight_learns_and_the_loss_falls(learner) -> None:
    built = learner(steps=30)
    before = weights(built)
    history = built.learn()
    after = weights(built)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert history["loss"].iloc[-5:].mean() < 0.5 * history["loss"].iloc[:5].mean()


@torch.no_grad()
def test_the_loss_is_that_of_the_responses_after_their_prompts(learner) -> None:
    built = learner()
    examples = built.training[:4]
    batch = built.collate(examples)
    loss, supervised = built._loss(batch), batch.supervised
    model, total, count = built.receiver.model.eval(), 0.0, 0
    for prompt, response, _ in examples:
        ids = torch.tensor([[*prompt.receiver_ids, *response]])
        steps = model(ids).logits[0, len(prompt.receiver_ids) - 1 : -1].log_softmax(-1)
        total -= float(steps[range(len(response)), response].sum())
        count += len(response)
    assert supervised == count
    assert float(loss) == pytest.approx(total / count, abs=1e-4)


def test_bfloat16_is_what_it_computes_in_while_weights_and_moments_stay_float32(learner) -> None:
    exact, reduced = learner("exact", steps=2), learner("reduced", steps=2, dtype="bfloat16")
    batch = exact.collate(exact.training[:4])
    with torch.no_grad():
        one, other = (float(built._loss(batch)) for built in (exact, reduced))
    assert one != other and other == pytest.approx(one, rel=2e-2)
    reduced.learn()
    moments = [each for state in reduced.optimizer.state.values() for each in state.values()]
    assert {each.dtype for each in [*weights(reduced).values(), *moments]} == {torch.float32}


def test_micro_batches_learn_what_the_whole_batch_does(learner) -> None:
    whole, parts = learner("whole", steps=2), learner("parts", steps=2, micro_batch_size=1)
    whole.learn(), parts.learn()
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], atol=1e-4, rtol=1e-3)


def test_a_run_cut_off_and_resumed_ends_with_the_same_bits(learner, monkeypatch) -> None:
    whole = learner("whole")
    history = whole.learn()
    cut, save = learner("cut"), state.save

    def save_then_die(processes, folder, progress) -> None:
        save(processes, folder, progress)
        if progress.steps == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        cut.learn()
    monkeypatch.setattr(state, "save", save)
    resumed = learner("cut")
    assert resumed.learn().to_csv() == history.to_csv()
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())
    resumed.forget_checkpoints()
    assert not resumed.checkpoints.exists()


def test_the_weights_that_are_best_on_the_validation_set_are_kept_if_asked_for(learner, monkeypatch) -> None:
    losses, snapshots = {2: 1.0, 4: 3.0, 6: 2.0}, {}

    def loss_on(self: SingleLearner, examples: object) -> float:
        snapshots[self.progress.steps] = weights(self)
        return losses[self.progress.steps]

    monkeypatch.setattr(SingleLearner, "loss_on", loss_on)
    built = learner(keep="best", evaluate_every=2, keep_steps=(1,))
    built.learn()
    assert built.progress.best_step == 2 and not list(built.checkpoints.glob("kept-*"))
    assert all(torch.equal(tensor, snapshots[2][name]) for name, tensor in weights(built).items())


@pytest.fixture
def files(pair, rows, tmp_path) -> dict[str, Path]:
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    given = ["--receiver", str(tmp_path / "receiver"), "--sharer", str(tmp_path / "sharer"), "--max-length", "64"]
    assert main(["tokenise", *given, "--data", str(lines), "--output", str(tmp_path / "tokens.parquet")]) == 0
    return {"tokens": tmp_path / "tokens.parquet", "output": tmp_path / "single" / "seed0.json", "folder": tmp_path}


def command(files: dict[str, Path], **changes: str) -> list[str]:
    folder = files["folder"]
    given = {"receiver": folder / "receiver", "sharer": folder / "sharer", "checkpoints": folder / "checkpoints",
             "output": files["output"], "max-length": 64, "steps": 3, "batch-size": 4, "evaluate-every": 3,
             "learning-rate": 1e-2, **changes}  # fmt: skip
    flags = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return ["train-single", *flags, "--tokenised", str(files["tokens"]), str(files["tokens"])]


def test_the_trained_receiver_is_a_model_that_is_asked_under_its_own_recipe(files) -> None:
    assert main(command(files)) == 0
    trained = load_model(files["output"])
    assert trained.name.endswith("receiver")
    own = load_model(files["folder"] / "receiver").model.state_dict()
    assert any(not torch.equal(own[name], tensor) for name, tensor in trained.model.state_dict().items())
    assert len(pd.read_csv(files["output"].with_suffix("") / "history.csv")) == 3
    assert not list((files["folder"] / "checkpoints").glob("*/step-*"))


def test_what_was_trained_in_bfloat16_is_written_in_float32_and_its_provenance_says_both(files) -> None:
    assert main(command(files, dtype="bfloat16")) == 0
    folder, provenance = files["output"].with_suffix(""), files["output"].with_name("seed0.json.provenance.json")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    told = json.loads(provenance.read_text())["training"]["precision"]
    assert told == {"weights": "float32", "computes": "bfloat16"}


def test_float16_is_refused_before_anything_is_read(files, capsys) -> None:
    assert main(command(files, dtype="float16", receiver="nowhere")) == 2
    assert "small gradients vanish in float16; received 'float16'" in capsys.readouterr().err


def test_sets_that_were_tokenised_otherwise_are_refused(files, capsys) -> None:
    assert main(command(files, **{"max-length": "32"})) == 2
    assert "made for this training: max_length 32" in capsys.readouterr().err


def test_an_arm_of_a_fine_tuned_receiver_has_the_name_of_its_recipe() -> None:
    assert arm_name("single", "receiver") == "single"
    assert arm_name("", "receiver") == "receiver"
