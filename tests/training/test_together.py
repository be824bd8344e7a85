"""Fusers that are trained together have the bytes of fusers that are trained alone, also after a kill."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.rosetta import RosettaModel
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.fusers import FuserLearner, TrainingRun
from c2c.training.run import train
from c2c.training.together import SharedPasses, train_together
from tests.training.command import save_inputs

SETTINGS = {
    "steps": 7,
    "batch_size": 4,
    "hidden_dim": 8,
    "intermediate_dim": 8,
    "evaluate_every": 3,
    "checkpoint_every": 2,
    "keep_steps": (2, 5),
    "max_length": 64,
    "dropout": 0.1,
    "order_seed": 3,
}
RUNS = {
    "c2c-0": {"seed": 0},
    "c2c-1": {"seed": 1},
    "adapter-0": {"seed": 0, "sharer_cache": "zeroed"},
    "ungated-0": {"seed": 0, "variant": "ungated", "keep": "best"},
}
FILES = ("model.safetensors", "config.json", "manifest.json", "history.csv", "gates.csv", "order.parquet")


@pytest.fixture
def folder(pair, rows, tmp_path) -> Path:
    save_inputs(tmp_path, pair, rows)
    return tmp_path


def runs_of(folder: Path, place: str, **changes) -> list[TrainingRun]:
    return [
        TrainingRun(
            receiver=str(folder / "receiver"),
            sharer=str(folder / "sharer"),
            recipe=name.partition("-")[0],
            config=TrainingConfig(**{**SETTINGS, **settings, **changes}),
            data=folder / "set.jsonl",
            validation=folder / "set.jsonl",
            checkpoints=folder / f"checkpoints-{place}",
            output=folder / place / name,
        )
        for name, settings in RUNS.items()
    ]


def bytes_of(folder: Path, place: str) -> dict[str, bytes]:
    files = {f"{name}/{file}": folder / place / name / file for name in RUNS for file in FILES}
    steps = {
        f"{name}/{step}": folder / place / f"{name}.steps" / f"step{step}" / "model.safetensors"
        for name in RUNS
        for step in SETTINGS["keep_steps"]
    }
    return {name: path.read_bytes() for name, path in {**files, **steps}.items()}


@pytest.mark.parametrize("micro_batch_size", [0, 3])
def test_fusers_that_train_together_have_the_bytes_of_those_that_train_alone(folder: Path, micro_batch_size) -> None:
    train_together(runs_of(folder, "together", micro_batch_size=micro_batch_size))
    for run in runs_of(folder, "alone", micro_batch_size=micro_batch_size):
        train(run)
    assert bytes_of(folder, "together") == bytes_of(folder, "alone")
    assert not any((folder / "checkpoints-together").glob("*/step-*"))


def test_a_memo_without_room_changes_nothing(folder: Path) -> None:
    train_together(runs_of(folder, "together"))
    train_together(runs_of(folder, "no-room"), memo_bytes=0)
    assert bytes_of(folder, "together") == bytes_of(folder, "no-room")


def test_one_pass_of_each_frozen_model_serves_all_runs(folder: Path, monkeypatch) -> None:
    passes = []
    read_sharer = RosettaModel.read_sharer

    def count(self, sharer, sharer_input, *arguments):
        if not sharer_input.zeroed and sharer_input.layers is None:
            passes.append(sharer)
        return read_sharer(self, sharer, sharer_input, *arguments)

    monkeypatch.setattr(RosettaModel, "read_sharer", count)
    runs = [run for run in runs_of(folder, "together", evaluate_every=7, keep_steps=()) if run.recipe == "c2c"]
    train_together(runs)
    together = len(passes)
    train(runs[0])
    # The deranged validation and the gates depend on the run; a step's batch and the validation do not.
    assert together < 2 * (len(passes) - together)


@pytest.mark.parametrize("killed", [(4, 1), (5, 0), (6, 3)])
def test_runs_that_were_killed_at_different_steps_resume_with_the_same_bytes(folder: Path, monkeypatch, killed) -> None:
    train_together(runs_of(folder, "whole"))
    save, saves = state.save, []

    def cut(processes, checkpoints, progress):
        # Some of the runs have saved this step, the others the one before.
        if progress.steps == killed[0] // 2 * 2 and len(saves) % len(RUNS) == killed[1]:
            raise KeyboardInterrupt
        saves.append(progress.steps)
        save(processes, checkpoints, progress)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state, "save", cut)
        train_together(runs_of(folder, "cut"))
    train_together(runs_of(folder, "cut"))
    assert bytes_of(folder, "cut") == bytes_of(folder, "whole")


def test_the_time_of_shared_passes_is_divided_among_the_runs_that_use_them(folder: Path, monkeypatch) -> None:
    # A clock on which a pass takes a second, and nothing else any time
    seconds = [0.0]
    build, read_prefix, write = SharedPasses.__init__, SharedPasses._read_prefix, TrainingRun.write

    def counted(read):
        def call(*arguments):
            seconds[0] += 1
            return read(*arguments)

        return call

    def build_counted(self, *arguments) -> None:
        build(self, *arguments)
        monkeypatch.setattr(self.model, "read_sharer", counted(self.model.read_sharer))

    passes = []
    monkeypatch.setattr("time.perf_counter", lambda: seconds[0])
    monkeypatch.setattr(SharedPasses, "__init__", build_counted)
    monkeypatch.setattr(SharedPasses, "_read_prefix", counted(read_prefix))
    monkeypatch.setattr(TrainingRun, "write", lambda *arguments: passes.append(seconds[0]) or write(*arguments))
    costs = [training["cost"] for training in train_together(runs_of(folder, "together", keep_steps=(2,)))]
    # Each second until the outputs are written is some run's, once.
    own, shared = [cost["seconds"]["7"] for cost in costs], [cost["shared"]["seconds"]["7"] for cost in costs]
    assert sum(own) + sum(shared) == pytest.approx(passes[0])
    assert [cost["shared"]["runs"] for cost in costs] == [len(RUNS)] * len(RUNS)
    # What one run alone reads, the deranged validation of a seed, is its own; runs of one seed share that too. An
    # adapter has no share of the Sharer's passes.
    shares, alone = (dict(zip(RUNS, values, strict=True)) for values in (shared, own))
    assert alone["c2c-1"] > 0 and alone["c2c-0"] == alone["adapter-0"] == alone["ungated-0"] == pytest.approx(0)
    assert 0 < shares["adapter-0"] < shares["c2c-1"] < shares["c2c-0"] == pytest.approx(shares["ungated-0"])
    # A kept step has the part of its own steps.
    for cost in costs:
        assert 0 < cost["shared"]["seconds"]["2"] < cost["shared"]["seconds"]["7"]


def test_adapters_alone_never_run_the_sharer(folder: Path, monkeypatch) -> None:
    runs = [run for run in runs_of(folder, "together") if run.recipe == "adapter"]
    monkeypatch.setattr(RosettaModel, "running", lambda *arguments: pytest.fail("the Sharer runs"))
    train_together(runs)


def test_states_of_a_step_are_dropped_when_all_runs_have_done_it(folder: Path, monkeypatch) -> None:
    forgotten = []
    forget = SharedPasses.forget
    monkeypatch.setattr(SharedPasses, "forget", lambda self: forgotten.append(self.bytes) or forget(self))
    train_together(runs_of(folder, "together"))
    assert len(forgotten) > SETTINGS["steps"] and forgotten[1] > 0


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"order_seed": -1}, "must have the same order_seed, 0"),
        ({"response": "fused"}, "leave the response unfused"),
        ({"micro_batch_tokens": "auto"}, "must have a number of micro_batch_tokens"),
    ],
)
def test_runs_that_cannot_share_passes_are_refused(folder: Path, changes, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        train_together(runs_of(folder, "together", **changes))


def test_a_run_that_is_not_finite_is_named(folder: Path, monkeypatch) -> None:
    loss = FuserLearner._loss
    monkeypatch.setattr(
        FuserLearner, "_loss", lambda self, batch: loss(self, batch) * (math.nan if self.config.seed else 1)
    )
    with pytest.raises(RefusedError, match="nan at together/c2c-1 step 1 of 7"):
        train_together(runs_of(folder, "together"))


def test_runs_of_one_output_are_refused(folder: Path) -> None:
    runs = runs_of(folder, "together")
    with pytest.raises(RefusedError, match="must have outputs of their own"):
        train_together([runs[0], runs[0]])


def test_the_order_of_two_seeds_is_the_same_with_one_order_seed_and_differs_without(trainer) -> None:
    def order(**changes) -> list[list[int]]:
        built: FuserLearner = trainer(**changes)
        batches = built._batches(0)
        return [next(batches) for _ in range(4)]

    assert order(seed=1, order_seed=3) == order(seed=2, order_seed=3) == order(seed=3)
    assert order(seed=1) != order(seed=2)


def test_the_command_writes_each_run_with_its_provenance(folder: Path) -> None:
    runs = [
        json.dumps({"recipe": name.partition("-")[0], "output": str(folder / name), **settings, "keep_steps": [1]})
        for name, settings in RUNS.items()
    ]
    models = ["--receiver", str(folder / "receiver"), "--sharer", str(folder / "sharer")]
    lines = str(folder / "set.jsonl")
    sets = ["--data", lines, "--validation", lines, "--checkpoints", str(folder / "checkpoints")]
    flags = ["--steps", "2", "--batch-size", "2", "--hidden-dim", "8", "--intermediate-dim", "8", "--max-length", "64"]
    arguments = ["train-together", *models, *sets, *flags, "--order-seed", "0"]
    assert main([*arguments, "--runs", *runs]) == 0
    for name, settings in RUNS.items():
        stamp = json.loads((folder / f"{name}.provenance.json").read_text())
        assert stamp["settings"]["seed"] == settings["seed"]
        assert (folder / f"{name}.steps" / "step1").is_dir()
    assert main([*arguments, "--runs", '{"recipe": "c2c"}']) == 2
