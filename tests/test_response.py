"""Fusing the response too: against the formulas by hand, token by token = all at once, and what a step costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

from c2c import FuserStack, RefusedError, RosettaModel, SharerInput, TokenAligner, generate_kv_cache_index
from c2c.cache.kv_cache import layers_of
from tests.conftest import SMALL, build_model, open_gates

FUSED, TOTAL = 6, 11


@pytest.fixture
def fusing() -> RosettaModel:
    """A Llama that reads a Qwen2, whose response is fused."""
    torch.manual_seed(3)
    receiver, sharer = build_model("llama"), build_model("qwen2", layers=4, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    return open_gates(RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=True))


def llama_on(model, ids, start, keys_values) -> torch.Tensor:
    """Logits of a Llama's tokens from `start` on whose every layer attends to the given keys and values (T layers)."""
    body, hidden = model.model, model.model.embed_tokens(ids[:, start:])
    positions = torch.arange(start, ids.shape[1])[None]
    cos, sin = body.rotary_emb(hidden, positions)
    visible = torch.arange(ids.shape[1])[None, :] <= positions[0][:, None]
    for layer, (keys, values) in zip(body.layers, keys_values, strict=True):
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)
        query = attention.q_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        query, _ = apply_rotary_pos_emb(query, query, cos, sin)
        groups = attention.num_key_value_groups
        scores = query @ repeat_kv(keys, groups).transpose(2, 3) * attention.scaling
        weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
        read = (weights @ repeat_kv(values, groups)).transpose(1, 2).flatten(2)
        hidden = hidden + attention.o_proj(read)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return model.lm_head(body.norm(hidden))


@torch.no_grad()
def test_each_layer_attends_to_fused_keys_and_values_of_the_response_as_computed_by_hand(fusing, prompt_ids) -> None:
    receiver, sharer = fusing.model_list
    own, theirs = (layers_of(model(input_ids=prompt_ids, use_cache=True).cache) for model in (receiver, sharer))
    fused = fusing.stacks[0](theirs, own)
    ours = fusing(generate_kv_cache_index(FUSED, TOTAL - FUSED), prompt_ids)
    torch.testing.assert_close(ours.logits, llama_on(receiver, prompt_ids, FUSED, fused), atol=1e-5, rtol=1e-5)
    for layer, expected in zip(layers_of(ours.cache), fused, strict=True):
        torch.testing.assert_close(layer, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_a_response_that_grows_token_by_token_equals_one_that_is_read_at_once(fusing, prompt_ids, padded) -> None:
    mask = torch.ones_like(prompt_ids)
    mask[0, :3] = 0 if padded else 1
    index = generate_kv_cache_index(TOTAL - 1, 1)
    written = fusing.generate(index, prompt_ids, mask, max_new_tokens=6, eos_token_id=96)
    whole_mask = torch.cat([mask, torch.ones(2, written.shape[1] - TOTAL, dtype=mask.dtype)], dim=1)
    logits = fusing(generate_kv_cache_index(TOTAL - 1, written.shape[1] - TOTAL + 1), written, whole_mask).logits
    assert torch.equal(logits[:, :-1].argmax(-1), written[:, TOTAL:])


def test_the_answer_differs_from_one_with_the_prompt_alone_fused(fusing, prompt_ids) -> None:
    index = generate_kv_cache_index(FUSED, TOTAL - FUSED)
    with torch.no_grad():
        fused = fusing(index, prompt_ids).logits
        fusing.include_response = False
        assert not torch.allclose(fusing(index, prompt_ids).logits, fused, atol=1e-3)


def test_with_closed_gates_the_receiver_answers_bit_for_bit(fusing, prompt_ids) -> None:
    index = generate_kv_cache_index(TOTAL - 1, 1)
    with fusing.restricted(gates="closed"):
        closed = fusing.generate(index, prompt_ids, max_new_tokens=6)
        logits = fusing(index, prompt_ids).logits
    fusing.include_response = False
    with fusing.restricted(gates="closed"):
        assert torch.equal(fusing.generate(index, prompt_ids, max_new_tokens=6), closed)
        assert torch.equal(fusing(index, prompt_ids).logits, logits)


def test_a_step_costs_one_forward_of_the_sharer_and_two_of_the_receiver(fusing, prompt_ids, monkeypatch) -> None:
    calls = {"receiver": 0, "sharer": 0}

    def count(name: str, model) -> None:
        original = model.base_model.forward

        def counted(*arguments, **named):
            calls[name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(model.base_model, "forward", counted)

    count("receiver", fusing.receiver)
    count("sharer", fusing.sharers[0])
    written = fusing.generate(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids, max_new_tokens=5, eos_token_id=96)
    steps = written.shape[1] - TOTAL
    assert calls == {"receiver": 1 + 2 * steps, "sharer": 1 + steps}


def test_nothing_stays_behind_on_the_receiver(fusing, prompt_ids) -> None:
    alone = fusing.receiver.generate(prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=4)
    fusing.generate(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids, max_new_tokens=4)
    assert not fusing.receiver._forward_pre_hooks
    again = fusing.receiver.generate(prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=4)
    assert torch.equal(alone, again)


def test_a_loss_on_a_fused_response_reaches_every_fuser(fusing, prompt_ids) -> None:
    labels = prompt_ids.clone()
    labels[:, : FUSED + 1] = -100
    fusing.train()
    fusing(generate_kv_cache_index(FUSED, TOTAL - FUSED), prompt_ids, labels=labels).loss.backward()
    gradients = [parameter.grad for parameter in fusing.stacks.parameters()]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["sequential", "parallel"])
def test_two_sharers_are_fused_into_the_response_and_an_unselected_one_is_not(
    two_sharers, prompt_ids, sections, fusion
) -> None:
    two_sharers.fusion, two_sharers.include_response = fusion, True
    logits = {mask: two_sharers(sections((mask, FUSED), (-1, TOTAL - FUSED)), prompt_ids).logits for mask in (1, 2, 3)}
    assert not torch.allclose(logits[3], logits[1], atol=1e-3)
    assert not torch.allclose(logits[3], logits[2], atol=1e-3)
    named = two_sharers(sections((3, FUSED), (1, TOTAL - FUSED)), prompt_ids).logits
    assert not torch.allclose(named, logits[3], atol=1e-3)


@torch.no_grad()
def test_the_unfused_reading_goes_through_all_sections_of_the_prefix(fusing, prompt_ids, sections) -> None:
    receiver, sharer = fusing.model_list
    own, theirs = (layers_of(model(input_ids=prompt_ids, use_cache=True).cache) for model in (receiver, sharer))
    fused = fusing.stacks[0](theirs, own)
    cache = fusing(sections((1, 3), (1, 3), (-1, TOTAL - 6)), prompt_ids).cache
    for layer, expected in zip(layers_of(cache), fused, strict=True):
        torch.testing.assert_close(layer[0][:, :, 6:], expected[0][:, :, 6:], atol=1e-5, rtol=1e-5)


def test_a_sharer_with_another_tokenizer_reads_the_response_re_encoded(word_tokenizer, split_tokenizer) -> None:
    aligner = TokenAligner(word_tokenizer, split_tokenizer)
    ids = torch.tensor([word_tokenizer("what is the color")["input_ids"]])
    theirs = aligner.reencode(ids)
    assert theirs.shape == ids.shape
    assert split_tokenizer.decode(theirs[0, -1:]).strip() in "color"
    assert TokenAligner(word_tokenizer, word_tokenizer).reencode(ids) is ids


def test_a_sharer_that_cannot_read_what_the_receiver_may_write_is_refused(prompt_ids) -> None:
    receiver, sharer = build_model("llama"), build_model("qwen2", vocab=90, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    model = RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=True)
    low = prompt_ids.clamp(max=80)
    with pytest.raises(RefusedError, match="must know all 97 tokens that the Receiver may write"):
        model.generate(generate_kv_cache_index(TOTAL - 1, 1), low, max_new_tokens=2)
    given = SharerInput.of_receiver(low[:, :-1], torch.ones_like(low[:, :-1]))
    given = SharerInput(given.input_ids, given.attention_mask, given.token_map, reencode=lambda ids: ids.clamp(max=89))
    written = model.generate(generate_kv_cache_index(TOTAL - 1, 1), low, max_new_tokens=2, sharer_inputs=[given])
    assert written.shape[1] > TOTAL


@pytest.mark.parametrize("given", [False, True])
def test_a_response_that_does_not_fit_into_a_sharers_positions_is_refused_before_any_model_runs(
    fusing, prompt_ids, monkeypatch, given
) -> None:
    room = TOTAL + 1
    monkeypatch.setattr(fusing.sharers[0].config, "max_position_embeddings", room)
    prefix = prompt_ids[:, :-1]
    read = [SharerInput.of_receiver(prefix, torch.ones_like(prefix))] if given else None
    index = generate_kv_cache_index(TOTAL - 1, 1)
    assert fusing.generate(index, prompt_ids, max_new_tokens=1, sharer_inputs=read).shape[1] == room
    monkeypatch.setattr(fusing.sharers[0].config, "max_position_embeddings", TOTAL - 1)
    for each in fusing.model_list:
        monkeypatch.setattr(each.base_model, "forward", lambda **_: pytest.fail("a model ran"))
    rule = f"What Sharer 1 reads with the response must fit into its {TOTAL - 1} positions; received "
    with pytest.raises(RefusedError, match=f"{rule}{TOTAL + 20}"):
        fusing.generate(index, prompt_ids, max_new_tokens=20, sharer_inputs=read)
    with pytest.raises(RefusedError, match=f"{rule}{TOTAL}"):
        fusing(index, prompt_ids, sharer_inputs=read)


def test_a_response_without_a_prefix_and_another_form_of_cache_are_refused(fusing, prompt_ids, sections) -> None:
    with pytest.raises(RefusedError, match="A response that is fused must come after a prefix"):
        fusing(sections((1, TOTAL)), prompt_ids)
    with pytest.raises(RefusedError, match="must have a dynamic cache"):
        fusing.generate(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids, max_new_tokens=2, cache="static")


def test_the_loss_is_that_of_the_fused_response(fusing, prompt_ids) -> None:
    index, start = generate_kv_cache_index(FUSED, TOTAL - FUSED), FUSED + 1
    labels = prompt_ids.clone()
    labels[:, :start] = -100
    with torch.no_grad():
        output = fusing(index, prompt_ids, labels=labels)
    expected = functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), prompt_ids[:, start:].flatten())
    torch.testing.assert_close(output.loss, expected)


@torch.no_grad()
def test_the_sharer_reads_the_response_at_the_positions_that_are_given(fusing, prompt_ids) -> None:
    receiver, sharer = fusing.model_list
    places = torch.arange(TOTAL).expand(2, -1) + 20
    own, theirs = (
        layers_of(model(input_ids=prompt_ids, position_ids=places, use_cache=True).cache)
        for model in (receiver, sharer)
    )
    ours = fusing(generate_kv_cache_index(FUSED, TOTAL - FUSED), prompt_ids, position_ids=places)
    for layer, expected in zip(layers_of(ours.cache), fusing.stacks[0](theirs, own), strict=True):
        torch.testing.assert_close(layer, expected, atol=1e-5, rtol=1e-5)


def test_a_cache_of_another_precision_is_read_on_in_the_sharers_own(fusing, prompt_ids) -> None:
    given = SharerInput.of_receiver(prompt_ids[:, :-1], torch.ones_like(prompt_ids[:, :-1]))
    exact = replace(given, layers=fusing.read_sharer(0, given))
    fusing.to(torch.bfloat16)
    index = generate_kv_cache_index(TOTAL - 1, 1)
    logits = fusing(index, prompt_ids, sharer_inputs=[exact]).logits
    assert logits.dtype == torch.bfloat16
    expected = fusing(index, prompt_ids, sharer_inputs=[given]).logits
    torch.testing.assert_close(logits, expected, atol=0.5, rtol=0.1)


def test_a_response_that_a_sharer_cannot_read_is_refused_before_any_model_runs(prompt_ids, monkeypatch) -> None:
    receiver, sharer = build_model("llama"), build_model("qwen2", vocab=50, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    model = RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=True)
    for each in model.model_list:
        monkeypatch.setattr(each.base_model, "forward", lambda **_: pytest.fail("a model ran"))
    with pytest.raises(RefusedError, match="must know all 97 tokens"):
        model.generate(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids.clamp(max=49), max_new_tokens=1)


def test_whether_the_response_is_fused_is_kept_and_can_be_said_anew(tiny_model, tmp_path) -> None:
    receiver, sharer = tiny_model("qwen3"), tiny_model("qwen2", layers=4, seed=1)
    small = {"hidden_dim": 8, "intermediate_dim": 8, "layer_alignment": "nearest"}
    stacks = [FuserStack.between(sharer.config, receiver.config, **small)]
    RosettaModel.of_stacks(receiver, [sharer], stacks, include_response=True).save_pretrained(tmp_path)
    given = {"receiver": receiver, "sharers": sharer}
    assert RosettaModel.from_pretrained(tmp_path, **given).include_response
    assert not RosettaModel.from_pretrained(tmp_path, **given, include_response=False).include_response
