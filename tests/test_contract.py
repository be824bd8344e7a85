"""The compatibility contract: every line is compared, and only a line that is named may differ."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from c2c import FuserStack, RefusedError, RosettaModel
from c2c.checkpoints.checkpoint import save_stack
from c2c.evaluation.generate import GenerationRun
from c2c.models.contract import (
    FUSER_LINES,
    MODEL_LINES,
    NOTED,
    PARTS,
    ContractCheck,
    check_contract,
    check_lines,
    check_precision,
    compare,
    describe_fusers,
    describe_model,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from c2c.models.loading import load_causal_model
from c2c.types import DTYPES
from tests.bad_inputs.refusals import refused
from tests.conftest import FAMILIES

ONLY_NOTED = ("id", *NOTED)
LINES = [(part, line) for part, lines in PARTS.items() for line in lines]


@pytest.fixture
def contract(tiny_model, word_tokenizer):
    receiver, sharer = tiny_model("qwen3"), tiny_model("qwen2", layers=4, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=8, intermediate_dim=8)
    return {
        "receiver": describe_model(receiver, word_tokenizer, name="owner/receiver", revision="abc"),
        "sharer": describe_model(sharer, word_tokenizer, name="owner/sharer", revision="abc"),
        "fuser": describe_fusers(stack),
    }


def changed(contract, part, line, value="another"):
    other = copy.deepcopy(contract)
    other[part][line] = value
    return other


def test_every_line_is_described(contract) -> None:
    assert tuple(contract["receiver"]) == tuple(contract["sharer"]) == MODEL_LINES
    assert tuple(contract["fuser"]) == FUSER_LINES
    assert contract["receiver"]["rope"] == {"rope_theta": 10000.0, "rope_type": "default"}
    assert contract["sharer"]["layers"] == 4
    assert contract["fuser"]["layer_map"] == {"0": 1, "1": 2, "2": 3}
    assert compare(contract, copy.deepcopy(contract)) == []


@pytest.mark.parametrize(("part", "line"), [each for each in LINES if each[1] not in ONLY_NOTED])
def test_a_line_that_differs_is_refused_by_name_and_can_be_accepted_by_name_alone(contract, part, line) -> None:
    name, other = f"{part}.{line}", changed(contract, part, line)
    with pytest.raises(RefusedError) as refused:
        check_contract([contract], [other])
    (text,) = refused.value.received
    assert text.startswith(f"{name}: expected ")
    assert text.endswith("found 'another'")
    assert check_contract([contract], [other], override=[name]) == ContractCheck(accepted=(text,))
    other = changed(other, "receiver" if part == "sharer" else "sharer", "rope")
    with pytest.raises(RefusedError, match="rope"):
        check_contract([contract], [other], override=[name])


@pytest.mark.parametrize(("part", "line"), [each for each in LINES if each[1] in ONLY_NOTED])
def test_a_name_or_precision_that_differs_is_noted(contract, part, line) -> None:
    check = check_contract([contract], [changed(contract, part, line)])
    assert check.accepted == ()
    assert [each.split(":")[0] for each in check.noted] == [f"{part}.{line}"]


def test_without_weights_to_compare_another_id_is_refused_and_none_is_noted() -> None:
    wanted = {"receiver": {"id": "owner/model"}}
    with pytest.raises(RefusedError, match=r"receiver\.id: expected 'owner/model', found 'owner/other'"):
        check_contract([wanted], [{"receiver": {"id": "owner/other"}}])
    assert check_contract([wanted], [{"receiver": {"id": "model"}}]) == ContractCheck()
    assert len(check_contract([wanted], [{"receiver": {"id": ""}}]).noted) == 1


@pytest.mark.parametrize("side", [0, 1])
def test_a_tokenizer_that_one_side_lacks_is_noted(contract, side) -> None:
    both = [contract, contract]
    both[side] = changed(contract, "sharer", "tokenizer_sha256", None)
    assert len(check_contract([both[0]], [both[1]]).noted) == 1


def test_all_lines_that_differ_are_named_at_once_and_maps_only_where_they_differ(contract) -> None:
    other = changed(changed(contract, "receiver", "rope"), "fuser", "layer_map", {"0": 1, "1": 0, "2": 3})
    with pytest.raises(RefusedError) as refused:
        check_contract([contract], [other])
    assert len(refused.value.received) == 2
    assert refused.value.received[1] == "fuser.layer_map: expected {'1': 2}, found {'1': 0}"


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        (["reciever.rope"], "Did you mean 'receiver.rope'"),
        (["all"], "A line of the contract must be a known name"),
        (True, "must name the lines"),
        (["rope"], "A line of the contract"),
    ],
)
def test_an_override_that_names_no_line_is_refused_even_if_nothing_differs(contract, override, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        check_contract([contract], [contract], override=override)
    with pytest.raises(RefusedError, match=rule):
        check_lines(override)


def test_one_line_may_be_named_without_a_list() -> None:
    assert check_lines("sharer.rope") == ["sharer.rope"]


def test_weights_are_the_same_in_bf16_and_after_saving_and_differ_after_training(tiny_model, tmp_path) -> None:
    model = tiny_model("llama")
    whole = weights_fingerprint(model)
    model.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        assert weights_fingerprint(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)) == whole
    assert weights_fingerprint(tiny_model("llama")) == whole
    assert weights_fingerprint(tiny_model("llama", seed=1)) != whole
    assert weights_fingerprint(tiny_model("llama", hidden=48)) != whole
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[-1, -1] += 0.1
    assert weights_fingerprint(model) != whole


@pytest.mark.parametrize(
    ("trained", "loaded", "fits"),
    [
        ("float32", "bfloat16", True),
        ("bfloat16", "float32", True),
        ("float16", "float16", True),
        ("float32", "float16", False),
        ("bfloat16", "float16", False),
        ("float16", "float32", False),
    ],
)
def test_a_precision_in_which_weights_cannot_be_compared_is_refused_before_they_are_loaded(
    contract, tiny_model, trained, loaded, fits
) -> None:
    for part in ("receiver", "sharer"):
        contract[part]["dtype"] = trained
    # The rule is what fingerprints of loaded weights say.
    whole = [weights_fingerprint(tiny_model("llama").to(getattr(torch, dtype))) for dtype in (trained, loaded)]
    assert (whole[0] == whole[1]) is fits
    if fits:
        check_precision(contract, loaded)
        return
    with refused("float16", f"Pass --dtype {trained}"):
        check_precision(contract, loaded)
    check_precision(contract, loaded, ["receiver.weights_sha256", "sharer.weights_sha256"])
    used = changed(changed(contract, "receiver", "weights_sha256"), "receiver", "dtype", loaded)
    with pytest.raises(RefusedError, match="Load them in the precision of the contract"):
        check_contract([contract], [used])


def test_a_run_in_such_a_precision_is_refused_before_anything_is_read(contract, tmp_path) -> None:
    (tmp_path / "fuser").mkdir()
    (tmp_path / "fuser" / "manifest.json").write_text(json.dumps({"contract": contract}))
    asked = {"scale": "s", "pair": "p", "tasks": tmp_path, "benchmarks": {}, "output": tmp_path / "x.parquet"}
    asked |= {"receiver": "nowhere", "dtype": "float16", "methods": ("c2c",)}
    with refused("Pass --dtype float32"):
        GenerationRun(**asked, sharers=["nowhere"], fusers=[str(tmp_path / "fuser")])
    GenerationRun(**asked | {"methods": ("receiver",)}, sharers=["nowhere"], fusers=[str(tmp_path / "fuser")])
    group = {"sharers": ["a", "b"], "fusers": [str(tmp_path / "fuser")] * 2, "alignment": "span", "seed": 0}
    with refused("Pass --dtype float32"):
        GenerationRun(**asked, **group)
    lines = [f"{part}.weights_sha256" for part in ("receiver", "sharer_1", "sharer_2")]
    GenerationRun(**asked, **group, accept_difference=lines)


def test_every_precision_that_is_offered_can_be_loaded(tiny_model, tmp_path) -> None:
    tiny_model("qwen3").save_pretrained(tmp_path)
    for dtype in DTYPES:
        assert load_causal_model(tmp_path, dtype).dtype == getattr(torch, dtype)


def test_a_tokenizer_is_the_same_after_use_and_saving_and_another_one_or_template_is_not(
    word_tokenizer, split_tokenizer, tmp_path
) -> None:
    before = tokenizer_fingerprint(word_tokenizer)
    word_tokenizer(["red", "the blue home"], padding=True, truncation=True, max_length=2)
    word_tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert tokenizer_fingerprint(word_tokenizer) == tokenizer_fingerprint(again) == before
    assert tokenizer_fingerprint(split_tokenizer) != before
    again.chat_template = "{{ messages[0].content }}"
    templated = tokenizer_fingerprint(again)
    assert templated != before
    again.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path)) == templated


def test_other_rope_settings_are_another_line(tiny_model) -> None:
    model = tiny_model("qwen3")
    before = describe_model(model)
    model.config.rope_parameters = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
    after = describe_model(model)
    assert [each.line for each in compare({"receiver": before}, {"receiver": after})] == ["receiver.rope"]


@pytest.mark.parametrize(
    ("family", "setting", "value"),
    [
        ("qwen3", "hidden_act", "relu"),
        ("llama", "rms_norm_eps", 0.3),
        ("gpt_neox", "layer_norm_eps", 0.3),
        ("gpt_neox", "use_parallel_residual", False),
        ("granite", "residual_multiplier", 0.9),
        ("gemma3", "final_logit_softcapping", 30.0),
        ("gemma3", "query_pre_attn_scalar", 99),
    ],
)
def test_a_setting_that_changes_what_a_model_computes_is_refused_by_name(
    tiny_model, tmp_path, prompt_ids, family, setting, value
) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    old = config[setting]
    (tmp_path / "config.json").write_text(json.dumps(config | {setting: value}))
    other = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert not torch.allclose(model(prompt_ids).logits, other(prompt_ids).logits, atol=1e-3)
    both = [{"receiver": describe_model(each)} for each in (model, other)]
    with refused("receiver.computation", f"expected {{{setting!r}: {old!r}}}, found {{{setting!r}: {value!r}}}"):
        check_contract(both[:1], both[1:])
    (text,) = check_contract(both[:1], both[1:], override=["receiver.computation"]).accepted
    assert text.startswith("receiver.computation: ")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_saved_and_loaded_or_its_config_alone_computes_what_the_one_built_in_code_does(
    tiny_model, tmp_path, family
) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    lines = describe_model(model)["computation"]
    assert {"hidden_size", "num_attention_heads"} < lines.keys()
    assert describe_model(AutoModelForCausalLM.from_pretrained(tmp_path))["computation"] == lines
    assert describe_model(AutoConfig.from_pretrained(tmp_path))["computation"] == lines
    assert describe_model(tiny_model(family).to(torch.bfloat16))["computation"] == lines


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_cache", False),
        ("attention_dropout", 0.5),
        ("initializer_range", 0.1),
        ("eos_token_id", [1, 2]),
        ("max_position_embeddings", 4096),
        ("transformers_version", "4.0"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}),
    ],
)
def test_a_setting_that_changes_no_state_or_has_a_line_of_its_own_is_no_computation(tiny_model, setting, value) -> None:
    model = tiny_model("llama")
    before = describe_model(model)["computation"]
    setattr(model.config, setting, value)
    after = describe_model(model)["computation"]
    assert {key: after[key] for key in before} == before


def test_the_longest_text_is_a_computation_where_rotations_are_scaled(tiny_model) -> None:
    config = tiny_model("llama").config
    config.rope_parameters = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0}
    before = describe_model(config)
    config.max_position_embeddings *= 2
    assert before["computation"] != describe_model(config)["computation"]


@pytest.mark.parametrize("side", [0, 1])
def test_a_contract_from_before_the_computation_was_a_line_is_taken_and_nothing_noted(contract, side) -> None:
    other = copy.deepcopy(contract)
    for part in ("receiver", "sharer"):
        del other[part]["computation"]
    both = [contract, other] if side else [other, contract]
    assert check_contract([both[0]], [both[1]]) == ContractCheck()
    with pytest.raises(RefusedError, match="rope"):
        check_contract([both[0]], [changed(both[1], "receiver", "rope")])


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Where Fusers of two models are saved, and the models."""
    receiver, sharer = tiny_model("qwen3"), tiny_model("qwen2", seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=8, intermediate_dim=8)
    save_stack(stack, tmp_path / "fuser", receiver=describe_model(receiver), sharer=describe_model(sharer))
    return tmp_path / "fuser", receiver, sharer


def test_a_folder_from_before_the_computation_was_a_line_is_loaded(folder) -> None:
    where, receiver, sharer = folder
    manifest = json.loads((where / "manifest.json").read_text())
    for part in ("receiver", "sharer"):
        del manifest["contract"][part]["computation"]
    (where / "manifest.json").write_text(json.dumps(manifest))
    loaded = RosettaModel.from_pretrained(where, receiver=receiver, sharers=sharer)
    assert loaded.contract_check == ContractCheck()


def test_a_folder_of_models_that_compute_otherwise_is_refused_and_can_be_accepted(folder) -> None:
    where, receiver, sharer = folder
    sharer.config.rms_norm_eps = 0.3
    with refused("sharer.computation: expected {'rms_norm_eps': 1e-06}, found {'rms_norm_eps': 0.3}"):
        RosettaModel.from_pretrained(where, receiver=receiver, sharers=sharer)
    RosettaModel.from_pretrained(where, receiver=receiver, sharers=sharer, override=["sharer.computation"])


def test_a_computation_that_is_no_object_is_refused(folder) -> None:
    manifest = json.loads((folder[0] / "manifest.json").read_text())
    manifest["contract"]["receiver"]["computation"] = "silu"
    (folder[0] / "manifest.json").write_text(json.dumps(manifest))
    with refused("computation is 'silu', not an object"):
        RosettaModel.from_pretrained(folder[0], receiver=folder[1], sharers=folder[2])


def test_settings_that_one_version_of_transformers_lacks_are_not_compared(contract) -> None:
    lines = contract["receiver"]["computation"]
    assert check_contract([contract], [changed(contract, "receiver", "computation", {**lines, "new": 1})]) == (
        ContractCheck()
    )
    with refused("receiver.computation: expected {'rms_norm_eps': 1e-06}, found {'rms_norm_eps': 0.3}"):
        found = {**lines, "new": 1, "rms_norm_eps": 0.3}
        check_contract([contract], [changed(contract, "receiver", "computation", found)])


def test_a_model_known_by_its_config_alone_must_have_the_same_id(contract, tiny_model) -> None:
    config = tiny_model("qwen2", layers=4, seed=1).config
    for name, lines in (("owner/sharer", []), ("owner/other", ["id", "weights_sha256"]), ("", ["weights_sha256"])):
        found = {**contract, "sharer": describe_model(config, name=name)}
        differing = [each.line for each in compare(contract, found) if each.refuses]
        assert differing == [f"sharer.{line}" for line in lines]
    other = describe_model(tiny_model("qwen2", layers=5).config, name="owner/sharer")
    with pytest.raises(RefusedError, match=r"sharer\.layers: expected 4, found 5"):
        check_contract([contract], [{**contract, "sharer": other}])
