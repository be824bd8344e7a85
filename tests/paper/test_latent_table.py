"""The table of a shared latent space: known answers in, known numbers out, the paper's beside them."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from c2c.evaluation.schema import RECORD_SCHEMA, TOGETHER, conform
from paper.findings import answers as findings
from paper.reading.answers import Answers
from paper.tables import latent, main, several_sharers
from tests.paper.builder import make_records
from tests.paper.test_method_tables import FIRST, NAMES, QUESTIONS, SECOND, rows

BOTH = TOGETHER.join(NAMES)


@pytest.fixture
def records() -> pd.DataFrame:
    b = "gap_receiver_b"
    return pd.concat(
        [
            rows("gap_b", ("", "receiver"), {0, 1}, "gap_sharer", b),
            rows("gap_first", ("", "receiver"), {0}, NAMES[0]),
            rows("gap_first", ("c2c", "c2c"), FIRST, NAMES[0]),
            rows("gap_first", ("latent", "c2c"), FIRST - {0, 1}, NAMES[0]),
            rows("gap_first", ("latent", "c2c_deranged"), {3}, NAMES[0]),
            rows("gap_halves", ("latent_sequential", "c2c"), FIRST | SECOND, BOTH),
            rows("gap_halves", ("latent_sequential", "c2c_deranged"), set(), BOTH),
            rows("gap_b_second", ("latent", "c2c"), SECOND, NAMES[1], b),
            rows("gap_b_second", ("latent", "c2c_deranged"), {0}, NAMES[1], b),
        ],
        ignore_index=True,
    )


def cells(records: pd.DataFrame) -> pd.DataFrame:
    return latent.build(Answers(records)).set_index(["receiver", "sharer"])


def test_each_receiver_stands_alone_with_each_sharer_and_with_all_of_them(records) -> None:
    frame = cells(records)
    a, b = "gap_receiver_a", "gap_receiver_b"
    assert frame["value"].to_dict() == pytest.approx(
        {(a, ""): 2.5, (a, NAMES[0]): 45, (a, BOTH): 100, (b, ""): 5, (b, NAMES[1]): 50}
    )
    assert frame.loc[(a, NAMES[0]), ["deranged_value", "gain_value", "pairing_value", "own_value"]].to_list() == (
        pytest.approx([2.5, 42.5, 42.5, -5])
    )
    assert frame.loc[(a, BOTH), "pairing_value"] == pytest.approx(100)
    assert pd.isna(frame.loc[(b, NAMES[1]), "own_value"]) and frame.loc[(b, NAMES[1]), "gain_value"] == pytest.approx(
        45
    )
    assert set(frame["n"]) == {QUESTIONS}


def test_a_changed_record_changes_the_table(records) -> None:
    place = records.index[(records["recipe"] == "latent_sequential") & (records["method"] == "c2c")][0]
    records.loc[place, "output_text"] = "nothing"
    assert cells(records).loc[("gap_receiver_a", BOTH), "value"] == pytest.approx(97.5)
    right = (records["pair"] == "gap_b") & (records["output_text"] == records["gold"])
    assert right.sum() == 2
    records.loc[right.idxmax(), "output_text"] = "nothing"
    assert cells(records).loc[("gap_receiver_b", ""), "value"] == pytest.approx(2.5)


def test_other_tables_show_nothing_of_it(records) -> None:
    answers = Answers(pd.concat([records[records["pair"] != "gap_b"], make_records()], ignore_index=True))
    assert not any(arm.startswith("latent") for arm in main.build(answers, None)["arm"])
    assert several_sharers.build(answers).empty
    assert latent.build(Answers(make_records())).empty


QWEN = {"0.6": "Qwen/Qwen3-0.6B", "0.5": "Qwen/Qwen2.5-0.5B-Instruct", "coder": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        "base": "Qwen/Qwen3-4B-Base"}  # fmt: skip


def of_paper(pair: str, recipe: str, sharer: str, receiver: str = QWEN["0.5"]) -> pd.DataFrame:
    frame = rows(pair, (recipe, "c2c" if recipe else "receiver"), FIRST, sharer, receiver)
    return conform(frame.assign(benchmark="mmlu_redux_letter"), RECORD_SCHEMA)


def test_the_papers_values_stand_beside_the_same_models(tmp_path) -> None:
    found = [
        of_paper("qwen25_from_qwen3_mmlu", "", QWEN["0.6"]),
        of_paper("qwen25_from_qwen25_coder_mmlu", "latent", QWEN["coder"]),
        of_paper("qwen25_from_qwen3_4b_base_mmlu", "latent", QWEN["base"]),
        of_paper("qwen25_coder_and_base", "latent_sequential", TOGETHER.join([QWEN["coder"], QWEN["base"]])),
    ]
    answers = Answers(pd.concat(found, ignore_index=True))
    frame = latent.write(answers, tmp_path / "latent")
    assert list(frame["paper"]) == [38.44, 42.44, 59.17, 59.81]
    text = (tmp_path / "latent.md").read_text()
    assert re.search(r"[|] Qwen2.5-0.5B [|] [^|]+ [|] both [|]", text) and "59.81" in text
    assert "names another" in text


def test_the_finding_tells_each_pair_of_the_first_receiver_and_how_often_the_message_counts(records) -> None:
    told = " ".join(findings.latent(latent.build(Answers(records))))
    assert all(part in told for part in ("45.0", "100.0", "the Receiver alone answers 2.5"))
    assert "The pairing gain is above zero on all 3 cells." in told
    assert "trained for one pair alone is" in told
    assert findings.latent(latent.build(Answers(records[records["recipe"] == ""]))) == []
