"""The forms in which the Receiver's fused cache can be held while it writes."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from c2c import FuserStack, RefusedError, RosettaModel, generate_kv_cache_index
from c2c.cache.kv_cache import BITS, cache_of_layers, convert_cache, layers_of, prefill
from c2c.types import CACHE_FORMS
from tests.conftest import SMALL, build_model, open_gates

TOTAL, NEW = 11, 6
EXACT = [form for form in CACHE_FORMS if form not in BITS]


def fused_model(family: str) -> RosettaModel:
    torch.manual_seed(3)
    receiver, sharer = build_model(family, head_dim=16), build_model("qwen2", seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    return open_gates(RosettaModel.of_stacks(receiver, [sharer], [stack]))


def left_padded(prompt_ids: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(prompt_ids)
    mask[0, :3] = 0
    return mask


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mistral"])
def test_a_cache_of_another_form_leads_to_the_same_text(family, form, prompt_ids) -> None:
    model, mask = fused_model(family), left_padded(prompt_ids)
    index = generate_kv_cache_index(TOTAL - 1, 1)
    expected = model.generate(index, prompt_ids, mask, max_new_tokens=NEW)
    assert torch.equal(model.generate(index, prompt_ids, mask, max_new_tokens=NEW, cache=form), expected)


@pytest.mark.parametrize("form", CACHE_FORMS)
def test_what_a_form_holds_is_read_back_up_to_its_rounding(form, prompt_ids) -> None:
    model = build_model("llama", head_dim=16)
    cache = prefill(model, prompt_ids, torch.ones_like(prompt_ids), torch.arange(TOTAL).expand(2, -1))
    layers = [(keys.clone(), values.clone()) for keys, values in layers_of(cache)]
    held = layers_of(convert_cache(cache, form, model.config, TOTAL + 4))
    # Of the range of a group, 2^bits - 1 steps; hqq's own optimisation may shift a number by a step more.
    steps = {"int8": 2 / 255, "int4": 2 / 15}.get(form, 0.0)
    for (keys, values), (other_keys, other_values) in zip(layers, held, strict=True):
        for states, other in ((keys, other_keys), (values, other_values)):
            assert other.shape == states.shape
            assert (other - states).abs().max() <= steps * (states.max() - states.min())


@pytest.mark.parametrize("form", BITS)
def test_integers_of_a_row_do_not_depend_on_the_rest_of_its_batch(form) -> None:
    config = build_model("llama", head_dim=16).config
    draw = torch.Generator().manual_seed(0)
    row, other = ([(torch.randn(2, 1, 2, 6, 16, generator=draw) * size).unbind() for _ in range(3)] for size in (1, 4))
    both = [tuple(torch.cat(pair) for pair in zip(*layers, strict=True)) for layers in zip(row, other, strict=True)]
    alone, batched = (
        layers_of(convert_cache(cache_of_layers(each, config), form, config, TOTAL)) for each in (row, both)
    )
    for (keys, values), (all_keys, all_values) in zip(alone, batched, strict=True):
        assert torch.equal(all_keys[:1], keys)
        assert torch.equal(all_values[:1], values)


def test_fewer_bits_round_more_and_are_not_exact(prompt_ids) -> None:
    model = build_model("llama", head_dim=16)
    cache = prefill(model, prompt_ids, torch.ones_like(prompt_ids), torch.arange(TOTAL).expand(2, -1))
    keys = layers_of(cache)[0][0]
    errors = {
        form: float((layers_of(convert_cache(cache, form, model.config, TOTAL))[0][0] - keys).abs().mean())
        for form in BITS
    }
    assert 0 < errors["int8"] < errors["int4"] / 4


@pytest.mark.parametrize("form", BITS)
def test_a_model_writes_from_integers_in_padded_batches(form, prompt_ids) -> None:
    model, mask = fused_model("llama"), left_padded(prompt_ids)
    index = generate_kv_cache_index(TOTAL - 1, 1)
    written = model.generate(index, prompt_ids, mask, max_new_tokens=NEW, cache=form, eos_token_id=96)
    assert written.shape == (2, TOTAL + NEW)
    if form == "int8":
        exact = model.generate(index, prompt_ids, mask, max_new_tokens=1)
        assert torch.equal(written[:, : TOTAL + 1], exact)


@pytest.mark.parametrize("form", BITS)
def test_integers_are_refused_where_a_layer_has_a_window(form, prompt_ids) -> None:
    model = fused_model("gemma3")
    with pytest.raises(RefusedError, match=r"full attention in every layer.*gemma3"):
        model.generate(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids, max_new_tokens=1, cache=form)


def test_integers_are_refused_without_their_package(prompt_ids, monkeypatch) -> None:
    monkeypatch.setattr("c2c.cache.kv_cache.is_hqq_available", lambda: False)
    with pytest.raises(RefusedError, match=r"package hqq must be installed.*cache-to-cache\[quantised\]"):
        fused_model("llama").generate(generate_kv_cache_index(10, 1), prompt_ids, max_new_tokens=1, cache="int8")


def test_a_cache_that_has_dropped_tokens_cannot_be_fused(prompt_ids) -> None:
    model = build_model("mistral")
    cache = DynamicCache(config=model.config)
    model(input_ids=prompt_ids, cache=cache)
    with pytest.raises(RefusedError, match=r"must hold all its tokens.*the last 4 of 11"):
        layers_of(cache)


def test_a_static_cache_has_room_for_the_prompt_and_the_answer_and_no_more(prompt_ids) -> None:
    model = build_model("llama")
    layers = [(torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)) for _ in range(3)]
    held = convert_cache(cache_of_layers(layers, model.config), "static", model.config, room=9)
    assert held.layers[0].keys.shape[2] == 9
    assert int(held.get_seq_length()) == 5
