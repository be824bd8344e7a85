"""Own checkpoints: what was saved comes back bit for bit, and nothing else is accepted."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from c2c import FuserStack, RefusedError, RosettaModel, create_c2c_projector
from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.checkpoints.checkpoint_folder import read_config, read_manifest
from c2c.models.contract import describe_model
from c2c.models.loading import LoadedModel
from c2c.provenance import file_hash

SMALL = {"hidden_dim": 8, "intermediate_dim": 8, "layer_alignment": "nearest"}


@pytest.fixture
def models(tiny_model):
    return tiny_model("qwen3"), tiny_model("qwen2", layers=4, seed=1), tiny_model("llama", seed=2)


def lines(receiver, sharer) -> dict[str, dict]:
    return {"receiver": describe_model(receiver), "sharer": describe_model(sharer)}


def save_between(receiver, sharer, folder) -> None:
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    save_stack(stack, folder, **lines(receiver, sharer))


@pytest.fixture
def folder(models, tmp_path):
    receiver, sharer, _ = models
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    stack.fuser_of(1).key_gate_logit.data.fill_(1.0)
    save_stack(stack, tmp_path / "fuser", **lines(receiver, sharer), about={"recipe": "c2c"})
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


def test_saving_twice_writes_the_same_bytes(folder, models, tmp_path) -> None:
    stack, where = folder
    save_stack(stack, tmp_path / "again", **lines(*models[:2]), about={"recipe": "c2c"})
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
        save_between(receiver, sharer, tmp_path / str(number))
    folders = [tmp_path / "0", tmp_path / "1"]
    loaded = RosettaModel.from_pretrained(folders, receiver=receiver, sharers=others, fusion="parallel")
    assert (len(loaded.stacks), loaded.fusion) == (2, "parallel")
    with pytest.raises(RefusedError, match="Each Sharer must have one FuserStack"):
        RosettaModel.from_pretrained(folders, receiver=receiver, sharers=others[0])
    with pytest.raises(RefusedError, match=r"must hold manifest\.json"):
        RosettaModel.from_pretrained(tmp_path / "0", receiver=receiver, sharers=others)


def test_a_receiver_alone_has_nothing_to_save(models, tmp_path) -> None:
    with pytest.raises(RefusedError, match="must have Sharers"):
        RosettaModel([models[0]]).save_pretrained(tmp_path)


def test_models_that_are_named_by_folder_are_loaded_frozen(models, tmp_path) -> None:
    receiver, sharer, _ = models
    for name, model in (("receiver", receiver), ("sharer", sharer)):
        model.save_pretrained(tmp_path / name)
    save_between(receiver, sharer, tmp_path / "fuser")
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


@pytest.mark.parametrize(("version", "remedy"), [(99, "matching version"), (1, "Train the fuser again")])
def test_a_format_of_another_version_is_refused(folder, version, remedy) -> None:
    edit_manifest(folder[1], lambda manifest: manifest.update(format=version))
    with pytest.raises(RefusedError, match=rf"must have format 2; received {version}\..*{remedy}"):
        load_stack(folder[1])


def edit_manifest(folder, change) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda m: m["sha256"].pop("model.safetensors"), "model.safetensors must be the file"),
        (lambda m: m.pop("sha256"), "config.json must be the file"),
        (lambda m: m.pop("contract"), r"must hold every line; received 'no receiver\.id"),
        (lambda m: m["contract"]["sharer"].pop("weights_sha256"), r"'no sharer\.weights_sha256'"),
    ],
)
def test_a_manifest_that_says_less_is_refused(folder, change, rule) -> None:
    edit_manifest(folder[1], change)
    with pytest.raises(RefusedError, match=rule):
        load_stack(folder[1])


def reseal(folder) -> None:
    """Make the manifest vouch for the files as they are now."""
    files = ("config.json", "model.safetensors")
    edit_manifest(folder, lambda manifest: manifest.update(sha256={name: file_hash(folder / name) for name in files}))


CONFIGS = {
    "without links": (lambda c: c.pop("links"), "config.json must hold.*no links"),
    "without fusers": (lambda c: c.pop("fusers"), "no fusers"),
    "without what was said": (lambda c: c.pop("about"), "no about"),
    "an unknown key": (lambda c: c.update(abuot={}), "unknown abuot"),
    "links of a number": (lambda c: c.update(links=3), "links is 3, not a list"),
    "a link without a layer": (lambda c: c["links"][0].pop("sharer_layer"), "A link in config.json.*no sharer_layer"),
    "a link that is a list": (
        lambda c: c["links"].__setitem__(0, [0, 1, 2]),
        "A link in config.json must be an object",
    ),
    "a link to no fuser": (lambda c: c["links"][0].update(fuser=9), "one of the 3 fusers; received '?9"),
    "a link to a layer too many": (lambda c: c["links"][0].update(receiver_layer=3), "Receiver's layers, 0 to 2"),
    "a sharer without heads": (lambda c: c["sharer"].pop("heads"), "sharer in config.json must hold.*no heads"),
    "a receiver of no layers": (lambda c: c["receiver"].update(layers=0), "at least 1; received .*layers is 0"),
    "a fuser without heads": (lambda c: c["fusers"][0].pop("receiver_heads"), "no receiver_heads"),
    "a fuser that is text": (lambda c: c["fusers"].__setitem__(0, "full"), "A Fuser's config must be an object"),
    "a fuser of text sizes": (lambda c: c["fusers"][0].update(hidden_dim="8"), "hidden_dim must be a whole number"),
    "a check without a list": (lambda c: c["contract_check"].pop("noted"), "contract_check in config.json.*no noted"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_does_not_say_what_it_must_is_refused_though_its_hash_is_right(folder, name) -> None:
    change, rule = CONFIGS[name]
    config = json.loads((folder[1] / "config.json").read_text())
    change(config)
    (folder[1] / "config.json").write_text(json.dumps(config))
    reseal(folder[1])
    with pytest.raises(RefusedError, match=rule):
        load_stack(folder[1])


def test_weights_that_are_no_safetensors_are_refused_though_their_hash_is_right(folder) -> None:
    whole = (folder[1] / "model.safetensors").read_bytes()
    (folder[1] / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    reseal(folder[1])
    with pytest.raises(RefusedError, match=r"model.safetensors must be a safetensors file"):
        load_stack(folder[1])


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"[1, 2]", "hold an object; received 'list'"),
        (b"\xff\xfe{}", "manifest.json must be UTF-8 text"),
        (b'{"format": 2, "contract": [], "sha256": {}}', "contract is .*, not an object"),
        (b'{"format": 2, "contract": {}, "sha256": []}', "sha256 is .*, not an object"),
        (b'{"format": 2, "contract": {}, "sha256": {}, "by": 1}', "unknown by"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder, content, rule) -> None:
    (folder[1] / "manifest.json").write_bytes(content)
    with pytest.raises(RefusedError, match=rule):
        load_stack(folder[1])


def test_a_part_of_a_contract_that_is_no_object_is_refused(folder) -> None:
    edit_manifest(folder[1], lambda manifest: manifest["contract"].update(sharer=["weights"]))
    with pytest.raises(RefusedError, match=r"sharer is .*, not an object"):
        load_stack(folder[1])


def test_weights_of_another_fuser_of_the_same_size_are_refused(folder, models, tmp_path) -> None:
    torch.manual_seed(9)
    save_between(*models[:2], tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder[1] / "model.safetensors")
    with pytest.raises(RefusedError, match="the file that the manifest names"):
        load_stack(folder[1])


def test_a_folder_is_checked_before_any_language_model_is_loaded(folder) -> None:
    (folder[1] / "manifest.json").unlink()
    with pytest.raises(RefusedError, match=r"must hold manifest\.json"):
        RosettaModel.from_pretrained(folder[1], receiver="not loaded", sharers="not loaded")


def test_a_save_that_is_interrupted_leaves_the_fusers_that_were_there(folder, models, monkeypatch) -> None:
    names = sorted(path.name for path in folder[1].iterdir())
    monkeypatch.setattr("c2c.checkpoints.checkpoint.save_file", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_between(*models[:2], folder[1])
    assert load_stack(folder[1])[1] == {"recipe": "c2c"}
    assert sorted(path.name for path in folder[1].iterdir()) == names


def test_fusers_used_with_other_models_are_refused_line_by_line(folder, models) -> None:
    receiver, _, other = models
    with pytest.raises(RefusedError) as refused:
        RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=[other])
    lines = [each.split(":")[0] for each in refused.value.received]
    assert lines == [f"sharer.{name}" for name in ("architecture", "layers", "layer_types", "weights_sha256")]
    assert "--accept-difference sharer.architecture" in refused.value.remedy


def test_sizes_that_cannot_work_are_refused_even_if_they_are_accepted(folder, models) -> None:
    receiver, _, other = models
    accepted = [f"sharer.{name}" for name in ("architecture", "layers", "layer_types", "weights_sha256")]
    with pytest.raises(RefusedError, match="must fit the sharer's cache"):
        RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=[other], override=accepted)


def test_another_training_of_a_model_is_refused_unless_that_line_is_accepted(folder, models, tiny_model) -> None:
    receiver, sharer, _ = models
    other = tiny_model("qwen3", seed=7)
    with pytest.raises(RefusedError, match=r"received \[.receiver\.weights_sha256: expected"):
        RosettaModel.from_pretrained(folder[1], receiver=other, sharers=sharer)
    loaded = RosettaModel.from_pretrained(
        folder[1], receiver=other, sharers=sharer, override=["receiver.weights_sha256"]
    )
    (accepted,) = loaded.contract_check.accepted
    assert accepted.startswith("receiver.weights_sha256: expected")
    assert RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=sharer).contract_check.accepted == ()


def test_what_was_accepted_is_saved_with_the_fusers_and_shown_when_they_are_loaded_again(
    folder, models, tiny_model, tmp_path
) -> None:
    receiver, sharer, _ = models
    other = tiny_model("qwen2", layers=4, seed=7)
    given = {"receiver": receiver, "sharers": other}
    loaded = RosettaModel.from_pretrained(folder[1], **given, override=["sharer.weights_sha256"])
    loaded.save_pretrained(tmp_path / "again")
    again = RosettaModel.from_pretrained(tmp_path / "again", **given)
    assert again.contract_check == loaded.contract_check
    assert [each.split(":")[0] for each in again.contract_check.accepted] == ["sharer.weights_sha256"]
    again.save_pretrained(tmp_path / "third")
    assert read_config(tmp_path / "third")["contract_check"] == loaded.contract_check.to_dict()
    RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=sharer).save_pretrained(tmp_path / "own")
    assert read_config(tmp_path / "own")["contract_check"] == {"accepted": [], "noted": []}


def test_with_several_sharers_a_line_is_accepted_for_the_one_that_is_named(models, tiny_model, tmp_path) -> None:
    receiver, *sharers = models
    stacks = [FuserStack.between(each.config, receiver.config, **SMALL) for each in sharers]
    RosettaModel.of_stacks(receiver, sharers, stacks).save_pretrained(tmp_path)
    others = [tiny_model("qwen2", layers=4, seed=8), tiny_model("llama", seed=8)]
    given = {"receiver": receiver, "sharers": others}
    with pytest.raises(RefusedError) as refused:
        RosettaModel.from_pretrained(tmp_path, **given, override=["sharer_2.weights_sha256"])
    assert [each.split(":")[0] for each in refused.value.received] == ["sharer_1.weights_sha256"]
    with pytest.raises(RefusedError, match=r"Did you mean 'sharer_[12]\.weights_sha256'"):
        RosettaModel.from_pretrained(tmp_path, **given, override=["sharer.weights_sha256"])
    names = [f"sharer_{number}.weights_sha256" for number in (1, 2)]
    loaded = RosettaModel.from_pretrained(tmp_path, **given, override=names)
    assert [each.split(":")[0] for each in loaded.contract_check.accepted] == names


def test_a_model_loaded_in_bf16_is_the_same_model_and_its_dtype_is_noted(models, tmp_path) -> None:
    receiver, sharer, _ = models
    for name, model in (("receiver", receiver), ("sharer", sharer)):
        model.save_pretrained(tmp_path / name)
    save_between(receiver, sharer, tmp_path / "fuser")
    where = {"receiver": tmp_path / "receiver", "sharers": tmp_path / "sharer"}
    loaded = RosettaModel.from_pretrained(tmp_path / "fuser", **where, dtype=torch.bfloat16, device="cpu")
    assert {each.dtype for each in loaded.parameters()} == {torch.bfloat16}
    assert loaded.contract_check.accepted == ()
    assert "receiver.dtype: expected 'float32', found 'bfloat16'" in loaded.contract_check.noted


def test_a_given_model_is_not_taken_for_one_of_another_dtype_or_place(folder, models) -> None:
    receiver, sharer, _ = models
    for asked in ({"dtype": "bfloat16"}, {"device": "meta"}):
        with pytest.raises(RefusedError, match="must have the dtype and device asked for"):
            RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=sharer, **asked)
    with pytest.raises(RefusedError, match="A dtype must be a known name"):
        RosettaModel.from_pretrained(folder[1], receiver=receiver, sharers=sharer, dtype="float23")


def test_models_named_by_folder_bring_their_tokenizers_and_those_are_compared(
    models, word_tokenizer, split_tokenizer, tmp_path
) -> None:
    receiver, sharer, _ = models
    for name, model in (("receiver", receiver), ("sharer", sharer)):
        model.save_pretrained(tmp_path / name)
        word_tokenizer.save_pretrained(tmp_path / name)
    model = RosettaModel.of_stacks(receiver, [sharer], [FuserStack.between(sharer.config, receiver.config, **SMALL)])
    model.save_pretrained(tmp_path / "fuser", tokenizers=[word_tokenizer, word_tokenizer])
    where = {"receiver": tmp_path / "receiver", "sharers": tmp_path / "sharer"}
    assert RosettaModel.from_pretrained(tmp_path / "fuser", **where).contract_check.accepted == ()
    without = RosettaModel.from_pretrained(tmp_path / "fuser", receiver=receiver, sharers=sharer).contract_check
    assert [each.split(":")[0] for each in without.noted] == ["receiver.tokenizer_sha256", "sharer.tokenizer_sha256"]
    loaded = LoadedModel("sharer", sharer, split_tokenizer)
    with pytest.raises(RefusedError, match=r"received \[.sharer\.tokenizer_sha256"):
        RosettaModel.from_pretrained(tmp_path / "fuser", receiver=receiver, sharers=loaded)
    split_tokenizer.save_pretrained(tmp_path / "receiver")
    with pytest.raises(RefusedError, match=r"received \[.receiver\.tokenizer_sha256"):
        RosettaModel.from_pretrained(tmp_path / "fuser", **where)
    with pytest.raises(RefusedError, match="a tokenizer for each of the 2 models; received 1"):
        model.save_pretrained(tmp_path / "fuser", tokenizers=[word_tokenizer])


def test_a_manifest_names_no_folder_of_this_machine(models, tmp_path) -> None:
    receiver, sharer, _ = models
    receiver.save_pretrained(tmp_path / "receiver")
    named = describe_model(receiver, name=str(tmp_path / "receiver"))
    save_stack(
        FuserStack.between(sharer.config, receiver.config, **SMALL), tmp_path / "fuser", receiver=named, sharer=named
    )
    assert read_manifest(tmp_path / "fuser")["contract"]["receiver"]["id"] == "receiver"
    assert str(tmp_path) not in (tmp_path / "fuser" / "manifest.json").read_text()


def test_a_sharer_that_runs_elsewhere_is_named_by_its_config(models, tmp_path) -> None:
    receiver, sharer, _ = models
    sharer.save_pretrained(tmp_path / "sharer")
    named = describe_model(sharer, name="owner/sharer")
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    save_stack(stack, tmp_path / "fuser", receiver=describe_model(receiver), sharer=named)
    config = AutoConfig.from_pretrained(tmp_path / "sharer")
    loaded = RosettaModel.from_pretrained(tmp_path / "fuser", receiver=receiver, sharers=config)
    assert [each.split(":")[0] for each in loaded.contract_check.noted] == ["sharer.weights_sha256"]
    loaded.save_pretrained(tmp_path / "again")
    assert read_manifest(tmp_path / "again")["contract"]["sharer"]["weights_sha256"] is None
