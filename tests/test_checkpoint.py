"""Own checkpoints: what was saved comes back bit for bit, and nothing else is accepted."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c import FuserStack, RefusedError, RosettaModel, create_c2c_projector
from c2c.checkpoint import load_stack, save_stack

SMALL = {"hidden_dim": 8, "intermediate_dim": 8, "layer_alignment": "nearest"}


@pytest.fixture
def models(tiny_model):
    return tiny_model("qwen3"), tiny_model("qwen2", layers=4, seed=1), tiny_model("llama", seed=2)


@pytest.fixture
def folder(models, tmp_path):
    receiver, sharer, _ = models
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    stack.fuser_of(1).key_gate_logit.data.fill_(1.0)
    save_stack(stack, tmp_path / "fuser", about={"recipe": "c2c"})
    return stack, tmp_path / "fuser"


def test_a_stack_comes_back_bit_for_bit_with_its_links_and_what_was_said_about_it(folder) -> None:
    stack, where = folder
    loaded, about = load_stack(where)
    assert about == {"recipe": "c2c"}
    assert loaded.links == stack.links
    assert not loaded.training
    for name, tensor in stack.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_fusers_that_were_linked_in_any_order_or_twice_come_back_where_they_were(models, tmp_path) -> None:
    receiver, sharer, _ = models
    torch.manual_seed(0)
    sizes = {"hidden_dim": 8, "intermediate_dim": 8}
    fusers = [create_c2c_projector(sharer.config, receiver.config, variant="fuse", **sizes) for _ in range(2)]
    model = RosettaModel([receiver, sharer], fusers)
    for layer, source, number in ((2, 3, 0), (0, 1, 1), (1, 1, 0)):
        model.set_projector_config(1, source, 0, layer, number)
    model.save_pretrained(tmp_path / "model")
    loaded = RosettaModel.from_pretrained(tmp_path / "model", receiver=receiver, sharers=sharer)
    assert loaded.stacks[0].links == model.stacks[0].links
    for layer in range(3):
        ours, theirs = (each.stacks[0].fuser_of(layer).state_dict() for each in (loaded, model))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_saving_twice_writes_the_same_bytes(folder, tmp_path) -> None:
    stack, where = folder
    save_stack(stack, tmp_path / "again", about={"recipe": "c2c"})
    for file in where.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.mark.parametrize("sharers", [1, 2])
def test_a_model_answers_the_same_after_saving_and_loading(models, tmp_path, sharers) -> None:
    receiver, *others = models
    used = others[:sharers]
    torch.manual_seed(0)
    stacks = [FuserStack.between(s.config, receiver.config, variant="fuse", **SMALL) for s in used]
    model = RosettaModel.of_stacks(receiver, used, stacks, fusion="parallel").eval()
    model.save_pretrained(tmp_path / "model")
    loaded = RosettaModel.from_pretrained(tmp_path / "model", receiver=receiver, sharers=used)
    assert loaded.fusion == "parallel"
    ids = torch.tensor([[5, 6, 7, 8]])
    index = [torch.tensor([[[2**sharers - 1, 0]] * 3]), torch.tensor([[[-1, 0]]])]
    assert torch.equal(model(index, ids).logits, loaded(index, ids).logits)
    assert not torch.equal(loaded(index, ids).logits, receiver(input_ids=ids).logits[:, -1:])


def test_each_sharers_folder_can_be_named_and_their_number_is_checked(models, tmp_path) -> None:
    receiver, *others = models
    for number, sharer in enumerate(others):
        save_stack(FuserStack.between(sharer.config, receiver.config, **SMALL), tmp_path / str(number))
    folders = [tmp_path / "0", tmp_path / "1"]
    loaded = RosettaModel.from_pretrained(folders, receiver=receiver, sharers=others, fusion="parallel")
    assert (len(loaded.stacks), loaded.fusion) == (2, "parallel")
    with pytest.raises(RefusedError, match="Each Sharer needs one FuserStack"):
        RosettaModel.from_pretrained(folders, receiver=receiver, sharers=others[0])
    with pytest.raises(RefusedError, match=r"must hold manifest\.json"):
        RosettaModel.from_pretrained(tmp_path / "0", receiver=receiver, sharers=others)


def test_a_receiver_alone_has_nothing_to_save(models, tmp_path) -> None:
    with pytest.raises(RefusedError, match="Only a model with Sharers"):
        RosettaModel([models[0]]).save_pretrained(tmp_path)


def test_models_that_are_named_by_folder_are_loaded_frozen(models, tmp_path) -> None:
    receiver, sharer, _ = models
    for name, model in (("receiver", receiver), ("sharer", sharer)):
        model.save_pretrained(tmp_path / name)
    save_stack(FuserStack.between(sharer.config, receiver.config, **SMALL), tmp_path / "fuser")
    loaded = RosettaModel.from_pretrained(
        tmp_path / "fuser", receiver=tmp_path / "receiver", sharers=tmp_path / "sharer"
    )
    assert not any(parameter.requires_grad for model in loaded.model_list for parameter in model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(
        loaded.receiver.parameters(), receiver.parameters(), strict=True))  # fmt: skip


def test_a_changed_file_is_refused(folder) -> None:
    _, where = folder
    state = load_file(where / "model.safetensors")
    state["fusers.0.key_in.bias"] += 1
    save_file(state, where / "model.safetensors")
    with pytest.raises(RefusedError, match=r"model.safetensors must be the file that the manifest names"):
        load_stack(where)


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "model.safetensors"])
def test_an_unfinished_folder_is_refused(folder, name) -> None:
    _, where = folder
    (where / name).unlink()
    with pytest.raises(RefusedError, match=f"must hold {name}"):
        load_stack(where)


def test_a_changed_config_is_refused(folder) -> None:
    _, where = folder
    config = (where / "config.json").read_text()
    (where / "config.json").write_text(config.replace('"dropout": 0.1', '"dropout": 0.2'))
    with pytest.raises(RefusedError, match=r"config.json must be the file that the manifest names"):
        load_stack(where)


def test_a_format_of_another_version_is_refused(folder) -> None:
    _, where = folder
    manifest = json.loads((where / "manifest.json").read_text())
    (where / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(RefusedError, match="must have format 1; received 99"):
        load_stack(where)


def test_fusers_used_with_other_models_are_refused(folder, models) -> None:
    receiver, _, other = models
    with pytest.raises(RefusedError, match="must fit the sharer's cache"):
        RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=[other])
