"""Partial fusion: a share of the prefix, some layers, forced gates."""

from __future__ import annotations

import pytest
import torch

from c2c import RefusedError, generate_kv_cache_index
from c2c.cache.kv_cache import layers_of

TOTAL = 11


@pytest.mark.parametrize(
    ("share", "side", "expected"),
    [
        (1.0, "front", [(1, 10), (-1, 1)]),
        (0.0, "front", [(-1, 10), (-1, 1)]),
        (0.25, "front", [(1, 2), (-1, 8), (-1, 1)]),
        (0.25, "back", [(-1, 8), (1, 2), (-1, 1)]),
        (0.05, "back", [(-1, 10), (-1, 1)]),
    ],
)
def test_a_share_of_the_prefix_is_rounded_down_and_stands_at_the_named_side(share, side, expected) -> None:
    index = generate_kv_cache_index(10, 1, share=share, side=side)
    assert [(int(each[0, 0, 0]), each.shape[1]) for each in index] == expected


def cache_of(model, index, ids) -> list:
    with torch.no_grad():
        return layers_of(model(index, ids).cache)


@pytest.mark.parametrize(
    ("side", "kept", "fused"), [("front", slice(5, 10), slice(0, 5)), ("back", slice(0, 5), slice(5, 10))]
)
def test_only_the_tokens_of_the_share_are_fused(open_model, prompt_ids, side, kept, fused) -> None:
    partial = cache_of(open_model, generate_kv_cache_index(10, 1, share=0.5, side=side), prompt_ids)
    with open_model.restricted(gates="closed"):
        alone = cache_of(open_model, generate_kv_cache_index(10, 1), prompt_ids)
    # The first layer's keys and values do not depend on what was attended to.
    assert torch.equal(partial[0][0][:, :, kept], alone[0][0][:, :, kept])
    assert not torch.allclose(partial[0][0][:, :, fused], alone[0][0][:, :, fused], atol=1e-3)


def test_without_a_share_the_receiver_answers_alone(open_model, prompt_ids) -> None:
    none = open_model.generate(generate_kv_cache_index(10, 1, share=0.0), prompt_ids, max_new_tokens=4)
    mask = torch.ones_like(prompt_ids)
    alone = open_model.receiver.generate(prompt_ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
    assert torch.equal(none, alone)


def test_only_the_named_layers_are_fused_and_the_rest_are_the_receivers(open_model, prompt_ids) -> None:
    index = generate_kv_cache_index(10, 1)
    whole = cache_of(open_model, index, prompt_ids)
    with open_model.restricted(layers=[1]):
        only = cache_of(open_model, index, prompt_ids)
    with open_model.restricted(gates="closed"):
        alone = cache_of(open_model, index, prompt_ids)
    for layer in (0, 2):
        assert torch.equal(only[layer][0][:, :, :10], alone[layer][0][:, :, :10])
    assert torch.equal(only[1][1][:, :, :10], whole[1][1][:, :, :10])
    assert torch.equal(cache_of(open_model, index, prompt_ids)[0][0], whole[0][0]), "a restriction ends with its block"


def test_forced_open_gates_fuse_what_learned_ones_left_out(closed_model, prompt_ids) -> None:
    index = generate_kv_cache_index(10, 1)
    alone = cache_of(closed_model, index, prompt_ids)
    with closed_model.restricted(gates="open"):
        assert not torch.allclose(cache_of(closed_model, index, prompt_ids)[0][0], alone[0][0], atol=1e-4)
    assert torch.equal(cache_of(closed_model, index, prompt_ids)[0][0], alone[0][0])


def test_a_restriction_ends_when_its_block_fails(open_model, prompt_ids) -> None:
    index = generate_kv_cache_index(10, 1)
    before = cache_of(open_model, index, prompt_ids)
    with pytest.raises(RuntimeError, match="on the way"), open_model.restricted(gates="closed", layers=[]):
        raise RuntimeError("on the way")
    assert torch.equal(cache_of(open_model, index, prompt_ids)[0][0], before[0][0])


def test_a_restriction_leaves_what_was_set_before_it(open_model) -> None:
    stack = open_model.stack(0)
    stack.only_layers([1])
    stack.force_gates(False)
    with open_model.restricted(layers=[0], gates="open"):
        with open_model.restricted(layers=[2], gates="closed"):
            assert stack.active_layers == {2}
        assert stack.active_layers == {0}
        assert stack.fuser_of(0).gate_override is True
    assert stack.active_layers == {1}
    assert stack.fuser_of(0).gate_override is False


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda model: generate_kv_cache_index(10, 1, share=1.5), r"share.*\[0, 1\]; received 1.5"),
        (lambda model: generate_kv_cache_index(10, 1, share=0.5, side="middle"), "'middle'.*front, back"),
        (lambda model: model.restricted(gates="ajar").__enter__(), "'ajar'.*learned, open, closed"),
        (lambda model: model.restricted(layers=[3]).__enter__(), "of the Receiver, 0 to 2; received"),
    ],
)
def test_an_impossible_part_is_refused(open_model, call, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        call(open_model)
    assert open_model.stack(0).open_share() == 1.0
