"""Fusers of earlier steps are kept as complete checkpoints, also over an interruption."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from c2c import RosettaModel
from c2c.checkpoints.checkpoint_folder import read_config
from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.training.config import TrainingConfig, read_steps
from c2c.training.fusers import FuserLearner
from tests.training.conftest import SMALL, weights


@pytest.fixture
def watched(monkeypatch) -> dict[int, dict[str, torch.Tensor]]:
    """The weights at the end of each step."""
    snapshots: dict[int, dict[str, torch.Tensor]] = {}
    step = FuserLearner._step

    def remember(self: FuserLearner, number: int, indices):
        done = step(self, number, indices)
        snapshots[number] = weights(self)
        return done

    monkeypatch.setattr(FuserLearner, "_step", remember)
    return snapshots


@pytest.mark.parametrize("cut_at", [None, 5], ids=["whole", "cut off"])
def test_the_fusers_of_a_kept_step_are_those_that_there_were_after_it(trainer, watched, monkeypatch, cut_at) -> None:
    settings = {"keep_steps": (1, 3), "evaluate_every": 1}
    if cut_at:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(FuserLearner, "_validate", _cut(cut_at))
            trainer(**settings).run()
    built = trainer(**settings)
    stack, _ = built.run()
    for step in (1, 3):
        kept = built.stack_at(step)
        assert not kept.training and kept is not built.stack
        assert all(torch.equal(tensor, watched[step][name]) for name, tensor in kept.state_dict().items())
    assert all(torch.equal(tensor, watched[6][name]) for name, tensor in stack.state_dict().items())
    assert list(built.progress.seconds_at) == ["1", "3"]
    seconds = [*built.progress.seconds_at.values(), built.progress.seconds]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def _cut(at: int):
    def validate(self: FuserLearner, progress) -> None:
        progress.history[-1]["validation_loss"] = 1.0
        if progress.steps >= at:
            raise KeyboardInterrupt

    return validate


def test_the_command_writes_a_complete_checkpoint_for_each_kept_step_and_no_stale_one(pair, rows, tmp_path) -> None:
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "fuser.steps/step5").mkdir(parents=True)
    given = SMALL | {name: tmp_path / name for name in ("receiver", "sharer", "checkpoints")}
    given |= {"data": tmp_path / "set.jsonl", "validation": tmp_path / "set.jsonl", "output": tmp_path / "fuser"}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["train", *flags, "--keep-steps", "2,4"]) == 0
    assert sorted(path.name for path in (tmp_path / "fuser.steps").iterdir()) == ["step2", "step4"]
    final = load_file(tmp_path / "fuser/model.safetensors")
    for step in (2, 4):
        folder = tmp_path / f"fuser.steps/step{step}"
        assert read_config(folder)["about"] | {"step": 0} == read_config(tmp_path / "fuser")["about"] | {"step": 0}
        assert read_config(folder)["about"]["step"] == step
        models = {"receiver": tmp_path / "receiver", "sharers": tmp_path / "sharer"}
        assert RosettaModel.from_pretrained(folder, **models).contract_check.accepted == ()
        assert any(
            not torch.equal(tensor, final[name]) for name, tensor in load_file(folder / "model.safetensors").items()
        )
    assert main(["train", *flags, "--kept", str(tmp_path / "none")]) == 0
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize("steps", [(0,), (6,), (2, 7)])
def test_a_step_that_is_not_trained_or_is_the_last_is_refused(steps) -> None:
    with pytest.raises(RefusedError, match="keep_steps must lie between 1 and 5"):
        TrainingConfig(**SMALL, keep_steps=steps)


def test_steps_are_read_from_a_flag() -> None:
    assert (read_steps("50, 100"), read_steps("7"), read_steps("")) == ((50, 100), (7,), ())
    with pytest.raises(RefusedError, match="whole numbers"):
        read_steps("50;100")
