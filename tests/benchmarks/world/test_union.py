"""The union task: Sharers without a fact in common, asked together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.world import union
from benchmarks.world.world import generate

RECORDS = Path(__file__).resolve().parents[3] / "paper" / "records" / "union"


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    training = replace(union.TRAINING, hidden_dim=16, intermediate_dim=16, steps=2, batch_size=8)
    return union.run(3, generate(entities=64, attributes=2, seed=0), 0, training, steps=2, hidden=16, batch_size=8)


def test_the_shares_of_three_sharers_have_no_entity_in_common_and_are_all_together() -> None:
    world = generate(entities=64)
    parts = [{fact.entity for fact in world.part(number, 3)} for number in range(3)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(world.entities)
    # Each knows some entities of each split.
    tests = {entity.name for entity in world.entities if entity.split == "test"}
    assert all(part & tests for part in parts)


def test_each_question_is_answered_with_each_message(records) -> None:
    assert list(records.columns) == list(union.COLUMNS)
    assert set(records["message"]) == {"none", "matched", "deranged", "zeroed", "zeroed_1", "zeroed_2", "zeroed_3"}
    counts = records.groupby("message")["id"].nunique()
    assert set(counts) == {len(generate(entities=64, attributes=2, seed=0).facts(["test"]))}
    assert (records["correct"] == (records["prediction"] == records["gold"])).all()


def test_the_table_counts_the_records(records) -> None:
    lines = union.table(records).splitlines()
    assert len(lines) == 2 + records["message"].nunique()
    right = records[records["message"] == "matched"]["correct"].mean()
    (line,) = [line for line in lines if line.startswith("| the caches of all Sharers |")]
    assert line.split("|")[2].split("[")[0].strip() == f"{100 * right:.1f}"


def test_of_the_committed_records_three_sharers_answer_what_none_of_them_knows_alone() -> None:
    committed = pd.read_parquet(RECORDS / "three.parquet")
    assert (RECORDS / "three.md").read_text() == union.table(committed)
    accuracy = committed.groupby("message")["correct"].mean()
    assert accuracy["matched"] >= 0.85
    assert accuracy["deranged"] <= 0.12
    assert (accuracy[["zeroed_1", "zeroed_2", "zeroed_3"]] < accuracy["matched"] - 0.15).all()
