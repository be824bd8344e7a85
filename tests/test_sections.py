"""Sections: the kv_cache_index (docs/reference-behaviour.md, "Prefill and sections"), read strictly."""

from __future__ import annotations

import pytest
import torch

from c2c import RefusedError, generate_kv_cache_index
from c2c.fusion.prompt import Section, read_sections

IDS = torch.zeros((2, 5), dtype=torch.long)


def section(mask: int, tokens: int, batch: int = 1) -> torch.Tensor:
    return torch.tensor([mask, 0]).repeat(batch, tokens, 1)


def test_the_standard_index_fuses_the_first_tokens_and_not_the_last() -> None:
    first, last = generate_kv_cache_index(4, 1)
    assert first.tolist() == [[[1, 0]] * 4]
    assert last.tolist() == [[[-1, 0]]]
    assert read_sections([first, last], IDS, 1) == [Section(0, 4, (0,)), Section(4, 5, ())]


def test_a_mask_selects_sharers_bit_by_bit() -> None:
    sections = read_sections([section(5, 2), section(2, 1, batch=2), section(-1, 2)], IDS, 3)
    assert [each.sharers for each in sections] == [(0, 2), (1,), ()]


def disagreeing() -> torch.Tensor:
    index = section(1, 4, batch=2)
    index[1, :, 0] = -1
    return index


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        ([disagreeing(), section(-1, 1)], "must select the same Sharers"),
        ([section(4, 4), section(-1, 1)], "must be -1, 0 or a bit mask of the 2"),
        ([section(-2, 4), section(-1, 1)], "must be -1, 0 or a bit mask"),
        ([section(1, 3), section(-1, 1)], "must add up to the 5 tokens"),
        ([section(1, 4), section(1, 1)], "The last section"),
        ([section(1, 4, batch=3), section(-1, 1)], r"must be \(2 or 1, n, 2\)"),
        ([section(1, 4)[..., :1], section(-1, 1)], r"must be \(2 or 1, n, 2\)"),
        ([section(1, 4)[0], section(-1, 1)], r"must be \(2 or 1, n, 2\)"),
        ([section(1, 5), section(-1, 0)], "n >= 1"),
        ([], "must add up"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(index, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        read_sections(index, IDS, 2)


def test_input_ids_without_a_batch_dimension_and_lengths_below_one_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"input_ids must be \(B, N\)"):
        read_sections([section(-1, 5)], IDS[0], 1)
    with pytest.raises(RefusedError, match="response_length must be at least 1; received 0"):
        generate_kv_cache_index(4, 0)
