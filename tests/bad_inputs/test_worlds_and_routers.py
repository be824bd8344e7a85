"""Worlds, routers, and sizes of made benchmarks that cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.teacher import Sampling
from benchmarks.world import pretrain
from benchmarks.world.world import World, generate
from c2c.evaluation.methods.routing import ABOUT, FORMAT, WEIGHTS, MatrixFactorisation, Router, RouterSettings, fit
from c2c.provenance import file_hash
from c2c.testbed.tasks.bank import check_sizes
from tests.bad_inputs.refusals import refused


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


WORLDS: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_text(""),
    "cut off": lambda path: path.write_text(path.read_text()[:500]),
    "random bytes": lambda path: path.write_bytes(os.urandom(500)),
    "a list": lambda path: path.write_text("[]"),
    "nested 100,000 times": lambda path: path.write_text("[" * 100_000),
    "no entities": edited(lambda world: world.pop("entities")),
    "an unknown key, as of a newer version": edited(lambda world: world.update(version=2)),
    "entities an object": edited(lambda world: world.update(entities={})),
    "entities of none": edited(lambda world: world.update(entities=[])),
    "an entity that is text": edited(lambda world: world["entities"].append("x")),
    "an entity without a name": edited(lambda world: world["entities"][0].pop("name")),
    "an entity twice": edited(lambda world: world["entities"].append(world["entities"][0])),
    "an unknown split": edited(lambda world: world["entities"][0].update(split="tests")),
    "a value that is none of the attribute's": edited(lambda world: world["entities"][0]["values"].update(color=[1])),
    "no attributes of an entity": edited(lambda world: world["entities"][0].update(values={})),
    "an attribute without values": edited(lambda world: world["attributes"].update(color=[])),
    "an attribute of numbers": edited(lambda world: world["attributes"].update(color=[1, 2])),
    "the seed null": edited(lambda world: world.update(seed=None)),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_spoilt_world_is_refused(name, tmp_path) -> None:
    path = tmp_path / "world.json"
    generate(entities=16).save(path)
    WORLDS[name](path)
    with refused():
        World.load(path)


@pytest.mark.parametrize("entities", [0, -16, 17, 10**9 // 16 * 16])
def test_a_world_of_no_or_too_many_entities_is_refused(entities) -> None:
    with refused("sixteenths"):
        generate(entities=entities)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)
        # With the hash of the changed file: what the weights are is checked, too.
        about = json.loads((folder / ABOUT).read_text())
        (folder / ABOUT).write_text(json.dumps({**about, "weights_sha256": file_hash(folder / WEIGHTS)}))

    return spoil


ROUTERS: dict[str, Callable[[Path], object]] = {
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no description": lambda folder: (folder / ABOUT).unlink(),
    "weights of 0 bytes": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "weights cut off": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8]),
    "weights of random bytes": lambda folder: (folder / WEIGHTS).write_bytes(os.urandom(200)),
    "weights of another network": weights(lambda tensors: tensors.pop("query.weight")),
    "a weight of another shape": weights(lambda tensors: tensors.update({"score.weight": torch.zeros(1, 3)})),
    "a weight of no dimension": weights(lambda tensors: tensors.update({"query.weight": torch.tensor(1.0)})),
    "a weight that is NaN": weights(lambda tensors: tensors["mean"].fill_(float("nan"))),
    "weights that are not those of the description": lambda folder: (folder / WEIGHTS).write_bytes(
        (folder / WEIGHTS).read_bytes()[:-1] + b"\x01"
    ),
    "a description of a newer version": lambda folder: (folder / ABOUT).write_text(
        json.dumps({**json.loads((folder / ABOUT).read_text()), "format": FORMAT + 1})
    ),
    "a description that is a list": lambda folder: (folder / ABOUT).write_text("[]"),
    "a description cut off": lambda folder: (folder / ABOUT).write_text('{"receiver": "a'),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_a_spoilt_router_is_refused(name, tmp_path) -> None:
    Router(MatrixFactorisation(4, 2), {"receiver": "a"}).save(tmp_path)
    ROUTERS[name](tmp_path)
    with refused("train-router"):
        Router.load(tmp_path)


def test_queries_that_are_not_finite_train_no_router() -> None:
    queries = torch.ones(12, 4)
    queries[3, 1] = float("nan")
    with refused("hidden states must be finite", "1 that are not"):
        fit(queries, torch.arange(12) < 6, RouterSettings())


@pytest.mark.parametrize("sizes", [{"test": -1}, {"train": 0}, {"validation": 10**9}, {"test": 30_000}])
def test_sizes_of_a_gap_benchmark_that_no_names_suffice_for_are_refused(sizes) -> None:
    with refused("a row or more each"):
        check_sizes({"test": 10, "train": 10, "validation": 10} | sizes)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": float("nan")},
        {"top_k": 10**30},
        {"max_new_tokens": 10**12},
    ],
)
def test_a_teacher_that_cannot_sample_is_refused(settings) -> None:
    with refused("A teacher must sample"):
        Sampling(**settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("embedding_rate", float("inf")),
        ("weight_decay", float("nan")),
        ("warmup_ratio", float("nan")),
        ("steps", 10**30),
        ("seed", 2**70),
        ("seed", -1),
        ("layers", 10**9),
        ("hidden", 10**20),
        ("key_value_heads", 0),
        ("heads", 0),
    ],
)
def test_a_world_s_model_of_impossible_settings_is_refused(name, value) -> None:
    with refused(name):
        pretrain.PretrainingConfig(**{name: value})


def test_a_pretraining_whose_loss_is_not_finite_stops(tmp_path, monkeypatch) -> None:
    losses = iter([1.0, float("nan")])
    loss = pretrain._loss
    monkeypatch.setattr(pretrain, "_loss", lambda *given: loss(*given) * next(losses))
    settings = pretrain.PretrainingConfig(hidden=16, layers=1, heads=2, key_value_heads=2, steps=50, batch_size=8)
    with refused("loss must be a finite number", "at step 2 of 50"):
        pretrain.pretrain(generate(entities=16), settings)
