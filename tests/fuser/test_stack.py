"""A FuserStack: which Receiver layer is fused with which Sharer layer."""

from __future__ import annotations

import pytest
import torch

from c2c import FuserStack, RefusedError, create_c2c_projector
from c2c.types import HALVES, CacheShape

SMALL = {"hidden_dim": 8, "intermediate_dim": 8}


@pytest.fixture
def configs(tiny_model):
    return tiny_model("qwen2", layers=4).config, tiny_model("qwen3").config


def test_a_stack_between_two_models_links_every_receiver_layer_by_terminal_alignment(configs) -> None:
    stack = FuserStack.between(*configs, **SMALL)
    assert {layer: link.sharer_layer for layer, link in stack.links.items()} == {0: 1, 1: 2, 2: 3}
    assert len(stack.fusers) == 3


def test_a_fuser_that_is_linked_twice_is_stored_once(configs) -> None:
    sharer, receiver = configs
    stack = FuserStack(CacheShape.of(sharer), CacheShape.of(receiver))
    fuser = create_c2c_projector(sharer, receiver, **SMALL)
    stack.link(0, 0, fuser)
    stack.link(2, 1, fuser)
    assert len(stack.fusers) == 1
    assert stack.fuser_of(0) is stack.fuser_of(2)


def test_an_unlinked_layer_keeps_the_receivers_own_tensors(configs) -> None:
    sharer, receiver = configs
    stack = FuserStack(CacheShape.of(sharer), CacheShape.of(receiver)).eval()
    fuser = create_c2c_projector(sharer, receiver, variant="fuse", **SMALL)
    stack.link(1, 0, fuser)
    theirs = [(torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)) for _ in range(4)]
    ours = [(torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)) for _ in range(3)]
    fused = stack(theirs, ours)
    assert [fused[layer] is ours[layer] for layer in range(3)] == [True, False, True]


def test_annealing_reaches_every_fuser(configs) -> None:
    stack = FuserStack.between(*configs, initial_temperature=1.0, final_temperature=0.01, anneal_steps=10, **SMALL)
    stack.anneal(10)
    assert [round(float(stack.fuser_of(layer).gate_temperature), 6) for layer in range(3)] == [0.01] * 3


def test_the_open_share_counts_halves(configs) -> None:
    stack = FuserStack.between(*configs, **SMALL)
    assert stack.open_share() == 0.0
    stack.fuser_of(0).key_gate_logit.data.fill_(1.0)
    assert stack.open_share() == pytest.approx(1 / 6)


@pytest.fixture
def half_open(configs) -> FuserStack:
    """A stack whose layers 0 and 1 are open."""
    torch.manual_seed(0)
    stack = FuserStack.between(*configs, **SMALL).eval()
    for layer in (0, 1):
        for half in HALVES:
            stack.fuser_of(layer).gate_logit(half).data.fill_(1.0)
    return stack


def caches():
    draw = torch.Generator().manual_seed(1)
    return [[tuple(torch.randn(1, 2, 5, 8, generator=draw) for _ in HALVES) for _ in range(n)] for n in (4, 3)]


def changed(stack: FuserStack) -> list[bool]:
    """For each layer whether it is not the Receiver's own tensors."""
    theirs, ours = caches()
    return [
        any(n is not o for n, o in zip(new, own, strict=True))
        for new, own in zip(stack(theirs, ours), ours, strict=True)
    ]


def test_only_the_named_layers_are_fused_and_the_others_are_the_receivers_own_tensors(half_open) -> None:
    theirs, ours = caches()
    all_layers = half_open(theirs, ours)
    assert changed(half_open) == [True, True, False]
    half_open.only_layers([1])
    assert changed(half_open) == [False, True, False]
    assert torch.equal(half_open(theirs, ours)[1][0], all_layers[1][0])
    assert half_open.open_share() == pytest.approx(2 / 6)
    half_open.only_layers(set())
    assert changed(half_open) == [False, False, False]
    assert half_open.open_share() == 0.0
    half_open.only_layers(None)
    assert changed(half_open) == [True, True, False]


def test_layers_that_do_not_exist_cannot_be_chosen(half_open) -> None:
    half_open.only_layers([0])
    with pytest.raises(RefusedError, match=r"Layers must be those of the Receiver, 0 to 2; received \[3\]"):
        half_open.only_layers([1, 3])
    assert half_open.active_layers == {0}


def test_gates_can_be_forced_and_let_go_again(half_open) -> None:
    for forced, expected in ((True, 1.0), (False, 0.0), (None, 4 / 6)):
        half_open.force_gates(forced)
        assert half_open.open_share() == pytest.approx(expected)
        assert changed(half_open) == [forced is not False] * 2 + [forced is True]


def test_forcing_open_what_is_open_changes_nothing(half_open) -> None:
    theirs, ours = caches()
    half_open.only_layers([0, 1])
    learned = half_open(theirs, ours)
    half_open.force_gates(True)
    for new, old in zip(half_open(theirs, ours), learned, strict=True):
        assert torch.equal(new[0], old[0])
        assert torch.equal(new[1], old[1])


def test_layers_that_do_not_exist_second_links_and_foreign_sizes_are_refused(configs) -> None:
    sharer, receiver = configs
    stack = FuserStack(CacheShape.of(sharer), CacheShape.of(receiver))
    fuser = create_c2c_projector(sharer, receiver, **SMALL)
    with pytest.raises(RefusedError, match="Sharer's layers, 0 to 3; received 4"):
        stack.link(0, 4, fuser)
    with pytest.raises(RefusedError, match="Receiver's layers, 0 to 2; received 3"):
        stack.link(3, 0, fuser)
    stack.link(0, 0, fuser)
    with pytest.raises(RefusedError, match="at most one Sharer layer"):
        stack.link(0, 1, fuser)
    assert list(stack.links) == [0]
    with pytest.raises(RefusedError, match="A Fuser of this pair"):
        other = CacheShape(3, 1, 8)
        FuserStack(other, CacheShape.of(receiver)).link(0, 0, fuser)


def test_a_fusion_asks_the_device_once_for_all_gates(tiny_model, monkeypatch) -> None:
    sharer, receiver = tiny_model("llama", layers=4, kv_heads=1, head_dim=12), tiny_model("qwen3")
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=8).eval()
    theirs, ours = ([torch.randn(2, 1, 5, 12)] * 2,) * 4, ([torch.randn(2, 2, 5, 8)] * 2,) * 3
    asked = []
    for name in ("__bool__", "__float__", "__int__", "item", "tolist"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *a, name=name, original=original: asked.append(name) or original(self, *a)
        )
    stack(theirs, ours)
    assert asked == ["tolist"]
