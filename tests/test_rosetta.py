"""The fused model: equal to the Receiver where it must be, linked as asked, and clear about what it refuses."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from c2c import RefusedError, RosettaModel, create_c2c_projector, generate_kv_cache_index
from c2c.cache.kv_cache import layers_of, positions_of

SMALL = {"hidden_dim": 16, "intermediate_dim": 16}
FUSED, TOTAL = 8, 11


def in_two_sections(receiver, ids, mask, split: int = FUSED):
    """The Receiver alone, its prompt read in two steps: logits of the second, and the cache."""
    cache, positions = DynamicCache(config=receiver.config), positions_of(mask)
    receiver(input_ids=ids[:, :split], attention_mask=mask[:, :split], position_ids=positions[:, :split], cache=cache)
    output = receiver(input_ids=ids[:, split:], attention_mask=mask, position_ids=positions[:, split:], cache=cache)
    return output.logits, layers_of(cache)


@pytest.mark.parametrize("padded", [False, True])
def test_closed_gates_equal_the_receiver_in_the_same_two_sections_bit_for_bit(
    closed_model, prompt_ids, sections, padded
) -> None:
    mask = torch.ones_like(prompt_ids)
    mask[0, :3] = 0 if padded else 1
    logits, cache = in_two_sections(closed_model.receiver, prompt_ids, mask)
    output = closed_model(sections((1, FUSED), (-1, 3)), prompt_ids, mask)
    assert torch.equal(output.logits, logits)
    for ours, theirs in zip(layers_of(output.cache), cache, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_closed_gates_generate_what_the_receiver_generates(closed_model, prompt_ids, sections) -> None:
    ids = prompt_ids
    for _ in range(10):
        logits, _ = in_two_sections(closed_model.receiver, ids, torch.ones_like(ids))
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    written = closed_model.generate(sections((1, FUSED), (-1, 3)), prompt_ids, max_new_tokens=10)
    assert torch.equal(written, ids)


def test_open_gates_change_the_answer(open_model, prompt_ids, sections) -> None:
    fused, alone = (
        open_model.generate(sections((mask, FUSED), (-1, 3)), prompt_ids, max_new_tokens=10) for mask in (1, -1)
    )
    assert not torch.equal(fused, alone)


def test_a_prompt_of_one_section_is_the_receivers_own(open_model, prompt_ids, sections) -> None:
    alone = open_model.receiver(input_ids=prompt_ids).logits
    assert torch.equal(open_model(sections((-1, TOTAL)), prompt_ids).logits, alone)


def test_given_positions_are_those_of_receiver_and_sharer(open_model, prompt_ids, sections, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    for model in open_model.model_list:
        body = model.base_model
        monkeypatch.setattr(
            body, "forward", lambda *a, run=body.forward, **k: seen.append(k["position_ids"]) or run(*a, **k)
        )
    positions = 2 * torch.arange(TOTAL).expand(2, -1)
    open_model(sections((1, FUSED), (-1, 3)), prompt_ids, position_ids=positions)
    sharer, prefix, rest = seen
    assert torch.equal(sharer, positions[:, :FUSED])
    assert torch.equal(prefix, positions[:, :FUSED])
    assert torch.equal(rest, positions[:, FUSED:])


def test_only_labels_of_the_last_section_count(open_model, prompt_ids, sections) -> None:
    index = sections((1, FUSED), (-1, 3))
    output = open_model(index, prompt_ids, labels=prompt_ids)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), prompt_ids[:, -2:].flatten())
    torch.testing.assert_close(output.loss, expected)


def test_the_language_models_stay_in_eval_mode_while_the_fusers_train(open_model) -> None:
    open_model.train()
    assert [model.training for model in open_model.model_list] == [False, False]
    assert open_model.stacks[0].fuser_of(0).training


@pytest.fixture
def unlinked(tiny_model) -> RosettaModel:
    base, source = tiny_model("qwen3"), tiny_model("qwen2", seed=1)
    torch.manual_seed(0)
    projectors = [create_c2c_projector(source.config, base.config, variant="fuse", **SMALL) for _ in range(2)]
    return RosettaModel([base, source], projector_list=projectors)


def test_an_unmapped_receiver_layer_stays_as_it_is(unlinked, prompt_ids, sections) -> None:
    unlinked.set_projector_config(1, 2, 0, 1, 0)
    ours, alone = (layers_of(unlinked(sections((mask, FUSED), (-1, 3)), prompt_ids).cache) for mask in (1, -1))
    assert torch.equal(ours[0][0], alone[0][0])
    assert not torch.equal(ours[1][0][:, :, :FUSED], alone[1][0][:, :, :FUSED])


def test_without_any_link_the_receiver_answers_alone(unlinked, prompt_ids, sections) -> None:
    ours, alone = (unlinked(sections((mask, FUSED), (-1, 3)), prompt_ids).logits for mask in (1, -1))
    assert torch.equal(ours, alone)


def test_a_linked_layer_is_fused_with_the_sharer_layer_and_the_fuser_that_were_named(
    unlinked, prompt_ids, sections
) -> None:
    unlinked.set_projector_config(1, 0, 0, 2, 1)
    with torch.no_grad():
        prefix = prompt_ids[:, :FUSED]
        own, theirs = (layers_of(model(input_ids=prefix).cache) for model in unlinked.model_list)
        expected = unlinked.projector_list[1](theirs[0], own[2])
    fused = layers_of(unlinked(sections((1, FUSED), (-1, 3)), prompt_ids).cache)[2]
    torch.testing.assert_close(fused[0][:, :, :FUSED], expected[0])
    torch.testing.assert_close(fused[1][:, :, :FUSED], expected[1])


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ((2, 0, 0, 0, 0), "The source of a Fuser must be one of the Sharers, models 1 to 1"),
        ((0, 0, 0, 0, 0), "The source of a Fuser must be one of the Sharers, models 1 to 1"),
        ((1, 0, 1, 0, 0), "The target of a Fuser must be the Receiver"),
        ((1, 9, 0, 0, 0), "Sharer's layers, 0 to 2"),
        ((1, -1, 0, 0, 0), "Sharer's layers, 0 to 2"),
        ((1, 0, 0, 9, 0), "Receiver's layers, 0 to 2"),
        ((1, 0, 0, 0, 5), "A link must name a Fuser of projector_list, 0 to 1"),
        ((1, 1, 0, 2, 1), "at most one Sharer layer"),
    ],
)
def test_a_link_that_cannot_be_is_refused(unlinked, call, rule) -> None:
    unlinked.set_projector_config(1, 0, 0, 2, 0)
    with pytest.raises(RefusedError, match=rule):
        unlinked.set_projector_config(*call)


def test_fusers_of_another_pair_an_unknown_fusion_and_no_model_are_refused(tiny_model, closed_model) -> None:
    other, stacks = tiny_model("qwen2", layers=5), list(closed_model.stacks)
    with pytest.raises(RefusedError, match="must fit the sharer's cache"):
        RosettaModel.of_stacks(closed_model.receiver, [other], stacks)
    with pytest.raises(RefusedError, match="must fit the receiver's cache"):
        RosettaModel.of_stacks(other, closed_model.sharers, stacks)
    with pytest.raises(RefusedError, match="Each Sharer must have one FuserStack"):
        RosettaModel.of_stacks(closed_model.receiver, [], stacks)
    with pytest.raises(RefusedError, match="Did you mean 'parallel'"):
        RosettaModel([closed_model.receiver], fusion="paralel")
    with pytest.raises(RefusedError, match="must be a Receiver"):
        RosettaModel([])


def test_an_index_that_does_not_fit_the_prompt_is_refused_before_any_model_runs(open_model, prompt_ids) -> None:
    for model in open_model.model_list:
        model.base_model.forward = None
    with pytest.raises(RefusedError, match="must add up to the 11 tokens"):
        open_model.generate(generate_kv_cache_index(4, 1), prompt_ids)
    with pytest.raises(RefusedError, match=r"attention_mask must be \(2, 11\)"):
        open_model(generate_kv_cache_index(10, 1), prompt_ids, torch.ones(2, 10))


def test_a_model_whose_cache_is_not_keys_and_values_is_refused() -> None:
    from transformers import MambaConfig

    class Model(torch.nn.Module):
        config = MambaConfig()

    with pytest.raises(RefusedError, match="keys and values per attention head; received 'mamba: it keeps a recurrent"):
        RosettaModel([Model()])
