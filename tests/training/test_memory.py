"""What saves memory and time changes what it says and nothing else: recomputed activations, bfloat16 in the Fusers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.conftest import weights


def kept_bytes(built) -> int:
    """Bytes that autograd keeps for the backward pass of one batch, each tensor counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    built.model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        built._loss(built.collate(built.training[:4])).backward()
    return sum(kept.values())


@pytest.mark.parametrize("response", ["plain", "fused"])
def test_activations_that_are_computed_twice_give_the_same_bits_with_dropout_and_noise(trainer, response) -> None:
    results = {}
    for name in ("none", "fusers"):
        built = trainer(name, recompute=name, response=response, dropout=0.5, hidden_dim=16)
        results[name] = (built.run()[1], weights(built))
    assert results["none"][0].equals(results["fusers"][0])
    assert all(torch.equal(tensor, results["fusers"][1][name]) for name, tensor in results["none"][1].items())


def test_fewer_bytes_are_kept_where_activations_are_computed_twice(trainer) -> None:
    plain, twice = (kept_bytes(trainer(name, recompute=name, hidden_dim=64)) for name in ("none", "fusers"))
    assert twice < 0.5 * plain


@pytest.mark.parametrize("recompute", ["none", "fusers"])
@pytest.mark.parametrize("variant", ["full", "fuse", "projected"])
def test_with_autocast_the_fusers_alone_compute_in_bfloat16_and_only_while_they_learn(
    trainer, variant, recompute
) -> None:
    built = trainer(autocast="bfloat16", recompute=recompute, variant=variant, dropout=0.0)
    seen: dict[tuple[str, bool], set[torch.dtype]] = {}

    def watch(part: str):
        def hook(module: nn.Module, given: object, output: torch.Tensor) -> None:
            seen.setdefault((part, built.model.training), set()).add(output.dtype)

        return hook

    for part, module in (("fusers", built.stack), ("models", built.model.model_list)):
        for each in module.modules():
            if isinstance(each, nn.Linear):
                each.register_forward_hook(watch(part))
    built.stack.force_gates(True)
    built.run()
    assert seen[("fusers", True)] == {torch.bfloat16}
    assert {dtype for key, found in seen.items() if key != ("fusers", True) for dtype in found} == {torch.float32}
    states = [tensor for state in built.optimizer.state.values() for tensor in state.values()]
    assert {tensor.dtype for tensor in [*built.stack.parameters(), *states]} == {torch.float32}
    _, exact = trainer("exact", variant=variant, dropout=0.0).run()
    built = trainer("learned", autocast="bfloat16", recompute=recompute, variant=variant, dropout=0.0)
    _, rounded = built.run()
    assert rounded["loss"].to_numpy() == pytest.approx(exact["loss"].to_numpy(), rel=0.02)
    assert rounded["loss"].tolist() != exact["loss"].tolist()


def test_the_gates_noise_is_as_fine_with_autocast_as_without(trainer) -> None:
    """In bfloat16 it has a few hundred values (docs/reference-behaviour.md, "Initial weights and precision")."""
    built = trainer(autocast="bfloat16", variant="full")
    drawn = []
    fuser = built.stack.all_fusers()[0]
    fuser.gumbel_noise = lambda like, dtype: drawn.append(dtype) or torch.zeros((*like.shape[:-1], 1), dtype=dtype)
    built.model.train()
    built._loss(built.collate(built.training[:4]))
    assert set(drawn) == {torch.float32}
