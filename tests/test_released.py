"""Fusers in the published layout: read strictly, and nothing is tolerated silently."""

from __future__ import annotations

import json
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
    ],
)
def test_a_state_with_other_tensors_is_refused(folder, change, rule) -> None:
    edit_state(folder / "final" / "projector_1.pt", change)
    with pytest.raises(RefusedError, match=rule):
        read(folder)


class Attack:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_pickle_with_code_is_refused_and_not_run(folder, tmp_path) -> None:
    (folder / "final" / "projector_0.pt").write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
    with pytest.raises(RefusedError, match="a pickle of tensors alone"):
        read(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("projector_0.json", lambda c: c.update({"class": "C2CProjectr"}), "Did you mean 'C2CProjector'"),
        ("projector_0.json", lambda c: c["init_args"].update(depth=3), "An argument of C2CProjector"),
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
def test_a_missing_file_is_refused(folder, name) -> None:
    (folder / "final" / name).unlink()
    with pytest.raises(RefusedError, match=r"must hold projector_config\.json"):
        read(folder)


def test_an_ablated_fuser_is_read_by_its_level(folder) -> None:
    for number in range(3):

        def level(content):
            content.update({"class": "AblationProjector"})
            content["init_args"]["ablation_level"] = 2

        edit(folder / "final" / f"projector_{number}.json", level)
        edit_state(
            folder / "final" / f"projector_{number}.pt",
            lambda s: [s.pop(k) for k in list(s) if "scalar" in k or "gate" in k],
        )
    config = read(folder).fuser_of(0).config
    assert (config.weighted, config.gated, config.reads_receiver) == (False, False, True)


def test_one_folder_a_sharer_is_asked_for() -> None:
    with pytest.raises(RefusedError, match="Each Sharer needs one folder"):
        RosettaModel.from_released([CASE / "released_1"] * 2, receiver=CASE / "receiver", sharers=[CASE / "sharer_1"])
