"""Sliding windows count tokens, wherever the pads of a batch stand."""

from __future__ import annotations

import pytest
import torch

from c2c import FuserStack, RefusedError, RosettaModel
from c2c.cache.kv_cache import positions_of
from c2c.cache.rows import splits_windows
from c2c.evaluation.answers.answer import DecodingState
from c2c.evaluation.answers.likelihood import score_tokens
from c2c.fusion.prompt import read_sections
from c2c.generation.decoding import continue_text
from tests.conftest import SMALL, WINDOWS, build_model, open_gates

NEW, TOTAL = 8, 12
FIRST, MIDDLE, LAST = 3, 6, 3
KEPT = [0, 1, 2, 7, 8, 9, 10, 11]
"""Columns of the second row's tokens: its middle section is four tokens shorter than the first row's."""


@pytest.fixture
def padded(prompt_ids) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows of three sections, ids and mask ``(2, 12)``; the second has pads before its middle section."""
    ids = torch.cat([prompt_ids, prompt_ids[:, :1]], dim=1)
    mask = torch.zeros_like(ids)
    mask[0], mask[1, KEPT] = 1, 1
    return ids * mask, mask


def fused_model(receiver: str, sharer: str, attention: str = "sdpa", **options: bool) -> RosettaModel:
    torch.manual_seed(3)
    models = build_model(receiver), build_model(sharer, seed=1)
    for model in models:
        model.set_attn_implementation(attention)
    stack = FuserStack.between(models[1].config, models[0].config, **SMALL)
    return open_gates(RosettaModel.of_stacks(models[0], [models[1]], [stack], **options))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("family", WINDOWS)
@pytest.mark.parametrize("role", ["receiver", "sharer"])
def test_a_row_with_pads_between_its_sections_is_answered_as_alone(
    family, role, response, attention, padded, sections
) -> None:
    names = (family, "qwen2") if role == "receiver" else ("qwen3", family)
    model = fused_model(*names, attention, include_response=response)
    last, (ids, mask) = 1 if response else -1, padded
    batch = sections((-1, FIRST), (1, MIDDLE), (last, LAST))
    alone = sections((-1, FIRST), (1, len(KEPT) - FIRST - LAST), (last, LAST))
    single = ids[1:, KEPT]
    logits = model(batch, ids, mask).logits[1]
    torch.testing.assert_close(logits, model(alone, single).logits[0], atol=1e-4, rtol=1e-4)
    written = model.generate(batch, ids, mask, max_new_tokens=NEW)[1, TOTAL:]
    assert torch.equal(written, model.generate(alone, single, max_new_tokens=NEW)[0, len(KEPT) :])


@pytest.mark.parametrize("family", WINDOWS)
def test_a_model_without_a_cache_continues_such_a_row_as_alone_and_nothing_stays_on_it(family, padded) -> None:
    model, (ids, mask) = build_model(family), padded
    single = ids[1:, KEPT]
    written = continue_text(model, ids, mask, max_new_tokens=NEW)[1, TOTAL:]
    alone = continue_text(model, single, torch.ones_like(single), max_new_tokens=NEW)[0, len(KEPT) :]
    assert torch.equal(written, alone)
    assert not model.base_model._forward_pre_hooks


@pytest.mark.parametrize("form", ["sliding", "static"])
def test_a_cache_that_drops_columns_is_refused_where_a_window_holds_pads(form, padded, sections) -> None:
    model, (ids, mask) = fused_model("gemma3", "qwen2"), padded
    index = sections((-1, FIRST), (1, MIDDLE), (-1, LAST))
    with pytest.raises(RefusedError, match=r"there must be no pads between tokens"):
        model.generate(index, ids, mask, max_new_tokens=1, cache=form)
    mask[1] = 1
    assert model.generate(index, ids, mask, max_new_tokens=1, cache=form).shape == (2, TOTAL + 1)


def test_an_attention_that_takes_no_such_masks_is_refused(padded, sections) -> None:
    model, (ids, mask) = fused_model("mistral", "qwen2"), padded
    model.receiver.config._attn_implementation = "flash_attention_2"
    with pytest.raises(RefusedError, match=r"Pads between tokens must.*flash_attention_2"):
        model(sections((1, TOTAL - 1), (-1, 1)), ids, mask)


@pytest.mark.parametrize(
    ("family", "mask", "columns", "split"),
    [
        ("mistral", [1, 0, 1, 1, 1, 1], 6, True),
        ("mistral", [0, 0, 1, 1, 1, 1], 6, False),
        ("mistral", [1, 1, 1, 1, 0, 0], 6, False),
        ("mistral", [1, 0, 1], 5, False),
        ("mistral", [1, 0, 1], 6, True),
        ("qwen3", [1, 0, 1, 1, 1, 1], 6, False),
    ],
)
def test_only_pads_between_tokens_of_a_text_longer_than_a_window_need_masks(family, mask, columns, split) -> None:
    assert splits_windows(build_model(family), torch.tensor([mask]), columns) is split


@pytest.mark.parametrize("family", WINDOWS)
def test_options_are_scored_as_alone_where_pads_lie_within_the_window_of_the_last_token(
    family, prompt_ids, sections
) -> None:
    model = fused_model(family, "qwen2")
    ids = torch.cat([prompt_ids, prompt_ids[:, :1]], dim=1)
    mask = torch.ones_like(ids)
    # The second row has one token in its middle section, right before the last column.
    mask[1, 7:10] = 0

    def scores(index, ids: torch.Tensor, mask: torch.Tensor) -> list[list[tuple[float, bool]]]:
        prompt = model.prefill(read_sections(index, ids, 1), ids, mask, positions_of(mask))
        state = DecodingState(model.receiver, None, ids, mask, prompt)
        return score_tokens(state, [[[5], [6, 7, 8]]] * len(ids))

    single = ids[1:, mask[1] > 0]
    batch = scores(sections((-1, 7), (1, 4), (-1, 1)), ids, mask)[1]
    alone = scores(sections((-1, 7), (1, 1), (-1, 1)), single, torch.ones_like(single))[0]
    assert [score for score, _ in batch] == pytest.approx([score for score, _ in alone], abs=1e-4)
