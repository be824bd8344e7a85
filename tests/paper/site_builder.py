"""Results folders of synthetic records from which the tests build the site."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from c2c.evaluation.schema import QUESTION_SCHEMA, frame_of, write_records
from c2c.testbed.card.records import read
from c2c.testbed.items import write_items
from paper.recompute import recompute
from tests.communication.simulator import TestBed
from tests.paper.builder import VALUES, Bench, Run, make_records, write
from tests.paper.test_exchange_messages import item_of

RUNS = (
    Run("gap_a"),
    *(Run("gap_a", recipe, "span", seed) for recipe in ("c2c", "adapter") for seed in (0, 1)),
    Run("gap_b"),
    Run("gap_b", "c2c", "span", 0),
    Run("gap_b", "c2c", "longest", 0),
)


def make_folder(folder: Path, runs: Sequence[Run] = RUNS, bench: Bench | None = None, has_claims: bool = True) -> Path:
    """A results folder with records, texts of questions and, unless it is only to be looked at, tables and claims."""
    bench = bench or Bench(questions=24)
    records = make_records(runs, bench).assign(prompts="plain")
    # The deranged Sharer reads the next question.
    is_deranged = records["method"] == "c2c_deranged"
    other = [f"q{(int(name[1:]) + 1) % bench.questions:03d}" for name in records["question_id"]]
    own = records["question_id"].where(records["method"].isin(["c2c", "t2t", "sharer"]))
    records["sharer_question_id"] = own.mask(is_deranged, pd.Series(other))
    is_text = records["method"] == "t2t"
    records["message"] = records["gold"].map("It must be {}.".format).where(is_text)
    questions = make_questions(bench)
    texts = questions.set_index(["benchmark", "question_id"])["prompt"]
    prompts = texts[pd.MultiIndex.from_frame(records[["benchmark", "question_id"]])]
    records["prompt_hash"] = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in prompts]
    write(records, folder / "records/all.parquet")
    write_records(questions, folder / "questions.parquet", QUESTION_SCHEMA)
    if has_claims:
        recompute(records, None, folder)
    else:
        (folder / "claims.json").write_text("[]", encoding="utf-8")
    return folder


def make_questions(bench: Bench) -> pd.DataFrame:
    """Texts of all questions of a bench."""
    rows = [
        {
            "benchmark": benchmark,
            "prompts": "plain",
            "question_id": f"q{number:03d}",
            "question_hash": f"hash{number}",
            "subset": list(VALUES)[number % 2],
            "prompt": f"What is the value of number {number}?\nAnswer:",
            "private": f"A secret of number {number}.",
            "choices": VALUES[list(VALUES)[number % 2]],
            "gold": VALUES[list(VALUES)[number % 2]][number // 2 % 4],
            "max_new_tokens": None,
        }
        for benchmark in bench.benchmarks
        for number in range(bench.questions)
    ]
    return frame_of(rows, QUESTION_SCHEMA)


def add_testbed(folder: Path) -> None:
    """Add records of the test bed and their items to a results folder."""
    frame = read(TestBed(channels=("identity", "ridge"), items=12, seeds=(0, 1)).write(folder))
    for (task, seed), rows in frame.drop_duplicates(["task", "seed", "id"]).groupby(["task", "seed"]):
        path = folder / f"testbed/items/{task}/{seed}/test.jsonl"
        path.parent.mkdir(parents=True)
        write_items(path, map(item_of, rows.to_dict("records")))
