"""Half precision: fused caches and logits are the reference's, bit for bit."""

from __future__ import annotations

import pytest
import torch

from c2c import RosettaModel
from c2c.cache.kv_cache import layers_of
from tests.by_hand import by_hand

FUSED, LAST = 8, 3


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["sequential", "parallel"])
@pytest.mark.parametrize("mask", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_cache_and_logits_equal_the_formulas_bit_for_bit(
    two_sharers, prompt_ids, sections, mask, fusion, dtype
) -> None:
    models = two_sharers.to(dtype)
    model = RosettaModel.of_stacks(models.receiver, models.sharers, list(models.stacks), fusion=fusion)
    output = model(sections((mask, FUSED), (-1, LAST)), prompt_ids)
    logits, cache = by_hand(model, prompt_ids, [(mask, FUSED), (-1, LAST)])
    assert output.logits.dtype == dtype
    assert torch.equal(output.logits, logits)
    for ours, theirs in zip(layers_of(output.cache), layers_of(cache), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(logits, by_hand(model, prompt_ids, [(-1, FUSED), (-1, LAST)])[0])


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["sequential", "parallel"])
def test_one_sharer_is_fused_to_the_same_bits_whatever_the_fusion(open_model, prompt_ids, sections, fusion) -> None:
    parts = [(1, FUSED), (-1, LAST)]
    model = open_model.to(torch.bfloat16)
    expected, cache = by_hand(model, prompt_ids, parts)
    model.fusion = fusion
    output = model(sections(*parts), prompt_ids)
    assert torch.equal(output.logits, expected)
    for ours, theirs in zip(layers_of(output.cache), layers_of(cache), strict=True):
        assert torch.equal(torch.stack(ours), torch.stack(theirs))
