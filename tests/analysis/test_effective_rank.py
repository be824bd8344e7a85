"""Effective rank: known matrices have known ranks, and a table of caches holds what each reading alone would give."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from c2c.analysis.effective_rank import effective_rank, measure_ranks
from c2c.analysis.run import AnalysisRun
from c2c.cache import kv_cache
from c2c.errors import RefusedError


def test_equal_singular_values_have_the_rank_of_their_number() -> None:
    assert effective_rank(torch.eye(7)) == pytest.approx(7, rel=1e-9)
    rows = torch.linalg.qr(torch.randn(20, 5, generator=torch.Generator().manual_seed(0))).Q
    assert effective_rank(rows) == pytest.approx(5, rel=1e-6)


def test_a_matrix_of_one_direction_has_rank_one_whatever_its_size() -> None:
    assert effective_rank(torch.ones(30, 12)) == pytest.approx(1, abs=1e-5)


def test_unequal_singular_values_give_the_exponential_of_their_entropy() -> None:
    shares = (0.75, 0.25)
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(torch.diag(torch.tensor([6.0, 2.0]))) == pytest.approx(expected, rel=1e-9)


def test_neither_scale_nor_rotation_nor_the_order_of_rows_changes_it() -> None:
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(40, 6, generator=draw, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64)).Q
    expected = effective_rank(states)
    for other in (3 * states, states @ turn, states.flip(0)):
        assert effective_rank(other) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("matrix", [torch.zeros(3, 3), torch.full((3, 3), math.nan)])
def test_nothing_and_what_is_not_finite_are_refused(matrix) -> None:
    with pytest.raises(RefusedError, match="must be finite and other than zero"):
        effective_rank(matrix)


@pytest.fixture
def table(fused_settings) -> pd.DataFrame:
    return measure_ranks(AnalysisRun(**fused_settings))


def rank_of(table: pd.DataFrame, layer: int, half: str, cache: str) -> float:
    found = table[(table["layer"] == layer) & (table["half"] == half) & (table["cache"] == cache)]
    return float(found["effective_rank"].item())


def test_the_receivers_rank_is_that_of_its_rows_read_one_by_one(table, pair, questions) -> None:
    model, tokenizer = pair.receiver.model, pair.receiver.tokenizer
    rows = []
    for question in questions["choice"]:
        ids = tokenizer(question.prompt, return_tensors="pt")["input_ids"][:, :-1]
        mask = torch.ones_like(ids)
        keys = kv_cache.layers_of(kv_cache.prefill(model, ids, mask, kv_cache.positions_of(mask)))[1][0]
        rows.append(keys[0].transpose(0, 1).flatten(1))
    states = torch.cat(rows)
    singular = torch.linalg.svdvals(states.double())
    expected = float(torch.special.entr(singular / singular.sum()).sum().exp())
    assert rank_of(table, 1, "key", "receiver") == pytest.approx(expected, rel=1e-4)
    assert set(table["tokens"]) == {len(states)} and set(table["width"]) == {16}


def test_fusion_changes_the_rank_and_another_message_changes_it_otherwise(table) -> None:
    ranks = {cache: rank_of(table, 0, "value", cache) for cache in ("receiver", "fused", "fused_deranged", "sharer")}
    assert len({round(rank, 4) for rank in ranks.values()}) == 4


def test_each_receiver_layer_stands_beside_the_sharer_layer_that_it_reads(table) -> None:
    assert dict(zip(table["layer"], table["sharer_layer"], strict=True)) == {0: 1, 1: 2, 2: 3}
