"""Properties of what verdicts rest on: an explicit list, checked, which no other record can move."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from c2c.errors import RefusedError
from paper import claims
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import Scope, paired
from paper.reading.reference import Reference
from paper.verdicts import NOT_RUN, SUPPORTED
from tests.paper.builder import Bench, Run, make_latency, make_records

WORLD = Basis.load(claims.PATH, "smoke")
WRONG = {"receiver": 0.9, "sharer": 0.9, "t2t": 0.9, "routing": 0.9} | dict.fromkeys(
    ("c2c", "c2c_deranged", "c2c_zeroed", "adapter", "project", "fuse", "longest"), 0.0
)
"""Rates of a benchmark on which C2C is wrong."""
OWN = [Run("gap_a"), *(Run("gap_a", recipe, "span", seed) for recipe, seed in product(("c2c", "adapter"), (0, 1, 2)))]


def write_verdicts(records: pd.DataFrame, latency: pd.DataFrame, folder: Path) -> tuple[bytes, bytes]:
    outputs = folder / "claims.json", folder / "claims_time.json"
    claims.write(claims.PATH, Answers(records), latency, Reference(), outputs)
    return outputs[0].read_bytes(), outputs[1].read_bytes()


@pytest.fixture(scope="module")
def verdicts(records: pd.DataFrame, latency: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_verdicts(records, latency, tmp_path_factory.mktemp("verdicts"))


def own_rows(kind: str) -> pd.DataFrame:
    """Records that a user has beside those of the world, and in which C2C is wrong."""
    if kind == "pair":
        return make_records(OWN, Bench(rates=WRONG)).assign(pair="mine", receiver="mine")
    if kind == "seed":
        return make_records([Run("gap_b", "c2c", "span", 7)], Bench(rates=WRONG))
    if kind == "recipe":
        return make_records([Run("gap_b", "project", "span", 0)], Bench(rates=WRONG))
    return make_records(OWN, Bench(["fruit_text"], 5, WRONG))


@pytest.mark.parametrize("kind", ["benchmark", "pair", "seed", "recipe"])
def test_records_of_a_users_own_leave_every_verdict_as_it_is_and_stand_in_the_tables(
    kind: str, records: pd.DataFrame, latency: pd.DataFrame, verdicts: Any, tmp_path: Path
) -> None:
    together = pd.concat([records, own_rows(kind)], ignore_index=True)
    assert write_verdicts(together, latency, tmp_path) == verdicts
    answers = Answers(together)
    assert {
        "benchmark": "fruit_text" in answers.benchmarks,
        "pair": "mine" in [pair.name for pair in answers.pairs],
    }.get(kind, True)


def test_times_of_a_users_own_leave_every_verdict_as_it_is(
    records: pd.DataFrame, latency: pd.DataFrame, verdicts: Any, tmp_path: Path
) -> None:
    slow = make_latency([run for run in OWN if run.seed in (None, 0)]).assign(total_s=9.0)
    own = [slow.assign(pair="mine"), slow.assign(benchmark="fruit_text"), slow[slow["recipe"] == "c2c"].assign(seed=7)]
    assert write_verdicts(records, pd.concat([latency, *own], ignore_index=True), tmp_path) == verdicts


def judge(claim: str, records: pd.DataFrame, latency: pd.DataFrame | None = None) -> dict[str, Any]:
    entry = next(each for each in claims.read_claims() if each["id"] == claim)
    return claims.judge(entry, Answers(records), make_latency([]) if latency is None else latency, Reference(), WORLD)


@pytest.mark.parametrize(
    ("claim", "lost", "named", "missing"),
    [
        ("c2c_above_receiver", "pair == 'gap_b'", "C2C (seed 0) for Pair B, free answer", 2),
        (
            "c2c_above_receiver",
            "benchmark == 'knowledge_gap_choice'",
            "C2C (seeds 0, 1, 2) for Pair A, four-way choice",
            2,
        ),
        (
            "pairing_gain",
            "pair == 'gap_a' and recipe == 'c2c' and seed == 1",
            "C2C (seed 1) for Pair A, free answer",
            0,
        ),
        (
            "communication_gain",
            "pair == 'gap_b' and recipe == 'adapter'",
            "Adapter (seed 0) for Pair B, free answer",
            2,
        ),
    ],
)
def test_a_verdict_says_which_listed_cells_it_lacks(
    claim: str, lost: str, named: str, missing: int, records: pd.DataFrame
) -> None:
    assert judge(claim, records)["verdict"] == SUPPORTED and not judge(claim, records)["reason"]
    found = judge(claim, records.query(f"not ({lost})").reset_index(drop=True))
    assert named in found["reason"] and found["cells"]["missing"] == missing


def test_a_verdict_on_times_says_which_pair_was_not_timed(records: pd.DataFrame, latency: pd.DataFrame) -> None:
    found = judge("c2c_faster_than_t2t", records, latency[latency["pair"] == "gap_a"])
    assert found["cells"]["missing"] == 1 and found["reason"] == "the records lack times of Pair B"


def test_a_scale_that_is_not_listed_has_no_verdict_on_records(
    records: pd.DataFrame, latency: pd.DataFrame, tmp_path: Path
) -> None:
    text = write_verdicts(records.assign(scale="mine"), latency.assign(scale="mine"), tmp_path)[0].decode()
    rested = [entry for entry in yaml.safe_load(text) if entry["evidence"].get("kind") == "paired_difference"]
    assert {entry["verdict"] for entry in rested} == {NOT_RUN}
    assert all("scale mine" in entry["reason"] and "rests_on" in entry["reason"] for entry in rested)


def test_a_claim_rests_on_the_pairs_of_its_place_and_one_of_ours_on_all() -> None:
    runs = [Run("gap_b"), Run("gap_b", "c2c", "span", 42)]
    of_table_7, of_table_4 = "qwen3_from_gemma3_mmlu", "qwen3_from_llama32"
    bench = Bench(["mmlu_redux_letter"])
    records = [make_records(runs, bench).assign(pair=pair, scale="paper") for pair in (of_table_7, of_table_4)]
    answers = Answers(pd.concat(records, ignore_index=True))

    def rests_on(where: str) -> set[str]:
        return {
            cell["pair"]
            for cell in paired(answers, Basis.load(claims.PATH, "paper"), "c2c", "receiver", Scope(where)).cells
        }

    assert rests_on("Table 4") == {of_table_4}
    assert rests_on("text on Table 7") == {of_table_7}
    assert rests_on("") == {of_table_7, of_table_4}


ENTRY: dict[str, Any] = {
    "pairs": ["gap_a"],
    "benchmarks": ["arc_easy_text", "mmlu_text"],
    "trainings": [{"recipes": ["c2c"], "alignment": "span", "seeds": [0]}],
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "rests_on"),
        ({"smoke": {"pairs": []}}, "list of dict"),
        ({"smoke": [ENTRY | {"colour": "red"}]}, "unknown colour"),
        ({"smoke": [{"pairs": ["gap_a"]}]}, "no benchmarks"),
        ({"smoke": [ENTRY | {"pairs": ["gap_a", "gap_a"]}]}, "count twice"),
        ({"smoke": [ENTRY, ENTRY]}, "count twice"),
        ({"smoke": [ENTRY | {"benchmarks": ["arc_easy_text", "arc_easy_text"]}]}, "count twice"),
        ({"smoke": [ENTRY | {"benchmarks": ["arc_easy_text", "arc_easy_letter"]}]}, "one scoring"),
        ({"smoke": [ENTRY | {"trainings": ENTRY["trainings"] * 2}]}, "nothing twice"),
        ({"smoke": [ENTRY | {"timed": "openbookqa_text"}]}, "one of its benchmarks"),
        ({"smoke": [ENTRY | {"trainings": [ENTRY["trainings"][0] | {"seeds": [True]}]}]}, "list of int"),
    ],
)
def test_a_list_that_is_not_whole_or_names_something_twice_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"rests_on": content} if content else {"claims": []}), encoding="utf-8")
    with pytest.raises(RefusedError, match=message):
        Basis.load(path, "smoke")


def test_a_listed_benchmark_that_was_asked_with_the_released_prompts_alone_counts_with_them():
    (pair, *_) = WORLD.benchmarks
    first, *others = WORLD.benchmarks[pair]
    assert WORLD.of_tasks([first, f"{first}_released"]).benchmarks == WORLD.benchmarks
    assert WORLD.of_tasks([f"{first}_released"]).benchmarks[pair] == [f"{first}_released", *others]
    assert WORLD.of_tasks([]).timed == WORLD.timed
