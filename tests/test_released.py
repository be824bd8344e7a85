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
from c2c.checkpoints import released_folder
from c2c.checkpoints.released import read_stack
from c2c.fuser.config import SWITCHES_OF_VARIANTS
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
            "ablation_level of projector_0.json must be one of: 0, 1, 2, 3, 4; received 5",
        ),
        (
            "projector_config.json",
            lambda c: c["0"]["1"].update({"0": [[0, 0], [1, 0]]}),
            "sharer layer, fuser. pair",
        ),
        ("projector_config.json", lambda c: c["0"]["1"].pop("2"), "The layer map must use the fusers 0 to 2"),
        ("projector_config.json", lambda c: c.update({"1": {}}), "must be"),
        ("projector_config.json", lambda c: c["0"]["1"].update({"0": [[9, 0]]}), "Sharer's layers"),
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
    assert SWITCHES_OF_VARIANTS[config.variant][:3] == parts


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
    with pytest.raises(RefusedError, match="Each Sharer must have one folder"):
        RosettaModel.from_released([CASE / "released_1"] * 2, receiver="not loaded", sharers=["not loaded"])
    with pytest.raises(RefusedError, match="2 subfolder"):
        RosettaModel.from_released(CASE, subfolder=["a", "b"], receiver="not loaded", sharers="not loaded")


def test_fusers_of_models_with_other_caches_are_refused(folder, tiny_model) -> None:
    with pytest.raises(RefusedError, match="A Fuser of this pair must have"):
        RosettaModel.from_released(folder, receiver=CASE / "receiver", sharers=tiny_model("llama", kv_heads=1))


PUBLISHED = "qwen3_0.6b+qwen2.5_0.5b_Fuser"
UNVOUCHED = "fusers of Sharer 1: nothing vouches for their files, which have no hash (c2c fetch-fuser writes them)"


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A mirror in the layout of the published repository, with the two models beside it."""
    for name, hub_id in (("receiver", "Qwen/Qwen3-0.6B"), ("sharer_1", "Qwen/Qwen2.5-0.5B-Instruct")):
        shutil.copytree(CASE / name, tmp_path / hub_id)
    fusers = tmp_path / "nics-efc" / "C2C_Fuser"
    shutil.copytree(CASE / "released_1", fusers / PUBLISHED)
    shutil.copytree(CASE / "released_1", fusers / "qwen3_0.6b+llam3.2_1b_Fuser")
    edit_recipe(fusers / PUBLISHED, base_model="Qwen/Qwen3-0.6B", teacher_model="Qwen/Qwen2.5-0.5B-Instruct")
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path))
    return fusers


def edit_recipe(folder: Path, **settings) -> None:
    edit(folder / "config.json", lambda content: content["model"].update(settings))


def from_mirror(**options) -> RosettaModel:
    given = {"receiver": "Qwen/Qwen3-0.6B", "sharers": "Qwen/Qwen2.5-0.5B-Instruct", "subfolder": PUBLISHED}
    return RosettaModel.from_released("nics-efc/C2C_Fuser", **{**given, **options})


def test_published_fusers_are_loaded_by_id_and_subfolder_from_a_mirror(mirror) -> None:
    loaded = from_mirror(revision="main")
    folder = RosettaModel.from_released(CASE / "released_1", receiver=CASE / "receiver", sharers=CASE / "sharer_1")
    expected, found = folder.stacks[0].state_dict(), loaded.stacks[0].state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert loaded.contract_check.to_dict() == {"accepted": [], "noted": [UNVOUCHED]}
    with pytest.raises(
        RefusedError, match=r"It has: qwen3_0\.6b\+llam3\.2_1b_Fuser, qwen3_0\.6b\+qwen2\.5_0\.5b_Fuser"
    ):
        from_mirror(subfolder="qwen3_0.6b+qwen2.5_Fuser")


def test_a_manifest_of_fetched_fusers_vouches_for_them_and_finds_files_that_were_exchanged(mirror, tmp_path) -> None:
    manifest, given = tmp_path / "released.json", {"receiver": CASE / "receiver", "sharers": CASE / "sharer_1"}
    manifest.write_text(json.dumps(released_folder.describe_released("nics-efc/C2C_Fuser", PUBLISHED, None)))
    accepted = ["receiver.id", "sharer.id"]
    assert RosettaModel.from_released(manifest, **given, override=accepted).contract_check.noted == ()
    final = mirror / PUBLISHED / "final"
    (final / "projector_0.pt").rename(final / "held.pt")
    (final / "projector_1.pt").rename(final / "projector_0.pt")
    (final / "held.pt").rename(final / "projector_1.pt")
    with pytest.raises(RefusedError, match=r"projector_0\.pt.*projector_1\.pt"):
        RosettaModel.from_released(manifest, **given, override=accepted)


def test_a_commit_of_the_hub_vouches_for_published_fusers(tmp_path) -> None:
    snapshot = tmp_path / "models--nics-efc--C2C_Fuser" / "snapshots" / ("f" * 40)
    shutil.copytree(CASE / "released_1", snapshot / PUBLISHED)
    for source, subfolder in ((snapshot, PUBLISHED), (snapshot / PUBLISHED, None)):
        model = RosettaModel.from_released(
            source, subfolder=subfolder, receiver=CASE / "receiver", sharers=CASE / "sharer_1"
        )
        assert model.contract_check.noted == ()


def test_another_revision_than_the_mirrors_is_refused_before_any_model_is_loaded(mirror) -> None:
    with pytest.raises(RefusedError, match=r"must vouch for the revision.*received 'no-such-revision'"):
        from_mirror(revision="no-such-revision", receiver="not loaded", sharers="not loaded")


def test_fusers_published_for_another_model_are_refused_before_any_is_loaded(mirror) -> None:
    with pytest.raises(RefusedError, match=r"receiver\.id: expected 'Qwen/Qwen3-0\.6B', found 'Qwen/Qwen3-8B'"):
        from_mirror(receiver="Qwen/Qwen3-8B")
    given = {"receiver": CASE / "receiver", "sharers": "Qwen/Qwen2.5-0.5B-Instruct"}
    with pytest.raises(RefusedError, match=r"override=\['receiver\.id'\]"):
        from_mirror(**given)
    (accepted,) = from_mirror(**given, override=["receiver.id"]).contract_check.accepted
    assert accepted == "receiver.id: expected 'Qwen/Qwen3-0.6B', found 'receiver'"
    with pytest.raises(RefusedError, match=r"Did you mean 'receiver\.id'"):
        from_mirror(**given, override=["reciever.id"])


def test_a_folder_of_the_same_name_and_a_model_without_a_name_pass_and_the_latter_is_noted(mirror, tmp_path) -> None:
    elsewhere = Path(shutil.copytree(CASE / "receiver", tmp_path / "some" / "other" / "Qwen3-0.6B"))
    assert from_mirror(receiver=elsewhere).contract_check.noted == (UNVOUCHED,)
    unnamed = from_mirror().receiver
    unnamed.config._name_or_path = ""
    unnamed.name_or_path = ""
    noted = from_mirror(receiver=unnamed).contract_check.noted
    assert noted == ("receiver.id: expected 'Qwen/Qwen3-0.6B', found ''", UNVOUCHED)


def test_a_folder_without_recipe_is_read_and_that_is_noted(folder) -> None:
    (folder / "config.json").unlink()
    model = RosettaModel.from_released(folder, receiver=CASE / "receiver", sharers=CASE / "sharer_1")
    unnamed = "fusers of Sharer 1: no config.json says for which models they are"
    assert model.contract_check.noted == (unnamed, UNVOUCHED)
    assert model.released_settings == [{}]


def test_the_recipe_is_found_around_the_final_folder_too(folder) -> None:
    edit_recipe(folder, base_model="owner/another")
    with pytest.raises(RefusedError, match=r"receiver\.id: expected 'owner/another'"):
        RosettaModel.from_released(folder / "final", receiver=CASE / "receiver", sharers=CASE / "sharer_1")


def test_what_the_recipe_says_of_use_is_kept_and_it_may_be_yaml(folder) -> None:
    (folder / "config.json").write_text(
        "model:\n  base_model: receiver\n  teacher_model: sharer_1\n  is_do_alignment: true\n"
        "  alignment_strategy: longest\n  include_response: false\n  mapping: last_aligned\n"
    )
    model = RosettaModel.from_released(folder, receiver=CASE / "receiver", sharers=CASE / "sharer_1")
    expected = {"is_do_alignment": True, "alignment_strategy": "longest", "include_response": False}
    assert model.released_settings == [expected]
    assert not model.include_response


def test_the_response_is_fused_if_the_recipe_says_so_or_the_caller_does(folder) -> None:
    given = {"receiver": CASE / "receiver", "sharers": CASE / "sharer_1"}
    assert not RosettaModel.from_released(folder, **given).include_response
    assert RosettaModel.from_released(folder, **given, include_response=True).include_response
    edit_recipe(folder, include_response=True)
    assert RosettaModel.from_released(folder, **given).include_response


def test_published_fusers_are_loaded_for_a_sharer_that_runs_elsewhere(folder) -> None:
    config = AutoConfig.from_pretrained(CASE / "sharer_1")
    model = RosettaModel.from_released(folder, receiver=CASE / "receiver", sharers=config)
    assert len(model.stacks[0].links) == 3


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "config.json must be YAML of plain values"),
        ("[]", "must hold a section model"),
        ('{"model": 3}', "must hold a section model"),
        ('{"model": {"teacher_model": {"a": "b"}}}', "must name one sharer"),
        ('{"model": {"multi_source_fusion_mode": "sequental"}}', "Did you mean 'sequential'"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_refused(folder, text, rule) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(RefusedError, match=rule):
        RosettaModel.from_released(folder, receiver="not loaded", sharers="not loaded")


def test_the_fusion_is_that_of_the_recipes_and_another_one_must_be_asked_for(tmp_path) -> None:
    case = CASE.parent / "two_sharers_parallel"
    folders = [Path(shutil.copytree(case / f"released_{n}", tmp_path / f"released_{n}")) for n in (1, 2)]
    given = {"receiver": case / "receiver", "sharers": [case / "sharer_1", case / "sharer_2"]}
    for folder, sharer in zip(folders, ("sharer_1", "sharer_2"), strict=True):
        edit_recipe(folder, teacher_model=sharer, multi_source_fusion_mode="parallel")
    assert RosettaModel.from_released(folders, **given).fusion == "parallel"
    with pytest.raises(RefusedError, match=r"fuser_1\.fusion: expected 'parallel', found 'sequential'"):
        RosettaModel.from_released(folders, **given, fusion="sequential")
    accepted = ["fuser_1.fusion", "fuser_2.fusion"]
    assert RosettaModel.from_released(folders, **given, fusion="sequential", override=accepted).fusion == "sequential"
    edit_recipe(folders[1], multi_source_fusion_mode="sequential")
    with pytest.raises(RefusedError, match=r"fuser_2\.fusion: expected 'sequential', found 'parallel'"):
        RosettaModel.from_released(folders, **given)


def test_models_named_by_folder_are_loaded_in_the_dtype_asked_for_and_the_fusers_follow() -> None:
    model = RosettaModel.from_released(
        CASE / "released_1", receiver=CASE / "receiver", sharers=CASE / "sharer_1", dtype="bfloat16", device="cpu"
    )
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
