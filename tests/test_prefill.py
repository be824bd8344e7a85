"""Reading and fusing a prompt: several sections, several Sharers, what is not fused, and precision."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

from c2c import FuserStack, RefusedError, RosettaModel, generate_kv_cache_index
from c2c.alignment.tokens import SharerInput
from c2c.cache.kv_cache import layers_of
from tests.by_hand import by_hand

SMALL = {"hidden_dim": 16, "intermediate_dim": 16}
FUSED, TOTAL = 8, 11


@torch.no_grad()
@pytest.mark.parametrize(
    "parts",
    [
        [(1, 8), (-1, 3)],
        [(1, 3), (1, 5), (-1, 3)],
        [(-1, 3), (1, 5), (0, 2), (-1, 1)],
        [(1, 4), (-1, 4), (-1, 3)],
    ],
)
def test_any_tiling_equals_reading_and_fusing_section_by_section(open_model, prompt_ids, sections, parts) -> None:
    ours = open_model(sections(*parts), prompt_ids).logits
    torch.testing.assert_close(ours, by_hand(open_model, prompt_ids, parts)[0], atol=1e-5, rtol=1e-5)


def count_forwards(model, monkeypatch) -> list[int]:
    calls: list[int] = []
    original = model.base_model.forward
    monkeypatch.setattr(model.base_model, "forward", lambda *a, **k: calls.append(1) or original(*a, **k))
    return calls


def test_a_sharer_runs_once_if_a_section_selects_it_and_else_not(
    two_sharers, prompt_ids, sections, monkeypatch
) -> None:
    first, second = (count_forwards(sharer, monkeypatch) for sharer in two_sharers.sharers)
    two_sharers(sections((-1, 4), (0, 4), (-1, 3)), prompt_ids)
    assert (len(first), len(second)) == (0, 0)
    two_sharers(sections((2, 4), (2, 4), (-1, 3)), prompt_ids)
    assert (len(first), len(second)) == (0, 1)
    two_sharers(sections((1, 4), (3, 4), (-1, 3)), prompt_ids)
    assert (len(first), len(second)) == (1, 2)


def test_each_section_is_fused_with_the_sharers_that_it_selects(two_sharers, prompt_ids, sections) -> None:
    def first_keys(*parts: tuple[int, int]) -> torch.Tensor:
        return layers_of(two_sharers(sections(*parts, (-1, 3)), prompt_ids).cache)[0][0]

    mixed, one, two = first_keys((1, 4), (2, 4)), first_keys((1, 4), (-1, 4)), first_keys((-1, 4), (2, 4))
    torch.testing.assert_close(mixed[:, :, :4], one[:, :, :4])
    torch.testing.assert_close(mixed[:, :, 4:8], two[:, :, 4:8])
    assert not torch.allclose(one[:, :, 4:8], two[:, :, 4:8])


def test_parallel_fusion_adds_the_changes_and_sequential_fuses_what_was_left(two_sharers, prompt_ids, sections) -> None:
    caches = {}
    for fusion in ("parallel", "sequential"):
        model = RosettaModel.of_stacks(
            two_sharers.receiver, two_sharers.sharers, list(two_sharers.stacks), fusion=fusion
        )
        caches[fusion] = {
            mask: layers_of(model(sections((mask, FUSED), (-1, 3)), prompt_ids).cache)[0][0][:, :, :FUSED]
            for mask in (-1, 1, 2, 3)
        }
    own, one, two, both = caches["parallel"].values()
    torch.testing.assert_close(both, one + two - own)
    assert torch.equal(caches["sequential"][1], one)
    second = layers_of(two_sharers.sharers[1](input_ids=prompt_ids[:, :FUSED]).cache)[1][0]
    fuser = two_sharers.stacks[1].fuser_of(0)
    torch.testing.assert_close(caches["sequential"][3], fuser((second, second), (one, one))[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["sequential", "parallel"])
@pytest.mark.parametrize("fuser_type", [torch.bfloat16, torch.float32])
def test_two_sharers_fuse_in_half_precision(two_sharers, prompt_ids, sections, fusion, fuser_type) -> None:
    exact = two_sharers(sections((3, FUSED), (-1, 3)), prompt_ids).logits
    models = [model.to(torch.bfloat16) for model in two_sharers.model_list]
    stacks = [stack.to(fuser_type) for stack in two_sharers.stacks]
    two_sharers.fusion = fusion
    model = RosettaModel.of_stacks(models[0], models[1:], stacks, fusion=fusion)
    output = model(sections((3, FUSED), (-1, 3)), prompt_ids)
    assert {tensor.dtype for layer in layers_of(output.cache) for tensor in layer} == {torch.bfloat16}
    if fusion == "sequential":
        assert torch.nn.functional.cosine_similarity(output.logits.float(), exact, dim=-1).min() > 0.98


def test_in_half_precision_the_second_sharer_fuses_what_the_cache_holds_after_the_first(
    two_sharers, prompt_ids, sections
) -> None:
    model = two_sharers.to(torch.bfloat16)
    one, both = (layers_of(model(sections((m, FUSED), (-1, 3)), prompt_ids).cache) for m in (1, 3))
    read = layers_of(model.sharers[1].base_model(input_ids=prompt_ids[:, :FUSED], use_cache=True).cache)
    first = tuple(tensor[:, :, :FUSED] for tensor in one[0])
    expected = model.stacks[1].fuser_of(0)(read[1], first)
    for ours, theirs in zip(both[0], expected, strict=True):
        assert torch.equal(ours[:, :, :FUSED], theirs.to(torch.bfloat16))


def reading(ids: torch.Tensor, token_map: list[list[int]], **options) -> SharerInput:
    return SharerInput(ids, torch.ones_like(ids), torch.tensor(token_map), **options)


def test_a_reading_of_the_receivers_own_tokens_equals_none_given(open_model, prompt_ids, sections) -> None:
    index, mask = sections((1, FUSED), (-1, 3)), torch.ones_like(prompt_ids)
    mask[0, :3] = 0
    given = SharerInput(prompt_ids[:, :FUSED], mask[:, :FUSED], torch.arange(FUSED).expand(2, -1))
    with_given = open_model(index, prompt_ids, mask, sharer_inputs=[given]).logits
    assert torch.equal(with_given, open_model(index, prompt_ids, mask).logits)


@torch.no_grad()
def test_each_receiver_token_is_fused_with_the_sharer_token_that_the_map_names(
    open_model, prompt_ids, sections
) -> None:
    theirs, token_map = prompt_ids.flip(1) // 2 + 3, [[5, 5, 0, 10, 3, 3, 9, 1], [0, 2, 4, 6, 8, 10, 1, 1]]
    output = open_model(sections((1, FUSED), (-1, 3)), prompt_ids, sharer_inputs=[reading(theirs, token_map)])
    receiver, sharer = (
        layers_of(model(input_ids=ids).cache)
        for model, ids in zip(open_model.model_list, (prompt_ids[:, :FUSED], theirs), strict=True)
    )
    for layer, link in open_model.stacks[0].links.items():
        named = tuple(
            torch.stack([row[:, places] for row, places in zip(tensor, token_map, strict=True)])
            for tensor in sharer[link.sharer_layer]
        )
        expected = open_model.stacks[0].fuser_of(layer)(named, receiver[layer])
        for ours, hand in zip(layers_of(output.cache)[layer], expected, strict=True):
            torch.testing.assert_close(ours[:, :, :FUSED], hand, atol=1e-5, rtol=1e-5)


def test_tokens_without_a_match_stay_the_receivers_bit_for_bit(open_model, prompt_ids, sections) -> None:
    token_map = [[-1, 1, 2, -1, 4, 5, 6, 7], [0, -1, 2, 3, 4, -1, 6, -1]]
    given = [reading(prompt_ids, token_map)]
    index = sections((1, FUSED), (-1, 3))
    ours = layers_of(open_model(index, prompt_ids, sharer_inputs=given).cache)
    alone = layers_of(open_model(sections((-1, FUSED), (-1, 3)), prompt_ids).cache)
    for mine, own in zip(ours, alone, strict=True):
        for fused, plain in zip(mine, own, strict=True):
            same = (fused[:, :, :FUSED] == plain[:, :, :FUSED]).all(-1).all(1)
            assert torch.equal(same, torch.tensor(token_map) < 0)


def test_a_zeroed_sharer_does_not_run_and_says_nothing(open_model, prompt_ids, sections, monkeypatch) -> None:
    calls = count_forwards(open_model.sharers[0], monkeypatch)
    token_map = [list(range(FUSED))] * 2
    index = sections((1, FUSED), (-1, 3))
    silent, other = (
        open_model(index, prompt_ids, sharer_inputs=[reading(ids, token_map, zeroed=True)]).logits
        for ids in (prompt_ids, prompt_ids.flip(1))
    )
    assert calls == []
    assert torch.equal(silent, other)
    assert not torch.allclose(silent, open_model(index, prompt_ids).logits)
    assert not torch.allclose(silent, open_model(sections((-1, FUSED), (-1, 3)), prompt_ids).logits)


WINDOWED = {
    "mistral": (MistralForCausalLM, MistralConfig, {}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"layer_types": ["sliding_attention", "full_attention"] * 2}),
}


@torch.no_grad()
@pytest.mark.parametrize("family", WINDOWED)
@pytest.mark.parametrize("role", ["receiver", "sharer"])
def test_prompts_longer_than_a_sliding_window_are_fused_whole(tiny_model, prompt_ids, sections, family, role) -> None:
    model_class, config_class, extra = WINDOWED[family]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=4, initializer_range=0.3, pad_token_id=0, **extra,
    )  # fmt: skip
    models = [tiny_model("qwen3", layers=4), model_class(config).eval().requires_grad_(False)]
    receiver, sharer = models if role == "sharer" else models[::-1]
    stack = FuserStack.between(sharer.config, receiver.config, variant="fuse", **SMALL)
    model = RosettaModel.of_stacks(receiver, [sharer], [stack])
    cache = layers_of(model(sections((1, FUSED), (-1, 3)), prompt_ids).cache)
    assert {keys.shape[2] for keys, _ in cache} == {TOTAL}
    alone = receiver(input_ids=prompt_ids, use_cache=False).logits[:, FUSED:]
    torch.testing.assert_close(model(sections((-1, FUSED), (-1, 3)), prompt_ids).logits, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (lambda ids: [], "must be a list with an input for each of the 1 Sharers; received '0 inputs'"),
        (lambda ids: [reading(ids, [[0] * 10] * 2)] * 2, "must be a list with an input for each of the 1 Sharers"),
        (lambda ids: [reading(ids, [[0] * 9] * 2)], "token map must cover the 10 fused tokens of 2 rows"),
        (lambda ids: [reading(ids, [[0] * 10])], "token map must cover the 10 fused tokens of 2 rows"),
        (lambda ids: [reading(ids, [[11] * 10] * 2)], "token map must point at its 11 tokens"),
        (lambda ids: [reading(ids + 90, [[0] * 10] * 2)], "Sharer 1 must be given tokens 0 to 96"),
        (lambda ids: [reading(ids - 90, [[0] * 10] * 2)], "Sharer 1 must be given tokens 0 to 96"),
    ],
)
def test_a_reading_that_does_not_fit_is_refused_before_any_model_runs(open_model, prompt_ids, given, rule) -> None:
    for model in open_model.model_list:
        model.base_model.forward = None
    with pytest.raises(RefusedError, match=rule):
        open_model(generate_kv_cache_index(10, 1), prompt_ids, sharer_inputs=given(prompt_ids))


def test_receiver_tokens_that_the_sharer_does_not_know_are_refused(tiny_model, prompt_ids) -> None:
    base, source = tiny_model("qwen3"), tiny_model("qwen2", vocab=50, seed=1)
    model = RosettaModel.of_stacks(base, [source], [FuserStack.between(source.config, base.config, **SMALL)])
    with pytest.raises(RefusedError, match="Sharer 1 must be given tokens 0 to 49; received"):
        model(generate_kv_cache_index(10, 1), prompt_ids)


def test_the_models_are_frozen_and_only_the_fusers_learn(tiny_model) -> None:
    receiver, sharer = (tiny_model(name).requires_grad_(True) for name in ("qwen3", "llama"))
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    model = RosettaModel.of_stacks(receiver, [sharer], [stack])
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learned == {f"stacks.0.{name}" for name, _ in stack.named_parameters()}


@pytest.mark.parametrize(("role", "name"), [(0, "the Receiver"), (1, "Sharer 1")])
def test_a_prompt_longer_than_a_models_positions_is_refused_before_any_model_runs(
    open_model, prompt_ids, sections, monkeypatch, role, name
) -> None:
    monkeypatch.setattr(open_model.model_list[role].config, "max_position_embeddings", 9)
    for each in open_model.model_list:
        monkeypatch.setattr(each.base_model, "forward", lambda **_: pytest.fail("a model ran"))
    with pytest.raises(RefusedError, match=f"What {name} reads must fit into its 9 positions; received 1[01]"):
        open_model(sections((1, 10), (-1, 1)), prompt_ids)
