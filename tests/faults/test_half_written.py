"""Killed at any change to a file, the writers of results and checkpoints leave nothing that passes for finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pyarrow as pa
import pytest
import torch

from benchmarks.world import pretrain
from c2c.checkpoints import checkpoint
from c2c.evaluation import schema
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.store import AnswerStore
from c2c.evaluation.methods import routing
from c2c.evaluation.questions.question import Question
from c2c.fuser.stack import FuserStack
from c2c.models.contract import describe_model
from c2c.provenance import file_hash, stamp
from c2c.storage.files import write_atomically
from c2c.training import state, tokenised_set
from c2c.training.processes import Processes
from paper.figures import style
from tests.faults.broken import broken_files
from tests.faults.crash_points import announced, killed_at_each_change

NUMBERS = pa.schema([("number", pa.int32())])


def figure(stem: Path) -> None:
    drawn, (axis,) = style.panels(1, 1, 1.0)
    axis.plot([1, 2])
    style.save(drawn, stem)
    plt.close(drawn)


def stamped(path: Path) -> None:
    with stamp(path):
        write_atomically(path, "{}\n")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "text": lambda folder: write_atomically(folder / "text.json", json.dumps(list(range(100)))),
    "stamp": lambda folder: stamped(folder / "stamped.json"),
    "records": lambda folder: schema.write_records(pd.DataFrame({"number": [1]}), folder / "some.parquet", NUMBERS),
    "tokenised": lambda folder: tokenised_set.write_tokenised(folder / "set.parquet", [], {"version": 1}, {}),
    "figure": lambda folder: figure(folder / "figure"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_has_its_name_when_it_is_whole_and_the_next_run_leaves_nothing_else(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(schema.pq, "write_table", announced(schema.pq.write_table, 1))
    monkeypatch.setattr(tokenised_set.pq, "ParquetWriter", announced(tokenised_set.pq.ParquetWriter, 0))
    results = tmp_path / "results"
    kills = 0
    for change in killed_at_each_change(results, lambda: WRITERS[name](results)):
        kills += bool(change)
        assert [each for each in broken_files(results) if not each.startswith(".")] == []
    assert kills > 2, "the folder, the file and its name are three changes"
    assert any(results.iterdir()) and broken_files(results) == []


STATES = ("model.safetensors", "optimizer.bin", "random_states_0.pkl")


def save_states(folder: str, safe_serialization: bool) -> None:
    """In the place of accelerate."""
    Path(folder).mkdir(parents=True)
    for name in STATES:
        (Path(folder) / name).write_text("saved")


class Alone(Processes):
    """One process of one, which broadcasts to nobody."""

    def agree(self, text: str) -> str:
        return text


def saved(folder: Path, steps: int) -> None:
    history = [{"step": step + 1} for step in range(steps)]
    accelerator = SimpleNamespace(save_state=save_states, num_processes=1, process_index=0)
    state.save(Alone(accelerator), folder, state.Progress(history=history))  # type: ignore[arg-type]


def resumable(folder: Path) -> list[int]:
    """The steps that say of themselves that they are complete; each of them is, and `resume` takes the last one."""
    steps = [path.parent for path in folder.glob(f"step-*/{state.PROGRESS}")]
    for step in steps:
        assert {path.name for path in step.iterdir()} == {*STATES, state.PROGRESS}
        assert len(json.loads((step / state.PROGRESS).read_text())["history"]) == int(step.name.split("-")[1])
        assert (step / "optimizer.bin").read_text() == "saved"
    numbers = sorted(int(step.name.split("-")[1]) for step in steps)
    assert state._last_step(folder, 1) == (f"step-{numbers[-1]}" if numbers else "")
    return numbers


def test_a_training_that_is_killed_while_it_saves_can_be_resumed_from_this_step_or_the_one_before(tmp_path) -> None:
    folder = tmp_path / "checkpoints"
    saved(folder, 9)
    found = []
    for _ in killed_at_each_change(folder, lambda: saved(folder, 10)):
        found.append(resumable(folder))
        assert found[-1], "nothing is left to resume from"
    assert found[0] == [9] and found[-1] == [9, 10]
    assert sorted(path.name for path in folder.iterdir()) == ["step-10", "step-9"]
    saved(folder, 11)
    assert resumable(folder) == [10, 11], "the last two are kept"


def test_a_training_that_is_killed_while_it_removes_its_checkpoints_resumes_from_a_complete_one_or_none(
    tmp_path,
) -> None:
    folder = tmp_path / "checkpoints"
    kills = []

    def remade() -> None:
        """Two steps, as there always are."""
        shutil.rmtree(folder, ignore_errors=True)
        saved(folder, 1)
        saved(folder, 2)

    remade()
    for change in killed_at_each_change(folder, lambda: state.forget(folder)):
        kills.append(resumable(folder) if change else [])
        if change:
            remade()
    assert [1, 2] in kills and [2] in kills and not folder.exists()


def test_a_checkpoint_beside_a_half_removed_one_of_a_later_step_is_kept(tmp_path) -> None:
    (tmp_path / "step-20").mkdir()
    saved(tmp_path, 10)
    assert resumable(tmp_path) == [10]
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]


def question(number: int) -> Question:
    return Question("some", number, {"id": str(number)}, f"prompt {number}", "gold")


def known(folder: Path, numbers: range) -> list[int]:
    store = AnswerStore(folder)
    return [number for number in numbers if store.get("receiver", question(number)) == Answer(output_text=str(number))]


def kept(folder: Path, numbers: range) -> None:
    store = AnswerStore(folder)
    for number in numbers:
        store.put("receiver", [question(number)], [Answer(output_text=str(number))])


def test_answers_are_kept_whole_or_not_at_all(tmp_path) -> None:
    kept(tmp_path, range(2))
    for _ in killed_at_each_change(tmp_path, lambda: kept(tmp_path, range(2, 4))):
        assert known(tmp_path, range(2)) == [0, 1]
    assert known(tmp_path, range(5)) == [0, 1, 2, 3]


@pytest.mark.parametrize("removed", range(4))
def test_a_batch_that_is_kept_overwrites_none_that_a_killed_removal_left(removed, tmp_path) -> None:
    kept(tmp_path, range(4))
    sorted(tmp_path.iterdir())[removed].unlink()
    kept(tmp_path, range(4, 5))
    assert known(tmp_path, range(5)) == [number for number in range(5) if number != removed]


def test_a_router_that_is_half_written_over_another_is_the_old_or_the_new_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(routing, "save_file", announced(routing.save_file, 1))
    old, new = (routing.Router(routing.MatrixFactorisation(4, 2), {"receiver": name}) for name in ("old", "new"))
    old.save(tmp_path)
    read = []
    for change in killed_at_each_change(tmp_path, lambda: new.save(tmp_path)):
        found = routing.Router.load(tmp_path)
        weights = {"old": old, "new": new}[found.about["receiver"]].network.state_dict()
        assert all(torch.equal(weights[name], each) for name, each in found.network.state_dict().items())
        read.append(found.about["receiver"])
        if change:
            old.save(tmp_path)
    assert [each for each, _ in groupby(read)] == ["old", "new"]


def test_fusers_that_are_half_written_over_others_are_the_old_or_the_new_ones(
    tiny_model, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(checkpoint, "save_file", announced(checkpoint.save_file, 1))
    model = tiny_model("qwen3")
    lines = {"receiver": describe_model(model), "sharer": describe_model(model)}

    def save(about: str) -> None:
        stack = FuserStack.between(model.config, model.config, hidden_dim=8, intermediate_dim=8)
        checkpoint.save_stack(stack, tmp_path / "fusers", **lines, about={"recipe": about})

    save("old")
    read = []
    for _ in killed_at_each_change(tmp_path / "fusers", lambda: save("new")):
        read.append(checkpoint.load_stack(tmp_path / "fusers")[1]["recipe"])
    assert [recipe for recipe, _ in groupby(read)] == ["old", "new"]
    assert len(list((tmp_path / "fusers").iterdir())) == 3


def test_a_model_that_is_half_written_over_another_has_no_manifest(tiny_model, word_tokenizer, tmp_path) -> None:
    folder, manifest = tmp_path / "model", tmp_path / "model.json"
    pretrain.save(tiny_model("qwen3"), word_tokenizer, folder)
    seen = []
    for change in killed_at_each_change(
        tmp_path, lambda: pretrain.save(tiny_model("qwen3", seed=1), word_tokenizer, folder)
    ):
        seen.append(manifest.is_file())
        if manifest.is_file():
            assert json.loads(manifest.read_text())["revision"] == file_hash(folder / "model.safetensors")
        if change:
            pretrain.save(tiny_model("qwen3"), word_tokenizer, folder)
    assert seen[0] and not all(seen) and seen[-1]
