"""Sharer and Receiver on different devices, shown without a second one: the Receiver and its Fusers are on ``meta``.

Tensors there have a shape and no values, and operations that mix them with others fail as on a real second device. What
asks for values is taken out: checks of values, and gates, which are forced open.
"""

from __future__ import annotations

import pytest
import torch

from c2c import FuserStack, RosettaModel, SharerInput, generate_kv_cache_index
from c2c.cache.kv_cache import layers_of
from c2c.fusion.prompt import Section
from tests.conftest import SMALL, build_model

N = 11


def sections(*_, include_response: bool) -> list[Section]:
    """The first tokens fused with both Sharers."""
    return [Section(0, N - 3, (0, 1)), Section(N - 3, N, (0, 1) if include_response else ())]


@pytest.fixture
def shapes_alone(monkeypatch) -> None:
    monkeypatch.setattr("c2c.rosetta.read_sections", sections)
    for check in ("check_prompt", "check_readings", "_check_weights"):
        monkeypatch.setattr(f"c2c.rosetta.{check}", lambda *_, **__: None)
    real = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: False if self.is_meta else real(self))


@pytest.fixture(params=["sequential", "parallel"])
def spread(request, shapes_alone) -> RosettaModel:
    receiver, sharers = build_model("llama"), [build_model("qwen2", layers=4), build_model("qwen3")]
    stacks = [FuserStack.between(sharer.config, receiver.config, **SMALL) for sharer in sharers]
    model = RosettaModel.of_stacks(
        receiver.to("meta"), sharers, [stack.to("meta") for stack in stacks], fusion=request.param
    )
    for stack in stacks:
        stack.force_gates(True)
    return model


@pytest.fixture
def given(prompt_ids) -> SharerInput:
    """What a Sharer on the CPU reads."""
    return SharerInput.of_receiver(prompt_ids[:, : N - 3], torch.ones(2, N - 3, dtype=torch.long))


PROMPT = torch.zeros(2, N, dtype=torch.long, device="meta")


def test_sharers_elsewhere_are_fused_on_the_receivers_device(spread, given) -> None:
    output = spread([], PROMPT, torch.ones_like(PROMPT), sharer_inputs=[given, given])
    assert output.logits.is_meta
    assert all(states.is_meta for layer in layers_of(output.cache) for states in layer)


def test_a_cache_that_was_read_elsewhere_is_moved_when_it_is_fused(spread, given) -> None:
    states = torch.zeros(2, 2, N - 3, 8)
    read = SharerInput(given.input_ids, given.attention_mask, given.token_map, layers=[(states, states)] * 3)
    assert spread([], PROMPT, torch.ones_like(PROMPT), sharer_inputs=[given, read]).logits.is_meta


def test_zeros_are_made_where_they_are_fused(spread, given) -> None:
    zeroed = SharerInput(given.input_ids, given.attention_mask, given.token_map, zeroed=True)
    assert spread([], PROMPT, torch.ones_like(PROMPT), sharer_inputs=[zeroed, given]).logits.is_meta


def test_gradients_reach_fusers_on_the_receivers_device(spread, given) -> None:
    spread.train()([], PROMPT, torch.ones_like(PROMPT), sharer_inputs=[given, given]).logits.sum().backward()
    fuser = spread.stack(0).fuser_of(0)  # its forced gates learn nothing
    learned = [each for name, each in fuser.named_parameters() if not name.endswith("gate_logit")]
    assert all(each.grad is not None and each.grad.is_meta for each in learned)


def test_a_mixture_of_devices_is_seen_by_these_tests() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.cat([torch.zeros(2, 3), torch.zeros(2, 3, device="meta")], dim=1).sum() + torch.mm(
            torch.zeros(2, 2), torch.zeros(2, 2, device="meta")
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("response", [False, True], ids=["prefix", "response"])
@pytest.mark.parametrize("devices", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")], ids="-".join)
def test_on_cuda_the_models_write_what_they_write_on_the_cpu(prompt_ids, devices, response) -> None:
    def written(receiver_device: str, sharer_device: str) -> list[list[int]]:
        torch.manual_seed(0)
        receiver, sharer = build_model("llama"), build_model("qwen2", layers=4)
        stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
        stack.force_gates(True)
        models = receiver.double().to(receiver_device), [sharer.double().to(sharer_device)]
        model = RosettaModel.of_stacks(*models, [stack.double().to(receiver_device)], include_response=response)
        ids = prompt_ids.to(receiver_device)
        index = generate_kv_cache_index(ids.shape[1] - 1, 1)
        return model.generate(index, ids, torch.ones_like(ids), max_new_tokens=8).tolist()

    assert written(*devices) == written("cpu", "cpu")
