"""Every variant is the Receiver when closed, learns and can be saved; sizes and formulas of the new ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from c2c import Fuser, FuserConfig, FuserStack, RefusedError, RosettaModel, create_c2c_projector
from c2c.cache.kv_cache import layers_of
from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.fuser.config import VARIANTS
from c2c.fuser.variants import LowRankFuser, ProjectedFuser, create_fuser
from c2c.models.contract import describe_model
from c2c.types import HALVES, CacheShape

SHARER, RECEIVER = CacheShape(3, 2, 6), CacheShape(3, 3, 4)
SIZES = {"hidden_dim": 16, "intermediate_dim": 20, "rank": 5}
SMALL = {"hidden_dim": 16, "intermediate_dim": 16, "rank": 8}


def build(variant: str, **changes) -> Fuser:
    torch.manual_seed(0)
    return create_fuser(FuserConfig.between(SHARER, RECEIVER, variant=variant, **{**SIZES, **changes})).eval()


def states(batch: int = 2, tokens: int = 5):
    draw = torch.Generator().manual_seed(1)
    sharer, receiver = (
        tuple(torch.randn(batch, shape.heads, tokens, shape.head_dim, generator=draw) for _ in HALVES)
        for shape in (SHARER, RECEIVER)
    )
    return sharer, receiver


def opened(fuser: Fuser) -> Fuser:
    for half in HALVES:
        if fuser.gated:
            fuser.gate_logit(half).data.fill_(1.0)
    return fuser


@pytest.mark.parametrize("variant", VARIANTS)
def test_closed_gates_are_the_receivers_own_tensors_and_open_ones_are_not(variant) -> None:
    sharer, receiver = states()
    fuser = build(variant)
    if fuser.gated:
        assert [new is old for new, old in zip(fuser(sharer, receiver), receiver, strict=True)] == [True, True]
    changed = opened(fuser)(sharer, receiver)
    assert [torch.equal(new, old) for new, old in zip(changed, receiver, strict=True)] == [False, False]
    assert [new.shape for new in changed] == [old.shape for old in receiver]


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_training_every_parameter_learns(variant) -> None:
    fuser, (sharer, receiver) = build(variant).train(), states()
    keys, values = fuser(sharer, receiver)
    (keys.pow(2).sum() + values.pow(2).sum()).backward()
    assert not [name for name, each in fuser.named_parameters() if each.grad is None or not each.grad.any()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stack_of_any_variant_survives_a_checkpoint(variant, tiny_model, tmp_path) -> None:
    sharer, receiver = tiny_model("llama", layers=4, kv_heads=1, head_dim=12), tiny_model("qwen3")
    stack = FuserStack.between(sharer.config, receiver.config, variant=variant, **SMALL).eval()
    for fuser in stack.fusers:
        opened(fuser)
    stack.force_gates(False)
    stack.only_layers({1})
    save_stack(stack, tmp_path / "fusers", receiver=describe_model(receiver), sharer=describe_model(sharer))
    loaded, _ = load_stack(tmp_path / "fusers")
    assert [type(fuser) for fuser in loaded.fusers] == [type(fuser) for fuser in stack.fusers]
    assert [fuser.config for fuser in loaded.fusers] == [fuser.config for fuser in stack.fusers]
    assert loaded.open_share() == 1.0
    theirs, ours = ([torch.randn(2, 1, 5, 12)] * 2,) * 4, ([torch.randn(2, 2, 5, 8)] * 2,) * 3
    stack.force_gates(None)
    stack.only_layers(None)
    for new, old in zip(loaded(theirs, ours), stack(theirs, ours), strict=True):
        assert torch.equal(new[0], old[0])
        assert torch.equal(new[1], old[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fused_model_of_any_variant_answers_and_with_forced_gates_closed_is_the_receiver(
    variant, tiny_model, prompt_ids, sections
) -> None:
    receiver, sharer = tiny_model("qwen3"), tiny_model("llama", layers=4, kv_heads=1, head_dim=12, seed=1)
    torch.manual_seed(0)
    layers = range(receiver.config.num_hidden_layers)
    projectors = [create_c2c_projector(sharer.config, receiver.config, variant=variant, **SMALL) for _ in layers]
    model = RosettaModel([receiver, sharer], projector_list=projectors)
    for layer in layers:
        model.set_projector_config(1, layer, 0, layer, layer)
        opened(projectors[layer])
    index, alone = sections((1, 8), (-1, 3)), sections((-1, 8), (-1, 3))
    fused = model(index, prompt_ids).logits
    assert not torch.allclose(fused, model(alone, prompt_ids).logits)
    model.stacks[0].force_gates(False)
    assert torch.equal(model(index, prompt_ids).logits, model(alone, prompt_ids).logits)
    model.stacks[0].force_gates(None)
    assert torch.equal(model(index, prompt_ids).logits, fused)


def count(variant: str, **sizes) -> int:
    with torch.device("meta"):
        fuser = create_fuser(
            FuserConfig.between(CacheShape(28, 2, 64), CacheShape(28, 8, 128), variant=variant, **sizes)
        )
    return sum(parameter.numel() for parameter in fuser.parameters())


def test_at_the_papers_sizes_the_low_rank_fuser_is_an_order_of_magnitude_smaller() -> None:
    assert count("full") == 17_066_002
    assert count("full") > 10 * count("low_rank")
    assert count("full") > 10 * count("low_rank", rank=256)
    assert count("full") < count("projected") < 2 * count("full")


def test_the_low_rank_fuser_computes_its_formula_and_draws_keys_and_values_from_one_bottleneck() -> None:
    fuser, (sharer, receiver) = opened(build("low_rank")), states()
    state = fuser.state_dict()

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    h = linear(torch.cat([x.permute(0, 2, 1, 3).reshape(2, 5, -1) for x in (*sharer, *receiver)], -1), "down")
    assert h.shape == (2, 5, 5)
    for number in range(2):
        normed = functional.rms_norm(h, (5,), state[f"blocks.blocks.{number}.norm.weight"], 1e-6)
        h = h + linear(functional.gelu(linear(normed, f"blocks.blocks.{number}.w1")), f"blocks.blocks.{number}.w2")
    for half, new, old in zip(HALVES, fuser(sharer, receiver), receiver, strict=True):
        projection = linear(h, f"{half}_proj_out").view(2, 5, 3, 4).permute(0, 2, 1, 3)
        weight = torch.sigmoid(linear(h, f"{half}_scalar_head")).permute(0, 2, 1)[..., None]
        torch.testing.assert_close(new, old + weight * projection)


def test_the_projected_fuser_is_the_published_one_on_a_sharer_brought_to_the_receivers_width() -> None:
    fuser, (sharer, receiver) = opened(build("projected")), states()
    state = fuser.state_dict()
    full = create_fuser(FuserConfig.between(RECEIVER, RECEIVER, **SIZES)).eval()
    full.load_state_dict({name: tensor for name, tensor in state.items() if "sharer_mlp" not in name})
    projected = []
    for half, x in zip(HALVES, sharer, strict=True):
        h = x.permute(0, 2, 1, 3).reshape(2, 5, -1)
        for number in (0, 3, 6):
            name = f"{half}_sharer_mlp.{number}"
            h = functional.linear(h, state[f"{name}.weight"], state[f"{name}.bias"])
            if number < 6:
                h = functional.gelu(functional.rms_norm(h, (16,), eps=1e-6))
        projected.append(h.view(2, 5, 3, 4).permute(0, 2, 1, 3))
    for ours, theirs in zip(fuser(sharer, receiver), full(tuple(projected), receiver), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("variant", ["projected", "low_rank"])
def test_dynamic_weights_of_the_new_variants_are_those_that_the_forward_applies(variant) -> None:
    fuser, (sharer, receiver) = opened(build(variant)), states()
    before = fuser(sharer, receiver)
    weights = fuser.dynamic_weights(sharer, receiver)
    for half in HALVES:
        fuser.get_submodule(f"{half}_scalar_head").weight.data.zero_()
        fuser.get_submodule(f"{half}_scalar_head").bias.data.fill_(100.0)
    unweighted = fuser(sharer, receiver)
    for weight, old, plain, own in zip(weights, before, unweighted, receiver, strict=True):
        torch.testing.assert_close(old, own + weight * (plain - own))


def test_new_variants_anneal_their_gates() -> None:
    fuser = build("low_rank", anneal_steps=10, final_temperature=0.01)
    fuser.anneal(10)
    assert float(fuser.gate_temperature) == pytest.approx(0.01)


def test_a_class_that_does_not_fit_its_config_and_parts_that_exclude_each_other_are_refused() -> None:
    assert type(build("low_rank")) is LowRankFuser
    assert type(build("projected")) is ProjectedFuser
    with pytest.raises(RefusedError, match="create_fuser"):
        Fuser(build("low_rank").config)
    exclusive = build("low_rank").config.to_dict() | {"projects_sharer": True}
    with pytest.raises(RefusedError, match="must be those of one variant"):
        FuserConfig.from_dict(exclusive)
    with pytest.raises(RefusedError, match="rank must be a whole number of at least 1"):
        build("low_rank", rank=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_fusers_return_float32_and_the_cache_holds_it_rounded_once(
    variant, tiny_model, prompt_ids, sections
) -> None:
    receiver, sharer = (tiny_model(family, seed=seed).bfloat16() for family, seed in (("qwen3", 0), ("qwen2", 1)))
    torch.manual_seed(0)
    stack = FuserStack.between(sharer.config, receiver.config, variant=variant, **SMALL).bfloat16()
    model = RosettaModel.of_stacks(receiver, [sharer], [stack])
    prefix = prompt_ids[:, :8]
    with torch.no_grad():
        theirs, ours = (layers_of(each(input_ids=prefix).cache) for each in (sharer, receiver))
        held = layers_of(model(sections((1, 8), (-1, 3)), prompt_ids).cache)
    if stack.fusers[0].gated:
        assert [torch.equal(held[0][half][:, :, :8], ours[0][half]) for half in (0, 1)] == [True, True]
    for fuser in stack.fusers:
        opened(fuser)
    with torch.no_grad():
        held = layers_of(model(sections((1, 8), (-1, 3)), prompt_ids).cache)
        fused = stack(theirs, ours)
    for new, kept, own in zip(fused, held, ours, strict=True):
        for half in (0, 1):
            assert new[half].dtype == (torch.float32 if stack.fusers[0].gated else torch.bfloat16)
            assert torch.equal(kept[half][:, :, :8], new[half].to(torch.bfloat16))
            assert not torch.equal(kept[half][:, :, :8], own[half])
