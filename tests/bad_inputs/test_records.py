"""Records and gold answers that would give a wrong score, or none: refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2c.cli.main import main
from c2c.evaluation import schema
from c2c.evaluation.schema import LATENCY_SCHEMA, RECORD_SCHEMA, read_records, to_table, write_records
from c2c.evaluation.scoring import check_failed, check_records, longbench, score_files, score_records
from tests.bad_inputs.refusals import refused
from tests.paper.builder import Bench, Run, make_latency, make_records, write

INFINITE = float("inf")


@pytest.fixture
def records() -> pd.DataFrame:
    return make_records((Run("gap_a"),), Bench(questions=4))


def weighed(scores: Any, choices: list[str] | None = None, scoring: str = "likelihood") -> pd.DataFrame:
    """Answers to one question of which the first option is the gold one."""
    one = make_records((Run("gap_a"),), Bench(["knowledge_gap_choice"], questions=1))
    options = choices or ["red", "blue", "green"]
    columns = {"scoring": scoring, "gold": options[0], "choices": [options] * len(one)}
    return one.assign(**columns, choice_scores=[scores] * len(one))


CHOICES = {
    "L1 all minus infinity": weighed([-INFINITE] * 3),
    "L1 all minus infinity by text": weighed([-INFINITE] * 3, scoring="text"),
    "L1 all minus infinity by logits": weighed([-INFINITE] * 3, scoring="logits"),
    "L2 no number": weighed([float("nan"), -1.0, -2.0]),
    "L3 plus infinity": weighed([INFINITE, -1.0, -2.0]),
    "L3 all plus infinity": weighed([INFINITE] * 3),
    "L3 both infinities": weighed([INFINITE, -INFINITE, -1.0]),
    "L4 an empty option of score 0": weighed([0.0, -1.0], ["", "blue"], "text"),
    "L4b an empty option of score -5": weighed([-5.0, -1.0], ["", "blue"], "text"),
    "L7 no choices": weighed([], ["red"]),
    "a score less": weighed([-1.0, -2.0]),
    "a gold answer that is no option": weighed([-1.0, -2.0, -3.0]).assign(gold="black"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_scores_of_which_none_is_the_greatest_are_refused(case) -> None:
    with refused("question_id"):
        score_records(CHOICES[case])


def test_one_option_that_is_impossible_is_no_fault() -> None:
    scores = score_records(weighed([-1.0, -INFINITE, -2.0])).query("metric == 'accuracy' and subset == 'all'")
    assert set(scores["value"]) == {100.0}
    scores = score_records(weighed([-INFINITE, -1.0, -2.0])).query("metric == 'accuracy' and subset == 'all'")
    assert set(scores["value"]) == {0.0}


def test_an_empty_option_is_scored_where_nothing_is_divided_by_its_length() -> None:
    scores = score_records(weighed([-0.5, -1.0], ["", "blue"])).query("metric == 'accuracy' and subset == 'all'")
    assert set(scores["value"]) == {100.0}


HARM: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "L5 a letter's gold null": (lambda r: r.assign(scoring="letter", gold=r.gold.where(r.index != 0)), "gold"),
    "L6 an exact gold null": (lambda r: r.assign(scoring="exact", gold=r.gold.where(r.index != 0)), "gold"),
    "a gold null of math": (lambda r: r.assign(scoring="math", gold=None), "gold"),
    "no question id": (lambda r: r.assign(question_id=r.question_id.where(r.index != 0)), "question_id"),
    "no method": (lambda r: r.assign(method=r.method.where(r.index != 0)), "method"),
    "no scoring": (lambda r: r.assign(scoring=None), "scoring"),
    "L8 an unknown method": (lambda r: r.assign(method="evil"), "evil"),
    "L9 an unknown scoring": (lambda r: r.assign(scoring="__class__"), "__class__"),
    "L10 neither error nor output": (lambda r: r.assign(output_text=None), "output_text"),
    "L11 a row twice": (lambda r: pd.concat([r, r.iloc[:1]]), "answered once"),
    "L20 no rows": (lambda r: r.iloc[:0], "at least one row"),
    "no columns": (lambda r: r[[]], "column"),
}


@pytest.mark.parametrize("case", HARM)
def test_records_without_what_a_score_needs_are_refused(case, records) -> None:
    harm, word = HARM[case]
    with refused(word):
        score_records(harm(records))


GOLD = {
    "no JSON": "Paris",
    "no object": "[]",
    "no answers": '{"metric": "qa_f1"}',
    "an unknown key": '{"metric": "qa_f1", "answers": ["a"], "new": 1}',
    "an unknown metric": '{"metric": "bleu", "answers": ["a"]}',
    "a metric that is a list": '{"metric": [], "answers": ["a"]}',
    "L12 too deep": "[" * 100_000,
    "L12 too deep below answers": '{"metric": "qa_f1", "answers": ' + "[" * 100_000,
    "L13 answers are a text": '{"metric": "qa_f1", "answers": "Paris"}',
    "L14 answers are numbers": '{"metric": "qa_f1", "answers": [7]}',
    "answers are null": '{"metric": "qa_f1", "answers": null}',
    "an answer is null": '{"metric": "qa_f1", "answers": ["a", null]}',
    "answers are lists": '{"metric": "qa_f1", "answers": [["a"]]}',
    "no answer": '{"metric": "qa_f1", "answers": []}',
    "classes are a text": '{"metric": "classification", "answers": ["a"], "classes": "a"}',
    "classes are numbers": '{"metric": "classification", "answers": ["a"], "classes": [1]}',
    "a classification without classes": '{"metric": "classification", "answers": ["a"], "classes": null}',
    "first_line as text": '{"metric": "qa_f1", "answers": ["a"], "first_line": "false"}',
    "a number of 5000 digits": '{"metric": "qa_f1", "answers": [' + "9" * 5000 + "]}",
}


@pytest.mark.parametrize("case", GOLD)
def test_a_gold_answer_of_longbench_that_is_no_such_thing_is_refused(case, records) -> None:
    with refused():
        longbench.score("P", GOLD[case])
    with refused():
        check_records(records.assign(scoring="longbench", gold=GOLD[case]))


def test_the_letters_of_an_answer_are_no_answers() -> None:
    gold = json.dumps({"metric": "qa_f1", "answers": ["Paris"], "classes": None})
    assert (longbench.score("P", gold), longbench.score("Paris", gold)) == (0.0, 1.0)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def newer(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({schema.VERSION_KEY: str(schema.VERSION + 1)}), path)


def retyped(column: str, values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        frame = pq.read_table(path).to_pandas()
        pq.write_table(pa.Table.from_pandas(frame.assign(**{column: values})), path)

    return change


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "L15 no parquet": (lambda path: path.write_text("question,answer\n"), "whole parquet"),
    "L15 empty": (lambda path: path.write_bytes(b""), "whole parquet"),
    "L16 cut off": (cut_off, "whole parquet"),
    "L16 NULs": (lambda path: path.write_bytes(bytes(len(path.read_bytes()))), "whole parquet"),
    "L17 a column missing": (lambda path: pq.write_table(pq.read_table(path).drop_columns(["gold"]), path), "gold"),
    "L17 a column of another version": (retyped("new_in_v2", 1), "new_in_v2"),
    "L18 a seed that is text": (retyped("seed", "abc"), "types"),
    "scores that are text": (retyped("choice_scores", "abc"), "types"),
    "L19 missing": (lambda path: path.unlink(), "must be a file"),
    "L19 a folder": (lambda path: (path.unlink(), path.mkdir()), "parquet"),
    "a newer version": (newer, "schema version"),
    "a version that is no number": (
        lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata({schema.VERSION_KEY: "x"}), path),
        "schema version",
    ),
}


ANSWERS_ALONE = ("L17 a column missing", "scores that are text")


@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, kind) for case in FILES for kind in ("answers", "times") if kind == "answers" or case not in ANSWERS_ALONE],
)
def test_a_file_that_holds_no_records_is_refused_by_name(case, kind, records, tmp_path) -> None:
    path, form = tmp_path / "records.parquet", RECORD_SCHEMA if kind == "answers" else LATENCY_SCHEMA
    write_records(records if kind == "answers" else make_latency(), path, form)
    FILES[case][0](path)
    with refused("records.parquet" if "must be a file" not in FILES[case][1] else str(path), FILES[case][1]):
        read_records([path], form)


def test_the_command_ends_with_one_line_and_its_code(tmp_path, capsys) -> None:
    (tmp_path / "some.parquet").write_text("no parquet")
    given = ["score", "--records", str(tmp_path / "some.parquet"), "--output", str(tmp_path / "scores.csv")]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told and "some.parquet" in told and told.count("\n") == 1
    assert not (tmp_path / "scores.csv").exists()


def test_files_of_before_there_was_a_version_are_of_the_first(records, tmp_path) -> None:
    old, new = write(records, tmp_path / "old.parquet"), tmp_path / "new.parquet"
    write_records(records, new)
    assert schema.VERSION_KEY.encode() not in (pq.read_schema(old).metadata or {})
    assert pq.read_schema(new).metadata[schema.VERSION_KEY.encode()] == b"1"
    assert to_table(read_records([old, new]), RECORD_SCHEMA).num_rows == 2 * len(records)


WRONG = {
    "a number beyond 64 bits": lambda r: r.assign(tokens_in=2**70),
    "an object": lambda r: r.assign(message=[{"role": "user"}] * len(r)),
    "text as a number": lambda r: r.assign(time_s="soon"),
}


@pytest.mark.parametrize("case", WRONG)
def test_values_that_no_file_can_hold_are_refused_and_nothing_is_written(case, records, tmp_path) -> None:
    with refused("types"):
        write_records(WRONG[case](records), tmp_path / "records.parquet")
    assert list(tmp_path.iterdir()) == []


def test_text_that_cannot_be_written_is_refused(records) -> None:
    rows = records.head(2).astype(object).to_dict("records")
    rows[1]["output_text"] = "\ud800"
    with refused("UTF-8"):
        schema.frame_of(rows, RECORD_SCHEMA)


def lost(records: pd.DataFrame, method: str, count: int) -> pd.DataFrame:
    """The first questions of one benchmark failed."""
    rows = records.index[(records.method == method) & (records.benchmark == "knowledge_gap_free")][:count]
    told = "RefusedError: Prompt and answer must fit into 8 positions; received 9. Shorten the prompt."
    return records.assign(
        error=np.where(records.index.isin(rows), told, None),
        output_text=records["output_text"].where(~records.index.isin(rows)),
    )


def test_too_many_failed_questions_are_refused_with_where_and_why(records, tmp_path) -> None:
    path = write(lost(records, "sharer", 2), tmp_path / "records.parquet")
    with refused("gap_a sharer", "knowledge_gap_free", "50.0%", "8 positions", "--failed-share"):
        score_files([path], tmp_path / "scores.csv", failed_share=0.49)
    assert not list(tmp_path.glob("scores*"))


def test_as_many_failed_questions_as_are_allowed_are_scored_and_counted(records, tmp_path, capsys) -> None:
    path = write(lost(records, "sharer", 2), tmp_path / "records.parquet")
    score_files([path], tmp_path / "scores.csv", failed_share=0.5)
    noted = json.loads((tmp_path / "scores.csv.provenance.json").read_text())
    assert noted["records"] == {"rows": len(records), "failed": 2} and noted["settings"]["failed_share"] == 0.5
    assert f"2 of {len(records)} questions failed" in capsys.readouterr().err


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), INFINITE])
def test_a_share_that_is_none_is_refused(share, records) -> None:
    with refused("[0, 1]"):
        check_failed(records, share)
