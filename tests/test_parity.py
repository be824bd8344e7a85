"""The golden vectors of the reference implementation (tests/golden/README.md) are met to 1e-5, and token by token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from c2c import RosettaModel
from c2c.cache.kv_cache import layers_of
from c2c.checkpoints.released import read_stack
from c2c.types import CacheShape

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/case.json"))
TOLERANCE = 1e-5


def sections(fused: int, total: int, mask: int) -> list[torch.Tensor]:
    return [torch.tensor([value, 0]).expand(1, n, 2) for value, n in ((mask, fused), (-1, total - fused))]


@pytest.fixture(params=CASES)
def golden(request: pytest.FixtureRequest) -> tuple[RosettaModel, dict, dict[str, torch.Tensor]]:
    folder = GOLDEN / request.param
    case = json.loads((folder / "case.json").read_text())
    numbers = range(1, case["sharers"] + 1)
    model = RosettaModel.from_released(
        [folder / f"released_{i}" for i in numbers],
        receiver=folder / "receiver",
        sharers=[folder / f"sharer_{i}" for i in numbers],
        fusion=case["mode"],
    )
    return model, case, load_file(folder / "expected.safetensors")


def test_all_five_cases_are_there() -> None:
    assert len(CASES) == 5


def test_logits_and_fused_cache_are_those_of_the_reference(golden) -> None:
    model, case, expected = golden
    ids, fused = expected["input_ids"], case["fused_tokens_forward"]
    output = model(sections(fused, ids.shape[1], case["mask"]), ids)
    torch.testing.assert_close(output.logits, expected["logits"], atol=TOLERANCE, rtol=0)
    for layer, (keys, values) in enumerate(layers_of(output.cache)):
        torch.testing.assert_close(keys, expected[f"key.{layer}"], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(values, expected[f"value.{layer}"], atol=TOLERANCE, rtol=0)


def test_response_loss_is_that_of_the_reference(golden) -> None:
    model, case, expected = golden
    ids, response = expected["input_ids"], case["response_tokens"]
    labels = ids.clone()
    labels[:, :-response] = -100
    fused = ids.shape[1] - response - 1
    loss = model(sections(fused, ids.shape[1], case["mask"]), ids, labels=labels).loss
    torch.testing.assert_close(loss.view(1), expected["response_loss"], atol=TOLERANCE, rtol=0)


def test_greedy_generation_is_that_of_the_reference_token_by_token(golden) -> None:
    model, case, expected = golden
    ids, fused = expected["input_ids"], case["fused_tokens_generate"]
    index = sections(fused, ids.shape[1], case["mask"])
    assert torch.equal(model.generate(index, ids, max_new_tokens=case["max_new_tokens"]), expected["generated"])


def test_the_layer_map_read_from_the_published_folder_is_the_one_that_was_run() -> None:
    for name in CASES:
        case = json.loads((GOLDEN / name / "case.json").read_text())
        for number, mapping in enumerate(case["mapping"], start=1):
            shapes = {
                role: CacheShape.of(AutoConfig.from_pretrained(GOLDEN / name / folder))
                for role, folder in (("receiver", "receiver"), ("sharer", f"sharer_{number}"))
            }
            stack = read_stack(GOLDEN / name / f"released_{number}", **shapes)
            assert {str(t): link.sharer_layer for t, link in stack.links.items()} == mapping
