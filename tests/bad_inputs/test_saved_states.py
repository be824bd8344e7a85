"""Saved states of a training that are spoilt on the disk: the step before is used, and this is said."""

# ruff: noqa: F401, F811 (pytest finds fixtures by the names of arguments)
from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c.errors import system_error
from c2c.provenance import file_hash, settings_hash
from c2c.training import state
from c2c.training.fusers import FuserLearner
from tests.bad_inputs.refusals import refused
from tests.training.conftest import pair, rows, trainer, weights

Spoil = Callable[[Path], object]
FILES = ("model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl", state.PROGRESS)


class CutOffError(Exception):
    """In the place of a kill."""


def cut_at(monkeypatch: pytest.MonkeyPatch, built: FuserLearner, step: int) -> None:
    """Train until a step is saved, and end there."""
    save = state.save

    def save_then_die(processes, folder, progress) -> None:
        save(processes, folder, progress)
        if progress.steps == step:
            raise CutOffError

    with monkeypatch.context() as patch, pytest.raises(CutOffError):
        patch.setattr(state, "save", save_then_die)
        built.run()


@pytest.fixture
def whole(trainer) -> tuple[dict[str, torch.Tensor], str]:
    """Weights and history of a training that nothing disturbed."""
    stack, history = trainer("whole").run()
    return dict(stack.state_dict()), history.to_csv()


@pytest.fixture
def cut(trainer, monkeypatch) -> FuserLearner:
    """A training that was cut off after step 4, with steps 2 and 4 saved."""
    cut_at(monkeypatch, trainer("cut"), 4)
    return trainer("cut")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_weights(path: Path) -> None:
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


def edited(step: Path, signed: bool, **changes: object) -> None:
    """Change `progress.json`, with the hash of its content made right or not."""
    content = json.loads((step / state.PROGRESS).read_text()) | changes
    own = {name: value for name, value in content.items() if name != "sha256"}
    content |= {"sha256": settings_hash(own)} if signed else {}
    (step / state.PROGRESS).write_text(json.dumps(content))


def exchanged(step: Path) -> None:
    """One file of the step before, as two trainings that wrote into one folder would leave it."""
    before = step.with_name("step-2")
    (step / "optimizer.bin").write_bytes((before / "optimizer.bin").read_bytes())


SPOILT: dict[str, Spoil] = {
    **{f"F22 {name} missing": lambda step, name=name: (step / name).unlink() for name in FILES},
    **{f"F22 {name} cut off": lambda step, name=name: half(step / name) for name in FILES},
    **{f"F17 {name} of 0 bytes": lambda step, name=name: (step / name).write_bytes(b"") for name in FILES},
    **{f"{name} with another bit": lambda step, name=name: one_bit(step / name) for name in FILES},
    "F18 weights exchanged": lambda step: other_weights(step / "model.safetensors"),
    "F16 another run's optimiser": exchanged,
    "progress of NULs": lambda step: (step / state.PROGRESS).write_bytes(b"\0" * 100),
    "progress that is a list": lambda step: (step / state.PROGRESS).write_text("[]"),
    "progress nested 100,000 times": lambda step: (step / state.PROGRESS).write_text("[" * 100_000),
    "progress that is edited": lambda step: edited(step, False, seconds=0),
    "progress of an earlier version": lambda step: edited(step, True, version=0),
    "progress without a version": lambda step: (step / state.PROGRESS).write_text('{"history": []}'),
    "progress of another step": lambda step: edited(step, True, history=[{"step": 1}]),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_step_that_is_not_as_it_was_saved_is_said_and_the_one_before_is_used(name, cut, capsys) -> None:
    SPOILT[name](cut.checkpoints / "step-4")
    assert state.resume(cut.processes, cut.checkpoints).steps == 2
    said = capsys.readouterr().err
    assert said.count("step-4 is not used") == 1 and "resumes from step-2" in said
    assert len(said) < 1000


def test_a_training_whose_last_step_was_spoilt_ends_with_the_same_bits(cut, whole, capsys) -> None:
    (cut.checkpoints / "step-4" / "random_states_0.pkl").unlink()
    stack, history = cut.run()
    assert all(torch.equal(tensor, whole[0][name]) for name, tensor in stack.state_dict().items())
    assert history.to_csv() == whole[1]
    assert state.steps_of(cut.checkpoints) == [2, 4], "the spoilt step is saved again"
    capsys.readouterr()
    assert state.resume(cut.processes, cut.checkpoints).steps == 4
    assert capsys.readouterr().err == ""


def test_without_a_step_that_can_be_used_the_training_begins_anew_and_says_so(
    cut,
    whole,
    trainer,
    capsys,
) -> None:
    for step in (2, 4):
        half(cut.checkpoints / f"step-{step}" / "optimizer.bin")
    stack, history = trainer("cut").run()
    said = capsys.readouterr().err
    assert "step-4 is not used" in said and "step-2 is not used" in said and "begins anew" in said
    assert all(torch.equal(tensor, whole[0][name]) for name, tensor in stack.state_dict().items())
    assert history.to_csv() == whole[1]


@pytest.mark.parametrize("name", ["step-old", "step-", "step-4x", "step--1", "step-9" * 40, "step-99", "step-1e3"])
def test_f20_a_stray_folder_is_no_step(name, cut) -> None:
    (cut.checkpoints / name).mkdir()
    assert state.resume(cut.processes, cut.checkpoints).steps == 4
    cut.run()


def test_f20_a_stray_file_is_no_step(cut) -> None:
    (cut.checkpoints / "step-7").write_text("x")
    assert state.resume(cut.processes, cut.checkpoints).steps == 4


@pytest.mark.parametrize("signed", [True, False], ids=["sound", "with keys that are not known"])
def test_f19_a_step_of_a_newer_version_is_refused(signed, cut) -> None:
    edited(cut.checkpoints / "step-4", signed, version=2, new={})
    with refused("version 2", "step-4", "remove"):
        state.resume(cut.processes, cut.checkpoints)


def test_states_that_do_not_fit_this_training_are_refused(cut, trainer) -> None:
    other = trainer("other", hidden_dim=16)
    with refused("Saved states must fit", "remove"):
        state.resume(other.processes, cut.checkpoints)


def test_random_states_that_accelerate_cannot_set_are_refused_though_it_goes_on(cut) -> None:
    step = cut.checkpoints / "step-4"
    states = torch.load(step / "random_states_0.pkl", weights_only=False)
    states["random_state"] = (3, (0,), None)
    torch.save(states, step / "random_states_0.pkl")
    files = json.loads((step / state.PROGRESS).read_text())["files"]
    edited(step, True, files={**files, "random_states_0.pkl": file_hash(step / "random_states_0.pkl")})
    with refused("random states of every process must be those that were saved"):
        state.resume(cut.processes, cut.checkpoints)


def test_the_next_random_numbers_are_those_of_before(cut) -> None:
    drawn = []
    for _ in range(2):
        state.resume(cut.processes, cut.checkpoints)
        drawn.append((random.random(), torch.rand(3).tolist()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("spoil", [half, one_bit, Path.unlink], ids=["cut off", "with another bit", "missing"])
def test_a_kept_step_that_is_spoilt_is_trained_again(spoil, trainer, monkeypatch, capsys) -> None:
    settings = {"keep_steps": (3,)}
    whole_run = trainer("whole", **settings)
    whole_run.run()
    cut_at(monkeypatch, trainer("cut", **settings), 4)
    resumed = trainer("cut", **settings)
    spoil(resumed.checkpoints / "kept-3.safetensors")
    resumed.run()
    assert "step-4 is not used: kept-3.safetensors" in capsys.readouterr().err
    expected = whole_run.stack_at(3).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.stack_at(3).state_dict().items())
    one_bit(resumed.checkpoints / "kept-3.safetensors")
    with refused("kept-3.safetensors", "SHA-256"):
        resumed.stack_at(3)


def test_the_best_weights_are_a_file_of_the_step_like_the_others(trainer, monkeypatch, capsys) -> None:
    settings = {"keep": "best", "evaluate_every": 1}
    stack, _ = trainer("whole", **settings).run()
    cut_at(monkeypatch, trainer("cut", **settings), 4)
    resumed = trainer("cut", **settings)
    one_bit(resumed.checkpoints / "step-4" / state.BEST)
    again, _ = resumed.run()
    assert "step-4 is not used: best.safetensors has changed" in capsys.readouterr().err
    expected = stack.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())


def parameters(learner: FuserLearner) -> dict[str, torch.Tensor]:
    """What the optimiser changes, copied; the gates' temperature follows the steps."""
    return {name: tensor.detach().clone() for name, tensor in learner.module.named_parameters()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_training_at_its_step(value, trainer, monkeypatch) -> None:
    built = trainer()
    loss, before = FuserLearner._loss, {}

    def spoilt(self: FuserLearner, batch):
        if not self.model.training or self.progress.steps < 4:
            return loss(self, batch)
        if not before:
            before.update(parameters(self))
        return loss(self, batch) * value

    monkeypatch.setattr(FuserLearner, "_loss", spoilt)
    with refused("loss must be a finite number", "at step 5 of 6", "step 4 in", "learning_rate"):
        built.run()
    # Losses are read at the next evaluation; no step was made of them until then.
    assert built.progress.steps == 6
    assert all(torch.equal(tensor, before[name]) for name, tensor in parameters(built).items())
    assert state.steps_of(built.checkpoints) == [2, 4]


def test_gradients_that_are_not_finite_stop_the_training_before_they_spoil_the_weights(trainer) -> None:
    built = trainer()
    before = parameters(built)
    next(built.module.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with refused("norm of the gradients must be", "at step 1 of 6", "no step"):
        built.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in parameters(built).items())


def test_a_validation_loss_that_is_not_finite_stops_the_training(trainer, monkeypatch) -> None:
    monkeypatch.setattr(FuserLearner, "loss_on", lambda self, examples: float("nan"))
    with refused("validation loss must be a finite number", "at step 3 of 6", "step 2 in"):
        trainer().run()


def test_a_librarys_own_words_for_a_full_disk_are_an_error_of_the_system() -> None:
    full = system_error(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert full is not None and full.errno == 28
    assert system_error(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"))
    assert system_error(RuntimeError("CUDA error")) is None and system_error(OSError("of a library")) is None
