"""Validation: what is watched, with the Sharer's readings and with swapped ones, and which weights it keeps."""

from __future__ import annotations

import json

import pytest
import torch

from c2c.training.config import TrainingConfig
from c2c.training.fusers import FuserLearner, TrainingRun
from c2c.training.run import train
from tests.training.conftest import SMALL, weights


def test_the_validation_loss_with_swapped_readings_is_another_one_where_a_gate_is_open_and_the_same_where_none_is(
    trainer,
) -> None:
    built = trainer("swapped")
    stack = built.accelerator.unwrap_model(built.stack)
    for own, other in zip(built.validation, built.deranged, strict=True):
        assert own.prompt.sharer_ids != other.prompt.sharer_ids or own.response_ids != other.response_ids
        assert (own.prompt.receiver_ids, own.response_ids) == (other.prompt.receiver_ids, other.response_ids)
    for opened in (False, True):
        stack.force_gates(opened)
        matched, swapped = built.loss_on(built.validation), built.loss_on(built.deranged)
        assert (matched == pytest.approx(swapped, abs=1e-6)) != opened


def test_the_history_holds_a_loss_with_swapped_readings_but_for_a_sharer_of_zeros(trainer) -> None:
    for cache, there in (("own", True), ("zeroed", False)):
        _, history = trainer(cache, sharer_cache=cache).run()
        checked = history.dropna(subset=["validation_loss"])
        assert len(checked) and checked["validation_deranged_loss"].notna().all() == there


@pytest.mark.parametrize("cut", [False, True])
def test_the_best_weights_on_the_validation_set_are_kept_if_asked_for_and_survive_an_interruption(
    trainer, monkeypatch, cut
) -> None:
    losses, snapshots = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.0, 5: 4.0, 6: 5.0}, {}

    def loss_on(self: FuserLearner, examples: object) -> float:
        step = self.progress.steps
        if cut and step == 5 and 5 not in snapshots:
            snapshots[5] = {}
            raise KeyboardInterrupt
        snapshots[step] = weights(self)
        return losses[step]

    monkeypatch.setattr(FuserLearner, "loss_on", loss_on)
    settings = {"keep": "best", "evaluate_every": 1}
    built = trainer(**settings)
    if cut:
        with pytest.raises(KeyboardInterrupt):
            built.run()
        built = trainer(**settings)
    stack, _ = built.run()
    assert built.progress.best_step == 2
    assert all(torch.equal(tensor, snapshots[2][name]) for name, tensor in stack.state_dict().items())
    assert any(not torch.equal(tensor, snapshots[6][name]) for name, tensor in stack.state_dict().items())


@pytest.mark.parametrize(("limit", "watched"), [(0, 10), (3, 3)])
def test_a_validation_limit_watches_the_first_examples_only(pair, rows, tmp_path, monkeypatch, limit, watched) -> None:
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    monkeypatch.setattr("c2c.training.fusers.load_pair", lambda *_: pair)
    monkeypatch.setattr("c2c.training.run.model_state", lambda source: [source, "0" * 64])
    files = {name: tmp_path / "set.jsonl" for name in ("data", "validation")}
    folders = {name: tmp_path / name for name in ("checkpoints", "output")}
    config = TrainingConfig(**{**SMALL, "steps": 1, "validation_limit": limit, "max_length": 64})
    done = train(TrainingRun(receiver="", sharer="", recipe="c2c", config=config, **files, **folders))
    assert done["examples"] == {"training": 10, "validation": watched}
