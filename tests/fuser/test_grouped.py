"""Fusers that are computed together give what they give one after the other, with few operations."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from c2c import FuserStack, RosettaModel
from c2c.fuser.config import VARIANTS
from c2c.fuser.grouped import GROUPED_VARIANTS, StackedLayers, learnable_parameters, spare_other_rows
from c2c.fuser.variants import create_fuser
from c2c.fusion.fuse import align
from c2c.types import HALVES, CacheShape
from tests.conftest import build_model

SHARER, RECEIVER = CacheShape(5, 2, 6), CacheShape(4, 3, 4)
SIZES = {"hidden_dim": 16, "intermediate_dim": 20, "num_layers": 4, "rank": 5}


class Count(TorchDispatchMode):
    """Counts the operations that reach a device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[str(func)] += 1
        return func(*args, **(kwargs or {}))

    def syncs(self) -> list[str]:
        """Operations that wait for the device."""
        return [
            name for name in self.names if "local_scalar_dense" in name or "is_nonzero" in name or "equal.d" in name
        ]


def build(variant: str = "full", shapes=(SHARER, RECEIVER), **changes) -> FuserStack:
    torch.manual_seed(0)
    stack = FuserStack.of_shapes(*shapes, variant=variant, **{**SIZES, "dropout": 0.0, **changes})
    for number, (_, _, logit) in enumerate(stack.gate_logits()):
        if logit is not None:
            logit.data.fill_(0.3 if number % 5 else -0.4)
    stack.anneal(600)
    return stack


def grouped(stack: FuserStack) -> FuserStack:
    twin = copy.deepcopy(stack)
    twin.grouping, stack.grouping = "grouped", "loop"
    return twin


def states(shapes=(SHARER, RECEIVER), batch: int = 2, tokens: int = 5, dtype=torch.float32):
    draw = torch.Generator().manual_seed(1)
    return [
        [tuple(torch.randn(batch, shape.heads, tokens, shape.head_dim, generator=draw).to(dtype) for _ in HALVES)
         for _ in range(shape.layers)]
        for shape in shapes
    ]  # fmt: skip


def assert_equal(ours, theirs, tolerance: float = 1e-6) -> None:
    for new, old in zip(ours, theirs, strict=True):
        for half in (0, 1):
            assert new[half].dtype == old[half].dtype
            torch.testing.assert_close(new[half], old[half], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("forced", [None, True, False])
def test_inference_of_every_variant_equals_the_loop(variant, forced) -> None:
    stack, (sharer, receiver) = build(variant), states()
    twin = grouped(stack).eval()
    for member in (stack.eval(), twin):
        member.force_gates(forced)
    with torch.no_grad():
        fused = twin(sharer, receiver)
        assert_equal(fused, stack(sharer, receiver))
        stack.only_layers([1, 3])
        twin.only_layers([1, 3])
        fused = twin(sharer, receiver)
        assert_equal(fused, stack(sharer, receiver))
    assert fused[0] is receiver[0]
    assert bool(twin.fusers.groups()) == (variant in GROUPED_VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("noise", ["gumbel", "logistic"])
@pytest.mark.parametrize("recompute", [False, True])
def test_training_without_dropout_draws_the_same_noise_and_has_the_same_gradients(variant, noise, recompute) -> None:
    stack, (sharer, receiver) = build(variant, gate_noise=noise).train(), states()
    twin = grouped(stack).train()
    assert twin.train_grouped()
    assert not stack.train_grouped()
    for member in (stack, twin):
        member.recompute = recompute
        torch.manual_seed(3)
        fused = member(sharer, receiver)
        sum((keys.pow(2) + values.sin()).sum() for keys, values in fused).backward()
    torch.manual_seed(3)
    second = twin(sharer, receiver)
    assert_equal(second, fused)
    torch.manual_seed(3)
    assert_equal(second, stack(sharer, receiver))
    for group in twin.fusers.groups():
        for number, fuser in enumerate(group.fusers):
            original = stack.fusers[twin.all_fusers().index(fuser)]
            for name, parameter in original.named_parameters():
                half, _, own = name.partition("_")
                row = group.leaves[own].grad[2 * number + HALVES.index(half)]
                torch.testing.assert_close(row, parameter.grad, atol=1e-4, rtol=1e-4)


def test_an_optimiser_of_the_leaves_changes_the_modules_as_one_of_their_parameters_does() -> None:
    # In float64: AdamW turns the smallest differences of tiny gradients into whole steps.
    stack, (sharer, receiver) = build().double().train(), states(dtype=torch.float64)
    twin = grouped(stack).train()
    twin.train_grouped()
    assert list(twin.state_dict()) == list(stack.state_dict())
    for member in (stack, twin):
        parameters = learnable_parameters(member)
        optimiser = torch.optim.AdamW(parameters, lr=1e-2, fused=True)
        for step in range(4):
            torch.manual_seed(step)
            sum((keys.pow(2) + values).sum() for keys, values in member(sharer, receiver)).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            member.anneal(step)
    assert len(parameters) < len(list(twin.parameters())) / 7
    for (name, ours), theirs in zip(twin.state_dict().items(), stack.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, msg=name)
    with torch.no_grad():
        assert_equal(twin.eval()(sharer, receiver), stack.eval()(sharer, receiver), 1e-5)


@pytest.mark.parametrize("without", ["closed", "left out", "another group"])
def test_weight_decay_leaves_fusers_that_are_not_used_as_they_are_like_the_loop(without) -> None:
    stack, (sharer, receiver) = build().double().train(), states(dtype=torch.float64)
    twin = grouped(stack).train()
    assert twin.train_grouped()
    before = copy.deepcopy(stack.state_dict())
    for member in (stack, twin):
        if without == "closed":
            member.fuser_of(1).gate_override = False
        elif without == "left out":
            member.only_layers([0, 2, 3])
        parameters = learnable_parameters(member)
        optimiser = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.5, fused=True)
        spare_other_rows(optimiser, member)
        for step in range(3):
            torch.manual_seed(step)
            sum((keys.pow(2) + values).sum() for keys, values in member(sharer, receiver)).backward()
            optimiser.step()
            optimiser.zero_grad()
    unused = [name for name in before if name.startswith("fusers.1.") and "temperature" not in name]
    for name, weights in stack.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], weights, atol=1e-5, rtol=1e-5, msg=name)
        assert torch.equal(weights, before[name]) == (without != "another group" and name in unused) or "temp" in name
    assert unused


def test_dropout_is_drawn_with_its_probability_and_is_off_at_inference() -> None:
    stack, (sharer, receiver) = build("fuse", dropout=0.5), states()
    twin = grouped(stack).train()
    twin.train_grouped()
    with torch.no_grad():
        first, second = twin(sharer, receiver), twin(sharer, receiver)
        assert not torch.equal(first[0][0], second[0][0])
        mean = torch.stack([twin(sharer, receiver)[0][0] for _ in range(400)]).mean(0)
        stack.train()
        expected = torch.stack([stack(sharer, receiver)[0][0] for _ in range(400)]).mean(0)
        assert (mean - expected).abs().max() < 0.1
        assert_equal(twin.eval()(sharer, receiver), stack.eval()(sharer, receiver))


@pytest.mark.parametrize("forced", [True, False, "mixed"])
def test_forced_gates_and_layers_that_are_left_out_in_training_equal_the_loop(forced) -> None:
    stack, (sharer, receiver) = build().train(), states()
    twin = grouped(stack).train()
    twin.train_grouped()
    for member in (stack, twin):
        member.force_gates(None if forced == "mixed" else forced)
        if forced == "mixed":
            member.fuser_of(1).gate_override = True
        member.only_layers([0, 1, 3])
        torch.manual_seed(3)
        fused = member(sharer, receiver)
        if forced:
            sum((keys + values).sum() for keys, values in fused).backward()
    torch.manual_seed(3)
    assert_equal(stack(sharer, receiver), fused)
    if forced:
        (group,) = twin.fusers.groups()
        expected = stack.fuser_of(1).value_proj_out.weight.grad
        torch.testing.assert_close(group.leaves["proj_out.weight"].grad[3], expected, atol=1e-4, rtol=1e-4)


def test_a_shared_fuser_and_fusers_of_several_sizes_equal_the_loop() -> None:
    torch.manual_seed(0)
    base, stack = build(), FuserStack(SHARER, RECEIVER)
    wide = create_fuser(base.fuser_of(0).config.__class__.between(SHARER, RECEIVER, hidden_dim=8, dropout=0.0))
    stack.link(0, 1, base.fuser_of(0))
    stack.link(1, 2, wide)
    stack.link(2, 4, base.fuser_of(1))
    stack.link(3, 0, wide)
    twin, (sharer, receiver) = grouped(stack), states()
    for member in (stack.eval(), twin.eval()):
        member.force_gates(True)
    with torch.no_grad():
        assert_equal(twin(sharer, receiver), stack(sharer, receiver))
    assert len(twin.fusers.groups()) == 2


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_bfloat16_and_autocast_equal_the_loop_within_their_precision(mode) -> None:
    stack = build()
    if mode == "eval":
        stack.bfloat16()
    twin = grouped(stack)
    (sharer, receiver) = states(dtype=torch.bfloat16)
    for member in (stack, twin):
        getattr(member, mode)()
        member.force_gates(True)
        member.autocast = torch.bfloat16
    if mode == "train":
        twin.train_grouped()
    with torch.no_grad():
        assert_equal(twin(sharer, receiver), stack(sharer, receiver), 0.05)
        rounded = twin(sharer, receiver, dtype=torch.bfloat16)
    assert {states.dtype for layer in rounded for states in layer} == {torch.bfloat16}


def test_tokens_without_a_sharer_token_keep_the_receivers_states() -> None:
    stack, (sharer, receiver) = build().eval(), states()
    twin = grouped(stack)
    matched = torch.tensor([[True, False, True, True, False]] * 2)
    with torch.no_grad():
        fused = twin(sharer, receiver, matched)
        assert_equal(fused, stack(sharer, receiver, matched))
    assert torch.equal(fused[1][0][:, :, 1], receiver[1][0][:, :, 1])
    assert not torch.equal(fused[1][0][:, :, 0], receiver[1][0][:, :, 0])


def test_parameters_that_are_moved_loaded_or_replaced_are_laid_together_again() -> None:
    stack, (sharer, receiver) = build().eval(), states()
    twin = grouped(stack)
    with torch.no_grad():
        twin(sharer, receiver)
        (group,) = twin.fusers.groups()
        leaves = {name: id(leaf) for name, leaf in group.leaves.items()}
        for change in (
            lambda member: member.double().float(),
            lambda member: member.load_state_dict(build(num_layers=4, hidden_dim=16).state_dict()),
            lambda member: member.load_state_dict(
                {name: tensor.clone() + 0.01 for name, tensor in stack.state_dict().items()}, assign=True
            ),
        ):
            change(twin)
            change(stack)
            assert_equal(twin(sharer, receiver), stack(sharer, receiver))
            assert {name: id(leaf) for name, leaf in group.leaves.items()} == leaves


def test_fusers_that_were_first_used_in_inference_mode_can_learn_afterwards() -> None:
    twin, (sharer, receiver) = grouped(build()).eval(), states()
    with torch.inference_mode():
        twin(sharer, receiver)
    twin.train_grouped()
    twin.train()(sharer, receiver)[0][0].sum().backward()
    assert all(leaf.grad is not None for group in twin.fusers.groups() for leaf in group.leaves.values())


def test_where_gradients_are_recorded_they_reach_the_modules_unless_the_stack_trains_grouped() -> None:
    twin, (sharer, receiver) = grouped(build()), states()
    twin.train()(sharer, receiver)[0][0].sum().backward()
    assert twin.fuser_of(0).key_in.weight.grad is not None
    twin.force_gates(True)
    twin.eval()(sharer, receiver)[1][0].sum().backward()
    assert twin.fuser_of(1).key_in.weight.grad is not None


def test_a_cpu_computes_one_after_the_other_unless_it_is_told_otherwise() -> None:
    stack = build().eval()
    with torch.no_grad():
        for grouping, expected in (("auto", False), ("loop", False), ("grouped", True)):
            stack.grouping = grouping
            assert stack.runs_grouped() == expected
    stack.to("meta")
    with torch.no_grad():
        assert not stack.runs_grouped()


def test_a_new_fuser_is_refused_once_an_optimiser_holds_the_others() -> None:
    from c2c import RefusedError

    stack = grouped(build())
    stack.train_grouped()
    stack.links.pop(3)
    stack.link(3, 0, create_fuser(stack.fuser_of(0).config))
    with pytest.raises(RefusedError, match="must keep the Fusers that its optimiser was made for"):
        stack.fusers.groups()


def deep(layers: int = 28) -> tuple[FuserStack, list, list]:
    shapes = CacheShape(layers, 2, 6), CacheShape(layers, 3, 4)
    return grouped(build(shapes=shapes, num_layers=3)), *states(shapes)


def test_the_fusion_of_28_layers_takes_at_most_150_operations(tiny_model, prompt_ids, sections) -> None:
    receiver, sharer = build_model("qwen3", layers=28), build_model("llama", layers=28, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=8, intermediate_dim=8)
    model = RosettaModel.of_stacks(receiver, [sharer], [stack])
    totals = {}
    for grouping in ("loop", "grouped"):
        stack.grouping = grouping
        stack.force_gates(True)
        for _ in range(2):
            # The second time: nothing has to be laid together any more.
            count = Count()
            with torch.no_grad():
                phases = {"fusion": count}
                model.generate(
                    sections((1, 8), (-1, 3)),
                    prompt_ids,
                    max_new_tokens=1,
                    timer=lambda phase, phases=phases: phases.get(phase) or nullcontext(),
                )
        totals[grouping] = sum(count.names.values())
    assert totals["grouped"] <= 150 < 1500 < totals["loop"], (totals, count.names.most_common(8))


def test_a_training_step_of_28_layers_takes_at_most_600_operations_and_never_waits_for_the_device() -> None:
    stack, sharer, receiver = deep()
    stack.train().train_grouped()
    token_map = torch.arange(5).expand(2, -1)
    with Count() as count:
        aligned = align(sharer, token_map, is_whole=True, stacked=True)
        assert isinstance(aligned.layers, StackedLayers)
        fused = stack(aligned.layers, receiver)
        # One loss over all fused states; what the Receiver computes of them is not fusion.
        loss = torch.cat([states.flatten() for layer in fused for states in layer]).square().mean()
        loss.backward()
    assert sum(count.names.values()) <= 600, count.names.most_common(8)
    assert count.syncs() == []
