"""Batches of questions by the memory that is free: which budget is measured, and that answers do not depend on it."""

from __future__ import annotations

import pytest

from c2c.evaluation.answers.store import BUDGET, AnswerStore
from c2c.evaluation.token_budget import MOST_TOKENS, measure_budget
from c2c.models.memory_meter import MEMORY_SHARE
from tests.evaluation.test_batches import tokens_read


class RowMeter:
    """A device on which so many rows fit beside the memories of prompts; a row takes a byte, and more run out.

    Args:
        loaded: The model whose rows are counted.
        rows: How many fit.
    """

    def __init__(self, loaded, rows: int) -> None:
        self.loaded, self.rows = loaded, rows

    def free(self) -> int:
        return int(self.rows / MEMORY_SHARE) + 1

    def peak_of(self, work) -> int | None:
        with tokens_read(self.loaded) as counts:
            work()
        return counts[0] // 8 if counts[0] // 8 <= self.rows else None


@pytest.fixture(autouse=True)
def no_memories(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.token_budget.default_limit", lambda device: 0)
    monkeypatch.setattr("c2c.evaluation.token_budget.COLUMNS", 8)


def test_the_budget_is_that_of_passes_of_all_models_that_fit(pair, capsys) -> None:
    assert measure_budget([pair.receiver, pair.sharer], RowMeter(pair.receiver, 3)) == 3 * 8
    assert "token_budget: 24 tokens are a batch" in capsys.readouterr().err


def test_a_device_on_which_no_pass_fits_answers_one_by_one(pair) -> None:
    assert measure_budget([pair.receiver], RowMeter(pair.receiver, 0)) == 8


def test_a_budget_has_an_end_however_much_memory_is_free(pair, monkeypatch) -> None:
    monkeypatch.setitem(MOST_TOKENS, "cpu", 64)
    assert measure_budget([pair.receiver], RowMeter(pair.receiver, 10**6)) == 64


def test_a_run_that_was_cut_off_keeps_the_budget_that_it_measured(tmp_path) -> None:
    store = AnswerStore(tmp_path / "kept")
    assert store.budget(lambda: 300) == 300
    resumed = AnswerStore(tmp_path / "kept")
    assert resumed.budget(lambda: pytest.fail("measured again")) == 300
    (tmp_path / "kept" / BUDGET).write_text("spoilt")
    assert resumed.budget(lambda: 200) == 200
    resumed.forget()
    assert not (tmp_path / "kept").exists()
