"""One Fuser: the reference's names, shapes and formulas; closed halves; variants."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from c2c import Fuser, FuserConfig, RefusedError
from c2c.fuser.config import SWITCHES, SWITCHES_OF_VARIANTS
from c2c.fuser.variants import create_fuser
from c2c.types import CacheShape

HS, DS, HT, DT, H, I, L = 2, 6, 3, 4, 16, 20, 4  # noqa: E741
SIZES = {"hidden_dim": H, "intermediate_dim": I, "num_layers": L}


def build(variant: str = "full", **changes) -> Fuser:
    torch.manual_seed(0)
    config = FuserConfig.between(CacheShape(3, HS, DS), CacheShape(3, HT, DT), variant=variant, **{**SIZES, **changes})
    return create_fuser(config).eval()


def opened(fuser: Fuser, key: float = 1.0, value: float = 1.0) -> Fuser:
    fuser.key_gate_logit.data.fill_(key)
    fuser.value_gate_logit.data.fill_(value)
    return fuser


def states(tokens: int = 5, batch: int = 2, dtype: torch.dtype = torch.float32):
    draw = torch.Generator().manual_seed(1)
    sharer = tuple(torch.randn(batch, HS, tokens, DS, generator=draw).to(dtype) for _ in range(2))
    receiver = tuple(torch.randn(batch, HT, tokens, DT, generator=draw).to(dtype) for _ in range(2))
    return sharer, receiver


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """As docs/reference-behaviour.md lists them ("Parameter names")."""
    shapes: dict[str, tuple[int, ...]] = {"key_gate_logit": (), "value_gate_logit": (), "gate_temperature": ()}

    def block(name: str, inner: int) -> None:
        shapes.update({f"{name}.norm.weight": (H,), f"{name}.w1.weight": (inner, H), f"{name}.w2.weight": (H, inner)})

    for half in ("key", "value"):
        shapes.update({f"{half}_in.weight": (H, HS * DS + HT * DT), f"{half}_in.bias": (H,)})
        block(f"{half}_mlp1.blocks.0", I)
        block(f"{half}_scalar_mlp2.blocks.0", H)
        shapes.update({f"{half}_scalar_head.weight": (HT, H), f"{half}_scalar_head.bias": (HT,)})
        for number in range(L - 2):
            block(f"{half}_proj_mlp2.blocks.{number}", I)
        shapes.update({f"{half}_proj_out.weight": (HT * DT, H), f"{half}_proj_out.bias": (HT * DT,)})
    return shapes


def test_the_state_dict_has_the_names_and_shapes_of_the_published_fusers() -> None:
    assert {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()} == expected_shapes()


@pytest.mark.parametrize(
    ("sharer", "receiver", "parameters"),
    [
        ((2, 64), (8, 128), 17_066_002),
        ((8, 64), (8, 128), 17_852_434),
        ((2, 128), (8, 128), 17_328_146),
        ((8, 128), (8, 128), 18_901_010),
        ((4, 128), (8, 128), 17_852_434),
    ],
)
def test_fusers_of_the_papers_pairs_have_the_published_number_of_parameters(sharer, receiver, parameters) -> None:
    with torch.device("meta"):
        fuser = Fuser(FuserConfig.between(CacheShape(1, *sharer), CacheShape(1, *receiver)))
    assert sum(parameter.numel() for parameter in fuser.parameters()) == parameters


def recomputed(fuser: Fuser, sharer, receiver, dropout: float = 0.0, temperature: float | None = None):
    """Spec §1.2 step by step; in training, random numbers are drawn in the order of §1.3."""
    state = fuser.state_dict()

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def block(x: torch.Tensor, name: str) -> torch.Tensor:
        normed = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * state[f"{name}.norm.weight"]
        inner = linear(normed, f"{name}.w1")
        inner = linear(0.5 * inner * (1 + torch.erf(inner / 2**0.5)), f"{name}.w2")
        return x + functional.dropout(inner, dropout, training=temperature is not None)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, :, token].reshape(len(x), -1) for token in range(x.shape[2])], dim=1)

    def gate(half: str) -> torch.Tensor:
        if temperature is None:
            return (state[f"{half}_gate_logit"] > 0).float()
        noise = -torch.log(-torch.log(torch.rand(len(receiver[0]), HT, receiver[0].shape[2], 1)))
        return torch.sigmoid((state[f"{half}_gate_logit"] + noise) / temperature)

    halves = {"key": (sharer[0], receiver[0]), "value": (sharer[1], receiver[1])}
    h = {x: block(linear(torch.cat([flat(s), flat(r)], -1), f"{x}_in"), f"{x}_mlp1.blocks.0")
         for x, (s, r) in halves.items()}  # fmt: skip
    p = dict(h)
    for half in halves:
        for number in range(L - 2):
            p[half] = block(p[half], f"{half}_proj_mlp2.blocks.{number}")
    p = {x: linear(p[x], f"{x}_proj_out").view(*p[x].shape[:2], HT, DT).permute(0, 2, 1, 3) for x in halves}
    w = {x: torch.sigmoid(linear(block(h[x], f"{x}_scalar_mlp2.blocks.0"), f"{x}_scalar_head")) for x in halves}
    g = {x: gate(x) for x in halves}
    return [r + g[x] * w[x].permute(0, 2, 1)[..., None] * p[x] for x, (_, r) in halves.items()]


def test_an_open_fuser_computes_the_formula_of_the_reference() -> None:
    fuser, (sharer, receiver) = opened(build()), states()
    with torch.no_grad():
        for ours, theirs in zip(fuser(sharer, receiver), recomputed(fuser, sharer, receiver), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_training_draws_dropout_and_noise_in_the_order_of_the_reference() -> None:
    fuser, (sharer, receiver) = opened(build(dropout=0.3), 0.2, -0.4).train(), states()
    fuser.anneal(500)
    with torch.no_grad():
        torch.manual_seed(7)
        ours = fuser(sharer, receiver)
        torch.manual_seed(7)
        theirs = recomputed(fuser, sharer, receiver, dropout=0.3, temperature=0.001 ** (500 / 1929))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_an_untrained_fuser_is_closed_and_a_closed_half_is_the_receivers_own_tensor() -> None:
    sharer, receiver = states()
    keys, values = build()(sharer, receiver)
    assert keys is receiver[0]
    assert values is receiver[1]
    keys, values = opened(build(), key=0.0, value=0.1)(sharer, receiver)
    assert keys is receiver[0]
    assert not torch.equal(values, receiver[1])


def test_a_gate_that_is_opened_after_a_forward_is_seen() -> None:
    fuser, (sharer, receiver) = build(), states()
    fuser(sharer, receiver)
    assert not torch.equal(opened(fuser)(sharer, receiver)[0], receiver[0])


def test_the_noise_of_training_differs_by_row_head_and_token() -> None:
    fuser, (sharer, receiver) = build(dropout=0.0).train(), states()
    with torch.no_grad():
        drawn = torch.stack(fuser(sharer, receiver)) - torch.stack(receiver)
        fully_open = torch.stack(recomputed(opened(fuser), sharer, receiver)) - torch.stack(receiver)
    gates = (drawn / fully_open).mean(-1)
    assert gates.unique().numel() == gates.numel()
    assert ((gates > 0) & (gates < 1)).all()


def test_a_cold_gate_is_open_in_training_as_often_as_one_gumbel_sample_says() -> None:
    fuser = build(dropout=0.0).train()
    fuser.anneal(10**9)
    sharer, receiver = states(tokens=4000)
    with torch.no_grad():
        moved = (fuser(sharer, receiver)[0] - receiver[0]).abs().sum(-1) > 0
    assert moved.float().mean().item() == pytest.approx(1 - torch.tensor(-1.0).exp().item(), abs=0.02)


@pytest.mark.parametrize(("step", "temperature"), [(0, 1.0), (50, 0.1), (100, 0.01), (1000, 0.01)])
def test_the_temperature_falls_geometrically_and_then_stays(step, temperature) -> None:
    fuser = build(initial_temperature=1.0, final_temperature=0.01, anneal_steps=100)
    fuser.anneal(step)
    assert float(fuser.gate_temperature) == pytest.approx(temperature, rel=1e-5)


@pytest.mark.parametrize("variant", ["full", "unweighted", "fuse", "project", "ungated"])
def test_a_removed_part_has_no_parameters(variant) -> None:
    parts, names = dict(zip(SWITCHES, SWITCHES_OF_VARIANTS[variant], strict=True)), set(build(variant).state_dict())
    assert any("scalar" in name for name in names) == parts["weighted"]
    assert any("gate" in name for name in names) == parts["gated"]
    width = build(variant).key_in.in_features
    assert width == HS * DS + (HT * DT if parts["reads_receiver"] else 0)


def test_project_replaces_the_receivers_cache_and_fuse_adds_to_it() -> None:
    sharer, receiver = states()
    moved = tuple(tensor + 1 for tensor in receiver)
    project, fuse = build("project"), build("fuse")
    assert torch.equal(project(sharer, receiver)[0], project(sharer, moved)[0])
    assert not torch.equal(fuse(sharer, receiver)[0], fuse(sharer, moved)[0])


def test_an_open_gate_promotes_half_precision_to_float32_at_inference() -> None:
    fuser, (sharer, receiver) = opened(build()).to(torch.bfloat16), states(dtype=torch.bfloat16)
    assert fuser(sharer, receiver)[0].dtype == torch.float32
    assert fuser.train()(sharer, receiver)[0].dtype == torch.bfloat16


def test_half_precision_is_computed_as_published_and_the_sum_is_float32() -> None:
    fuser, (sharer, receiver) = opened(build()).to(torch.bfloat16), states(dtype=torch.bfloat16)
    state = fuser.state_dict()

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def block(x: torch.Tensor, name: str) -> torch.Tensor:
        normed = functional.rms_norm(x, (H,), state[f"{name}.norm.weight"], 1e-6)
        return x + linear(functional.gelu(linear(normed, f"{name}.w1")), f"{name}.w2")

    for half, theirs, own, fused in zip(("key", "value"), sharer, receiver, fuser(sharer, receiver), strict=True):
        z = torch.cat([x.transpose(1, 2).reshape(2, 5, -1) for x in (theirs, own)], -1)
        h = p = block(linear(z, f"{half}_in"), f"{half}_mlp1.blocks.0")
        for number in range(L - 2):
            p = block(p, f"{half}_proj_mlp2.blocks.{number}")
        p = linear(p, f"{half}_proj_out").view(2, 5, HT, DT).transpose(1, 2)
        w = torch.sigmoid(linear(block(h, f"{half}_scalar_mlp2.blocks.0"), f"{half}_scalar_head"))
        assert p.dtype == w.dtype == torch.bfloat16
        weight = w.transpose(1, 2)[..., None]
        expected = own.float() + 1.0 * weight.float() * p.float()
        assert torch.equal(fused, expected)
        assert not torch.equal(fused, own.float() + (weight * p).float())
        assert not torch.equal(fused, expected.bfloat16().float())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_forced_gates_are_exactly_open_or_closed_in_inference_and_in_training(mode) -> None:
    sharer, receiver = states()
    fuser = build(dropout=0.0)
    learned_open = opened(build())(sharer, receiver)
    getattr(fuser, mode)()
    for forced, expected in ((True, learned_open), (False, receiver)):
        fuser.gate_override = forced
        assert [fuser.is_open(half) for half in ("key", "value")] == [forced, forced]
        for new, old in zip(fuser(sharer, receiver), expected, strict=True):
            assert torch.equal(new, old)
    fuser.gate_override = None
    assert not fuser.is_open("key")


def test_forced_gates_are_no_part_of_state_and_config() -> None:
    fuser, plain = build(), build()
    fuser.gate_override = True
    assert fuser.state_dict().keys() == plain.state_dict().keys()
    assert fuser.config == plain.config


def test_a_float32_fuser_serves_models_in_half_precision_and_of_mixed_precision() -> None:
    fuser, (sharer, receiver) = opened(build()), states(dtype=torch.bfloat16)
    exact = tuple(tensor.float() for tensor in receiver)
    assert torch.equal(fuser(sharer, receiver)[0], fuser(sharer, exact)[0])


def test_dynamic_weights_are_those_that_the_forward_applies() -> None:
    fuser, (sharer, receiver) = opened(build()), states()
    weights = fuser.dynamic_weights(sharer, receiver)
    assert weights[0].shape == (2, HT, 5, 1)
    assert ((weights[0] > 0) & (weights[0] < 1)).all()
    with pytest.raises(RefusedError, match="weighted variant"):
        build("fuse").dynamic_weights(sharer, receiver)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"num_layers": 2}, "num_layers must be a whole number of at least 3"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"final_temperature": 0.0}, "fall to a positive value"),
        ({"gate_noise": "gumble"}, "Did you mean 'gumbel'"),
        ({"variant": "gate"}, "A Fuser variant"),
        ({"hidden_dim": 0}, "hidden_dim"),
    ],
)
def test_impossible_sizes_are_refused(change, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        build(**change)


def test_states_of_the_wrong_shape_are_refused_before_anything_is_computed() -> None:
    sharer, receiver = states()
    with pytest.raises(RefusedError, match=r"The Sharer's keys and values must be \(B, 2, N, 6\)"):
        build()(receiver, receiver)
    short = tuple(tensor[:, :, 1:] for tensor in sharer)
    with pytest.raises(RefusedError, match="as many tokens"):
        build()(short, receiver)
    with pytest.raises(RefusedError, match="the same batch"):
        build()(sharer, tuple(tensor[:1] for tensor in receiver))
    with pytest.raises(RefusedError, match=r"The Receiver's keys and values must be \(B, 3, N, 4\)"):
        build()(sharer, sharer)
