"""Questions of the user's own, as a benchmark and as a training set, with nothing written but their folder."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.config.task import TaskConfig
from lm_eval.tasks import TaskManager

from benchmarks import prepare
from benchmarks.catalogue import read_benchmarks
from benchmarks.rows import RowCounts, read_rows
from benchmarks.training_sets import TrainingSet, prepare_training_set
from benchmarks.user_files import UserFile
from benchmarks.user_tasks import task_config
from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import TASK_KEYS
from c2c.evaluation.questions.tasks import load_tasks
from c2c.training.examples import read_lines

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "benchmarks" / "tasks"
CHOICE = [
    {"question": "Which is a citrus fruit?", "options": ["apple", "lemon", "plum"], "answer": "B"},
    {"question": "Which grows on a palm?", "options": ["grape", "pear", "coconut"], "answer": "coconut"},
]
FREE = [{"question": "Which colour has a ripe banana?", "answer": "yellow"}]
PROMPTS = [{"prompt": "The colour of a ripe banana is", "answer": "yellow"}]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def folder_of(place: Path, rows: list[Any], **keys: Any) -> Path:
    """The folder of a benchmark `fruit` with these questions."""
    write_lines(place / "fruit/questions.jsonl", rows)
    content = {"metadata": {"source": "file", **keys.pop("metadata", {})}, **keys}
    (place / "fruit/fruit.yaml").write_text(yaml.safe_dump(content))
    return place / "fruit"


def prepared(place: Path, folder: Path, scoring: str) -> Path:
    """The prepared questions, with the task file beside them, as the workflow prepares them."""
    questions = place / "prepared" / "fruit.jsonl"
    prepare.prepare_user_benchmark(folder / "questions.jsonl", questions)
    prepare.write_user_task(folder, scoring, "fruit", questions, TASKS, questions.with_suffix(".yaml"))
    return questions


@pytest.mark.parametrize(
    ("rows", "scoring", "prompt"),
    [
        (CHOICE, "letter", "Question: Which is a citrus fruit?\nA) apple\nB) lemon\nC) plum\nAnswer:"),
        (CHOICE, "text", "Question: Which is a citrus fruit?\nAnswer:"),
        (FREE, "exact", "Question: Which colour has a ripe banana?\nAnswer:"),
        (PROMPTS, "exact", "The colour of a ripe banana is"),
    ],
)
def test_each_form_is_asked_in_the_words_of_the_protocol_and_is_a_task_of_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], scoring: str, prompt: str
) -> None:
    questions = prepared(tmp_path, folder_of(tmp_path, rows), scoring)
    task = load_tasks(TASKS, {"fruit": questions})["tasks"]["fruit"]
    task.build_all_requests()
    assert task.instances[0].args[0].endswith(prompt)
    monkeypatch.chdir(tmp_path)
    theirs = TaskManager(include_path=str(questions.parent), include_defaults=False).load(["fruit"])["tasks"]["fruit"]
    theirs.build_all_requests()
    assert [request.args for request in theirs.instances] == [request.args for request in task.instances]


def test_a_prompt_of_ones_own_is_the_whole_prompt_and_may_name_any_key(tmp_path: Path) -> None:
    rows = [{**CHOICE[0], "hint": "It is sour."}]
    folder = folder_of(tmp_path, rows, doc_to_text="{{hint}} {{question}}", metadata={"scorings": ["text"]})
    task = load_tasks(TASKS, {"fruit": prepared(tmp_path, folder, "text")})["tasks"]["fruit"]
    task.build_all_requests()
    assert task.instances[0].args[0] == "It is sour. Which is a citrus fruit?"


def test_a_folder_of_benchmarks_or_of_one_is_read_and_the_scoring_follows_from_the_first_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CHOICE)
    assert read_benchmarks([tmp_path])["fruit"]["scorings"] == ["letter"]
    assert read_benchmarks([folder])["fruit"]["folder"] == str(folder)
    write_lines(folder / "questions.jsonl", FREE)
    assert read_benchmarks([tmp_path])["fruit"]["scorings"] == ["exact"]
    with pytest.raises(RefusedError, match="must be in one folder"):
        read_benchmarks([tmp_path, folder])


def test_a_misspelt_key_of_metadata_is_refused_with_the_right_one(tmp_path: Path) -> None:
    folder = tmp_path / "fruit"
    folder.mkdir()
    (folder / "fruit.yaml").write_text("metadata: {source: file, scoring: [text]}")
    with pytest.raises(RefusedError, match=r"must have only keys with a meaning.*'scoring'.*Did you mean 'scorings'"):
        read_benchmarks([folder])


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (
            {"doc_to_txt": "{{question}}"},
            r"A key of the lm-eval task .*/fruit/fruit\.yaml must be a known name",
            "doc_to_text",
        ),
        ({"doc_to_text": "{{qestion}}"}, r"doc_to_text of .*/fruit\.yaml must name only keys of the lines", "question"),
        ({"doc_to_target": "valeu"}, "doc_to_target of .* must name only keys of the lines", "value"),
        ({"doc_to_choice": ["{{optoins[0]}}", "no"]}, "doc_to_choice of .* must name only keys", "options"),
        ({"metadata": {"t2t_prompt": "{{mesage}}"}}, r"metadata\.t2t_prompt of .* must name only keys", ""),
        ({"generation_kwargs": {"max_gen_tok": 3}}, r"A generation setting of .*/fruit\.yaml must", "max_gen_toks"),
    ],
)
def test_a_misspelt_key_or_variable_of_the_yaml_file_is_refused_with_the_nearest(
    tmp_path: Path, content: dict[str, Any], message: str, hint: str
) -> None:
    folder = folder_of(tmp_path, CHOICE, **content)
    with pytest.raises(RefusedError, match=message) as refusal:
        task_config(folder, "exact", "fruit", TASKS)
    assert not hint or f"Did you mean {hint!r}" in str(refusal.value)


def test_a_template_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"doc_to_text of .*/fruit\.yaml must be a jinja template"):
        task_config(folder_of(tmp_path, CHOICE, doc_to_text="{{question"), "exact", "fruit", TASKS)


def test_a_key_that_a_template_names_must_be_in_each_line_unless_it_is_optional(tmp_path: Path) -> None:
    rows = [{**CHOICE[0], "hint": "It is sour."}, CHOICE[1]]
    with pytest.raises(RefusedError, match=r"Line 2 of .*/fruit/questions\.jsonl must have the key 'hint'"):
        task_config(folder_of(tmp_path, rows, doc_to_text="{{hint}} {{question}}"), "exact", "fruit", TASKS)
    for optional in ("{% if hint is defined and hint %}{{hint}}{% endif %}", "{{hint | default('')}}"):
        task_config(folder_of(tmp_path, rows, doc_to_text=optional + "{{question}}"), "exact", "fruit", TASKS)


def test_the_known_keys_of_a_task_file_are_those_of_lm_eval() -> None:
    assert set(TASK_KEYS) == {field.name for field in fields(TaskConfig)}


@pytest.mark.parametrize(
    ("rows", "scorings", "message"),
    [
        (
            CHOICE,
            ["text", "math"],
            "must name only letter, logits, text, exact, since its lines have question, opt",
        ),
        (FREE, ["letter"], "must name only exact, math, since its lines have question and answer; received 'letter'"),
        (PROMPTS, ["longbench"], "must name only exact, math, since its lines have prompt and answer"),
    ],
)
def test_a_scoring_that_the_form_of_the_lines_does_not_have_is_refused(
    tmp_path: Path, rows: list[Any], scorings: list[str], message: str
) -> None:
    folder = folder_of(tmp_path, rows, metadata={"scorings": scorings})
    with pytest.raises(RefusedError, match=message):
        task_config(folder, scorings[0], "fruit", TASKS)


@pytest.mark.parametrize("name", ["", "fruits.yaml", "fruit.yml"])
def test_a_folder_of_questions_without_a_yaml_file_of_its_name_is_refused(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "mine", CHOICE)
    (folder / "fruit.yaml").rename(folder / name) if name else (folder / "fruit.yaml").unlink()
    for place in (tmp_path / "mine", folder):
        rule = r"must have a YAML file of the folder's name, .*/mine/fruit/fruit\.yaml; received .*questions\.jsonl"
        with pytest.raises(RefusedError, match=rule):
            read_benchmarks([place])


def test_a_folder_without_any_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"A folder of benchmarks must hold <benchmark>/<benchmark>\.yaml"):
        read_benchmarks([tmp_path])


def test_refusals_name_the_path_of_the_file_and_the_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [CHOICE[0], "{"])
    with pytest.raises(RefusedError, match=r"Line 2 of .*/fruit/questions\.jsonl must be JSON"):
        task_config(folder, "letter", "fruit", TASKS)
    (folder / "questions.jsonl").write_bytes(b"\xff")
    with pytest.raises(RefusedError, match=r"/fruit/questions\.jsonl must be UTF-8 text"):
        read_benchmarks([folder])
    (folder / "questions.jsonl").unlink()
    with pytest.raises(
        RefusedError, match=r"/fruit/questions\.jsonl must be a file of JSON lines; received 'no file'\. Write it"
    ):
        read_benchmarks([folder])
    (folder / "fruit.yaml").write_text("metadata: [")
    with pytest.raises(RefusedError, match=r"/fruit/fruit\.yaml must be YAML of plain values.*line 1"):
        read_benchmarks([folder])


def test_an_answer_is_a_letter_or_the_text_of_an_option(tmp_path: Path) -> None:
    rows = UserFile(write_lines(tmp_path / "q.jsonl", CHOICE)).questions()
    assert [(row["answer"], row["value"]) for row in rows] == [("B", "lemon"), ("C", "coconut")]
    assert [row["id"] for row in rows] == ["00001", "00002"]


SPOILT: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", r"Line 2 of .*/q\.jsonl must be JSON"),
    "no object": ("[1]", r"Line 2 of .*/q\.jsonl must be a JSON object"),
    "no question": ({"answer": "A"}, r"Line 2 .* must have a text, not an empty one, in 'question'"),
    "no answer": ({"question": "Q?"}, r"Line 2 .* must have a text, not an empty one, in 'answer'"),
    "a number for an answer": ({"question": "Q?", "answer": 4}, r"Line 2 .* in 'answer'; received 4"),
    "an answer that is no option": ({**CHOICE[0], "answer": "D"}, r"Line 2 .* a letter from A to C or the text"),
    "one option": ({**CHOICE[0], "options": ["lemon"]}, r"Line 2 .* a list of 2 to 10 different texts"),
    "an option twice": ({**CHOICE[0], "options": ["a", "a "]}, r"Line 2 .* a list of 2 to 10 different texts"),
    "options that are text": ({**CHOICE[0], "options": "a, b"}, r"Line 2 .* a list of 2 to 10 different texts"),
    "another form": (FREE[0], r"Line 2 .* must have the form of the lines above, question, options and answer"),
    "an id twice": ({**CHOICE[0], "id": "00001"}, r"Line 2 .* must have an id of its own"),
    "an id that is a list": ({**CHOICE[0], "id": []}, r"Line 2 .* in 'id'"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_bad_line_is_refused_with_its_number_the_rule_and_a_remedy(case: str, tmp_path: Path) -> None:
    line, message = SPOILT[case]
    with pytest.raises(RefusedError, match=message) as refusal:
        UserFile(write_lines(tmp_path / "q.jsonl", [CHOICE[0], line])).questions()
    assert "docs/guides/your-own-benchmark.md" in refusal.value.remedy


@pytest.mark.parametrize(
    ("rows", "asked_as", "prompt", "response"),
    [
        (CHOICE, "letter", "Answer:", "B"),
        (CHOICE, "text", "Question: Which is a citrus fruit?\nAnswer:", "lemon"),
        (FREE, "text", "Question: Which colour has a ripe banana?\nAnswer:", "yellow"),
        (PROMPTS, "", "The colour of a ripe banana is", "yellow"),
    ],
)
def test_a_training_set_is_made_of_a_file(
    tmp_path: Path, rows: list[Any], asked_as: str, prompt: str, response: str
) -> None:
    more = [{**rows[0], "prompt" if "prompt" in rows[0] else "question": f"Which? {n}"} for n in range(3)]
    path = write_lines(tmp_path / "own.jsonl", [rows[0], *more])
    train, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    prepare_training_set(TrainingSet((UserFile(path),), 1, asked_as, TASKS), train, validation)
    examples = [*read_lines(train), *read_lines(validation)]
    assert len(examples) == 4 and len(read_lines(validation)) == 1
    assert any(row["prompt"].endswith(prompt) and row["response"] == response for row in examples)


def test_questions_to_learn_from_must_say_how_they_are_asked(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "own.jsonl", [*CHOICE, {**CHOICE[0], "question": "Which?"}])
    with pytest.raises(RefusedError, match="must say how they are asked"):
        prepare_training_set(TrainingSet((UserFile(path),), 1, "", TASKS), tmp_path / "t", tmp_path / "v")


def test_a_question_of_a_benchmark_is_left_out_of_a_training_set_of_ones_own(tmp_path: Path) -> None:
    counts = RowCounts()
    source = UserFile(write_lines(tmp_path / "own.jsonl", CHOICE))
    rows = read_rows(source, "corrected", counts, without={"which is a citrus fruit"})
    assert len(rows) == 1 and counts.exclusions == {"a benchmark asks it": 1}


def test_a_reader_for_rows_of_another_form_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path / "mirror/me/fruit/test.jsonl", CHOICE)
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    words = ["prepare", "benchmark", "--reader", "openbookqa", "--dataset", "me/fruit", "--split", "test"]
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(tmp_path / "x.jsonl")])
    assert prepare.main() == 2
    printed = capsys.readouterr().err
    assert "Rows of me/fruit must have the form that the reader openbookqa is for" in printed
    assert "Traceback" not in printed
