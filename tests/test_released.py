"""Fusers in the published layout: read strictly, and nothing is tolerated silently."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from c2c import RefusedError, RosettaModel
from c2c.released import read_stack
from c2c.types import CacheShape

CASE = Path(__file__).parent / "golden" / "qwen3_from_qwen2"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(CASE / "released_1", tmp_path / "released"))


def read(folder: Path):
    shapes = {name: CacheShape.of(AutoConfig.from_pretrained(CASE / each)) for name, each in
              (("receiver", "receiver"), ("sharer", "sharer_1"))}  # fmt: skip
    return read_stack(folder, **shapes)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_state(path: Path, change) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_the_folder_itself_or_its_final_folder_can_be_named(folder) -> None:
    assert read(folder).links == read(folder / "final").links


def test_a_subfolder_of_the_source_can_be_named(folder) -> None:
    model = RosettaModel.from_released(
        folder.parent, subfolder="released", receiver=CASE / "receiver", sharers=CASE / "sharer_1"
    )
    assert len(model.stacks[0].links) == 3


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda s: s.pop("key_in.bias"), "missing key_in.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"key_in.bias": torch.zeros(3)}), r"key_in.bias is \(3,\)"),
        (lambda s: s["key_in.bias"].fill_(float("nan")), "key_in.bias is not finite"),
        (lambda s: s.update(key_input=s.pop("key_in.bias")), "missing key_in.bias', 'unknown key_input"),
        (lambda s: s.update(key_in=3), "must hold tensors by name"),
    ],
)
def test_a_state_with_other_tensors_is_refused(folder, change, rule) -> None:
    edit_state(folder / "final" / "projector_1.pt", change)
    with pytest.raises(RefusedError, match=rule):
        read(folder)


def test_a_file_that_holds_something_else_than_a_state_is_refused(folder) -> None:
    torch.save(torch.zeros(3), folder / "final" / "projector_1.pt")
    with pytest.raises(RefusedError, match="must hold tensors by name; received 'Tensor'"):
        read(folder)


def test_a_missing_fuser_is_refused_and_a_file_of_another_name_is_not_counted(folder) -> None:
    (folder / "final" / "projector_0.pt").rename(folder / "final" / "projector_0_old.pt")
    (folder / "final" / "projector_config.json").write_text('{"0": {"1": {"0": [[0, 0]], "1": [[1, 1]]}}}')
    with pytest.raises(RefusedError, match="numbered from 0 without a gap"):
        read(folder)


class Attack:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_a_pickle_with_code_is_refused_and_not_run(folder, tmp_path) -> None:
    (folder / "final" / "projector_0.pt").write_bytes(pickle.dumps(Attack(tmp_path / "owned"), protocol=2))
    with pytest.raises(RefusedError, match="a pickle of tensors alone"):
        read(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("projector_0.json", lambda c: c.update({"class": "C2CProjectr"}), "Did you mean 'C2CProjector'"),
        ("projector_0.json", lambda c: c["init_args"].update(depth=3), "An argument of C2CProjector"),
        ("projector_0.json", lambda c: c["init_args"].update(num_layers=2), "num_layers must be a whole number"),
        ("projector_0.json", lambda c: c["init_args"].pop("source_dim"), "must hold source_dim and target_dim"),
        ("projector_0.json", lambda c: c["init_args"].update(ablation_level=1), "An argument of C2CProjector"),
        (
            "projector_0.json",
            lambda c: (c.update({"class": "AblationProjector"}), c["init_args"].update(ablation_level=5)),
            "The ablation level must be a known name; received '5'",
        ),
        (
            "projector_config.json",
            lambda c: c["0"]["1"].update({"0": [[0, 0], [1, 0]]}),
            "sharer layer, fuser. pair",
        ),
        ("projector_config.json", lambda c: c["0"]["1"].pop("2"), "The layer map must use the fusers 0 to 2"),
        ("projector_config.json", lambda c: c.update({"1": {}}), "must be"),
        ("projector_config.json", lambda c: c["0"]["1"].update({"0": [[9, 0]]}), "The Sharer has layers"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(folder, name, change, rule) -> None:
    edit(folder / "final" / name, change)
    with pytest.raises(RefusedError, match=rule):
        read(folder)


@pytest.mark.parametrize("name", ["projector_config.json", "projector_1.json"])
def test_a_description_that_is_no_json_is_refused(folder, name) -> None:
    (folder / "final" / name).write_text('{"0": ')
    with pytest.raises(RefusedError, match=f"{name} must be JSON"):
        read(folder)


@pytest.mark.parametrize("name", ["projector_config.json", "projector_1.json"])
def test_a_missing_file_is_refused(folder, name) -> None:
    (folder / "final" / name).unlink()
    with pytest.raises(RefusedError, match=r"must hold projector_config\.json"):
        read(folder)


@pytest.mark.parametrize(
    ("level", "parts"),
    [
        (0, (True, True, True)),
        (1, (False, True, True)),
        (2, (False, False, True)),
        (3, (False, False, False)),
        (4, (True, False, True)),
    ],
)
def test_an_ablated_fuser_is_read_by_its_level(folder, level, parts) -> None:
    weighted, gated, reads_receiver = parts
    width = read(folder).sharer
    for number in range(3):

        def describe(content):
            content.update({"class": "AblationProjector"})
            content["init_args"]["ablation_level"] = level

        def remove(state):
            for name in list(state):
                if ("scalar" in name and not weighted) or ("gate" in name and not gated):
                    del state[name]
                elif name.endswith("_in.weight") and not reads_receiver:
                    state[name] = state[name][:, : width.heads * width.head_dim]

        edit(folder / "final" / f"projector_{number}.json", describe)
        edit_state(folder / "final" / f"projector_{number}.pt", remove)
    config = read(folder).fuser_of(0).config
    assert (config.weighted, config.gated, config.reads_receiver) == parts


def test_arguments_that_a_description_leaves_out_have_the_references_defaults(folder) -> None:
    written = json.loads((folder / "final" / "projector_0.json").read_text())["init_args"]
    path = folder / "final" / "projector_0.json"
    edit(path, lambda c: [c["init_args"].pop(name, None) for name in ("dropout", "anneal_steps", "final_temperature")])
    config = read(folder).fuser_of(0).config
    assert (config.dropout, config.anneal_steps, config.final_temperature) == (0.1, 1929, 0.001)
    assert config.hidden_dim == written["hidden_dim"]


def test_a_map_that_names_the_fusers_in_another_order_is_followed(folder) -> None:
    edit(folder / "final" / "projector_config.json", lambda c: c["0"]["1"].update({"0": [[1, 2]], "2": [[0, 0]]}))
    stack = read(folder)
    assert (stack.links[0].sharer_layer, stack.links[2].sharer_layer) == (1, 0)
    biases = [torch.load(folder / "final" / f"projector_{n}.pt", weights_only=True)["key_in.bias"] for n in range(3)]
    assert torch.equal(stack.fuser_of(0).key_in.bias, biases[2].float())
    assert torch.equal(stack.fuser_of(2).key_in.bias, biases[0].float())


def test_one_folder_a_sharer_is_asked_for() -> None:
    with pytest.raises(RefusedError, match="Each Sharer needs one folder"):
        RosettaModel.from_released([CASE / "released_1"] * 2, receiver="not loaded", sharers=["not loaded"])
    with pytest.raises(RefusedError, match="2 subfolder"):
        RosettaModel.from_released(CASE, subfolder=["a", "b"], receiver="not loaded", sharers="not loaded")


def test_fusers_of_models_with_other_caches_are_refused(folder, tiny_model) -> None:
    with pytest.raises(RefusedError, match="A Fuser of this pair must have"):
        RosettaModel.from_released(folder, receiver=CASE / "receiver", sharers=tiny_model("llama", kv_heads=1))
