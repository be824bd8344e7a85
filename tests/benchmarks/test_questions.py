"""The file of questions holds what a Receiver reads, under the ids and hashes that records have."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import questions
from c2c.errors import RefusedError
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.reader import text_hash
from c2c.evaluation.schema import QUESTION_SCHEMA, read_records
from c2c.storage.formats import write_json_lines

TASKS = Path(__file__).resolve().parents[2] / "benchmarks/tasks"
LETTER = [
    {"id": "a", "question": "Which is red?", "options": ["a rose", "snow"], "answer": "A", "subset": "colours"},
    {"id": "b", "question": "Which is cold?", "options": ["fire", "ice"], "answer": "B", "subset": "heat"},
]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_json_lines(tmp_path / "arc_easy.jsonl", LETTER)
    return tmp_path / "arc_easy.jsonl"


@pytest.mark.parametrize("task", ["arc_easy_letter", "arc_easy_text"])
def test_a_question_has_the_prompt_options_and_hash_of_its_records(prepared, tmp_path, task):
    questions.write_questions(
        TASKS, {"plain": {task: prepared}, "chat": {task: prepared}}, tmp_path / "questions.parquet"
    )
    rows = read_records([tmp_path / "questions.parquet"], QUESTION_SCHEMA)
    loaded = load_tasks(TASKS, {task: prepared})["tasks"][task]
    for kind in ("plain", "chat"):
        asked, own = questions_of(loaded, kind), rows[rows["prompts"] == kind]
        assert list(own["question_id"]) == ["a", "b"] and list(own["gold"]) == [question.gold for question in asked]
        assert list(own["question_hash"]) == [text_hash(json.dumps(question.doc, sort_keys=True)) for question in asked]
        prompts = [json.loads(text)[-1]["content"] if kind == "chat" else text for text in own["prompt"]]
        assert kind == "chat" or prompts == [question.prompt for question in asked]
        assert [list(options) for options in own["choices"]] == [line["options"] for line in LETTER]
    assert rows["max_new_tokens"].isna().all() == task.endswith("_text")
    assert (tmp_path / "questions.parquet.provenance.json").is_file()


def test_a_file_of_no_task_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="--plain or --chat"):
        questions.write_questions(TASKS, {"plain": {}}, tmp_path / "questions.parquet")


def test_a_task_without_its_file_is_refused_by_its_flag(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["q", "--tasks", str(TASKS), "--chat", "arc", "--output", str(tmp_path / "q.parquet")]
    )
    assert questions.main() == 2
    assert "--chat must have the form ID=FILE" in capsys.readouterr().err
