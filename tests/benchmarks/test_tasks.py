"""The task files of benchmarks/tasks, as lm-eval and as this project load them, on tiny questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from benchmarks.readers.longbench import SETS
from c2c.evaluation.protocol import ORACLE_TASK, RELEASED_TASK
from c2c.evaluation.questions.task_files import SHARED, included_files, read_task_file, resolve, task_path
from c2c.evaluation.questions.tasks import load_tasks, question_of_request
from c2c.evaluation.questions.templates import TEMPLATES
from workflow.data import Data, load_benchmarks

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "benchmarks" / "tasks"
BENCHMARKS = load_benchmarks(ROOT)
DATA = Data({}, BENCHMARKS, {})
FILES = sorted(
    path
    for path in TASKS.glob("*/*.yaml")
    if path.parent.name != SHARED and (path.stem in DATA.benchmark_of or path.stem not in BENCHMARKS)
)
"""All but those of benchmarks with several scorings, which are tasks in files of their own."""
NAMES = [path.stem for path in FILES]
REAL = [name for name in NAMES if not name.startswith("knowledge_gap")]
OWN = [name for name in REAL if not name.endswith(RELEASED_TASK)]
"""Tasks whose prompts are this project's own; those of the released code are tested in test_released_prompts.py."""

CHOICE = [
    {"id": "a", "subset": "s", "question": "Why is QUESTIONONE?", "options": ["OPTA {x}", "OPTB", "[OPTC]", "42"]},
    {"id": "b", "subset": "s", "question": "QUESTIONTWO {{x}}", "options": [f"OPT{letter}" for letter in "ABCDEFGHIJ"]},
]
CHOICE = [row | {"answer": answer, "value": "OPT"} for row, answer in zip(CHOICE, "CJ", strict=True)]
FREE = [
    {"id": "a", "subset": "s", "question": "How many is QUESTIONONE?", "answer": "18"},
    {"id": "b", "subset": "s", "question": "QUESTIONTWO {{x}}", "answer": "[0, 1)"},
    {"id": "c", "subset": "s", "question": "QUESTIONTHREE", "answer": "[0,1]"},
]
LONG = [
    {
        "id": name,
        "subset": "0-4k",
        "dataset": name,
        "context": f"CONTEXT of {name} <with> 'signs'\nand lines",
        "question": "" if name in ("gov_report", "multi_news", "passage_count", "lcc") else f"QUESTION of {name}",
        "answers": ["one <1>", 'the "other"'],
        "classes": ["x", "y"] if name == "trec" else None,
        "metric": about.metric,
        "first_line": about.first_line,
        "length": 1,
        "bucket": "0-4k",
    }
    for name, about in SETS.items()
]
GAP = [{"id": "a", "subset": "s", "entity": "mira", "attribute": "colour", "question": "mira"}]
GAP = [row | {"answer": "red", "choices": ["red", "blue"], "gold": 0} for row in GAP]


def questions_of(name: str) -> list[dict[str, Any]]:
    if name.startswith("knowledge_gap"):
        return GAP
    scoring = resolve(task_path(TASKS, name), TASKS)["metadata"]["scoring"]
    return {"math": FREE, "longbench": LONG}.get(scoring, CHOICE)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny questions of every task, by task."""
    folder = tmp_path_factory.mktemp("questions")
    files = {}
    for name in NAMES:
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in questions_of(name)))
    return files


@pytest.fixture(scope="module")
def ours(prepared: dict[str, Path]) -> dict[str, Any]:
    """All tasks as c2c loads them, with their requests."""
    tasks = load_tasks(TASKS, prepared)["tasks"]
    for task in tasks.values():
        task.build_all_requests()
    return tasks


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All tasks as lm-eval finds them by name, with their requests; their questions lie where the task files say."""
    folder = tmp_path_factory.mktemp("root")
    for name in NAMES:
        path = folder / resolve(task_path(TASKS, name), TASKS)["dataset_kwargs"]["data_files"]["test"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in questions_of(name)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found: dict[str, Any] = TaskManager(include_path=str(TASKS), include_defaults=False).load(NAMES)["tasks"]
        for task in found.values():
            task.build_all_requests()
    return found


def test_lm_eval_finds_every_task_by_its_name() -> None:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    assert set(NAMES) <= set(manager.all_tasks)
    assert len(set(NAMES)) == len(NAMES)
    assert not [name for name in manager.all_tasks if name not in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_lm_eval_and_this_project_ask_the_same(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert [each.args for each in ours[name].instances] == [each.args for each in theirs[name].instances]
    assert ours[name].OUTPUT_TYPE == theirs[name].OUTPUT_TYPE


@pytest.mark.parametrize("name", OWN)
def test_the_prompt_holds_the_question_as_it_is_and_ends_without_a_blank(name: str, ours: dict[str, Any]) -> None:
    for request in ours[name].instances:
        prompt = request.args[0]
        assert request.doc["question"] in prompt
        assert request.doc.get("context", "") in prompt
        assert prompt == prompt.rstrip()


@pytest.mark.parametrize("name", [name for name in REAL if name.endswith(("_letter", "_logits"))])
def test_where_letters_are_asked_every_option_is_shown_with_its_letter(name: str, ours: dict[str, Any]) -> None:
    for request in ours[name].instances:
        for letter, option in zip("ABCDEFGHIJ", request.doc["options"], strict=False):
            assert f"\n{letter}) {option}\n" in request.args[0]
        assert request.args[0].endswith("\nAnswer:")


@pytest.mark.parametrize("name", [name for name in REAL if name.endswith("_text")])
def test_where_texts_are_weighed_the_prompt_shows_no_option(name: str, ours: dict[str, Any]) -> None:
    for request in ours[name].instances:
        assert not any(option in request.args[0] for option in request.doc["options"])
    weighed = [request.args[1] for request in ours[name].instances if request.doc["id"] == "a"]
    assert weighed == [f" {option}" for option in CHOICE[0]["options"]]


@pytest.mark.parametrize("name", [name for name in REAL if name.endswith("_logits")])
def test_where_logits_are_weighed_there_is_one_letter_an_option(name: str, ours: dict[str, Any]) -> None:
    by_question = [
        [request.args[1] for request in ours[name].instances if request.doc["id"] == row["id"]] for row in CHOICE
    ]
    assert by_question == [[" A", " B", " C", " D"], [f" {letter}" for letter in "ABCDEFGHIJ"]]


GOLD = {"letter": ["C", "J"], "logits": ["C", "J"], "text": ["[OPTC]", "OPTJ"], "math": ["18", "[0, 1)", "[0,1]"]}


@pytest.mark.parametrize("name", [name for name in REAL if not name.startswith(("longbench", "gap_"))])
def test_the_gold_answer_is_what_the_scoring_compares(name: str, ours: dict[str, Any]) -> None:
    asked = {request.doc["id"]: question_of_request(ours[name], request).gold for request in ours[name].instances}
    assert list(asked.values()) == GOLD[ours[name].config.metadata["scoring"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_sharer_of_t2t_reads_the_question_without_options(name: str, prepared: dict[str, Path]) -> None:
    metadata = read_task_file(TASKS, name)["metadata"]
    for row in questions_of(name):
        asked = TEMPLATES.from_string(metadata["t2t_question"]).render(row)
        assert (row["entity"] if "entity" in row else row["question"]) in asked
        assert not any(option in asked for option in row.get("options", []))
        told = TEMPLATES.from_string(metadata["t2t_prompt"]).render({**row, "message": "MESSAGE", "prompt": "PROMPT"})
        assert "MESSAGE" in told and told.endswith("PROMPT")


@pytest.mark.parametrize("name", [name for name in OWN if not name.startswith("gap_")])
def test_the_sharer_of_t2t_is_told_not_to_answer_in_one_wording(name: str) -> None:
    shared = resolve(TASKS / SHARED / "t2t.yaml", TASKS)["metadata"]
    metadata = read_task_file(TASKS, name)["metadata"]
    assert {key: metadata[key] for key in shared} == shared
    assert "Do not answer the question" in shared["t2t_question"]


def test_the_sharer_of_t2t_reads_what_is_private_to_it() -> None:
    wording = resolve(TASKS / SHARED / "t2t.yaml", TASKS)["metadata"]["t2t_question"]
    assert "SECRET" in TEMPLATES.from_string(wording).render({"question": "Q?", "private": "SECRET"})
    without, empty = {"question": "Q?"}, {"question": "Q?", "private": None}
    assert TEMPLATES.from_string(wording).render(empty) == TEMPLATES.from_string(wording).render(without)


def test_longbench_gives_its_scorer_metric_answers_and_classes(ours: dict[str, Any]) -> None:
    for request in ours["longbench"].instances:
        gold = json.loads(question_of_request(ours["longbench"], request).gold)
        assert gold == {key: request.doc[key] for key in ("metric", "answers", "classes", "first_line")}


def test_each_set_of_longbench_has_instructions_and_an_answer_length_of_its_own(ours: dict[str, Any]) -> None:
    lengths = ours["longbench"].config.metadata["answer_tokens"]
    assert set(lengths) == set(SETS)
    asked = [question_of_request(ours["longbench"], request) for request in ours["longbench"].instances]
    assert {each.doc["dataset"]: each.max_new_tokens for each in asked} == lengths
    assert {"qasper": 128, "hotpotqa": 32, "gov_report": 512}.items() <= lengths.items()
    words = {each.prompt.replace(each.doc["context"], "").replace(each.doc["question"], "") for each in asked}
    assert len(words) >= 10


def test_the_models_of_lm_eval_have_room_for_the_longest_answer_of_a_task(ours: dict[str, Any]) -> None:
    limit = ours["longbench"].config.generation_kwargs["max_gen_toks"]
    assert limit == max(ours["longbench"].config.metadata["answer_tokens"].values())


def test_every_scoring_of_a_benchmark_has_its_task_file_and_every_task_file_is_of_one() -> None:
    listed = DATA.benchmark_of
    assert {path.stem: path.parent.name for path in FILES} == listed
    for task, benchmark in listed.items():
        scoring = read_task_file(TASKS, task)["metadata"]["scoring"]
        one = len(BENCHMARKS[benchmark]["scorings"]) == 1
        own = task.removesuffix(ORACLE_TASK).removesuffix(RELEASED_TASK)
        assert own == (benchmark if one else f"{benchmark}_{scoring}")
        assert DATA.scoring_of(task) == scoring


def test_a_wording_stands_in_one_file() -> None:
    for words in ("Choose the option", "step by step", "Do not answer the question"):
        files = [path for path in sorted(TASKS.rglob("*.yaml")) if "released" not in path.name]
        holders = [path.name for path in files if words in path.read_text()]
        assert len(holders) == 1, (words, holders)


@pytest.mark.parametrize("name", REAL)
def test_a_task_file_itself_names_no_more_than_its_data_and_what_it_includes(name: str) -> None:
    files = [path.name for path in included_files(task_path(TASKS, name), TASKS)]
    t2t = {"released_t2t.yaml"} if name.endswith(RELEASED_TASK) else {"t2t.yaml"}
    assert {"questions.yaml", *t2t} <= set(files)


def test_the_readme_has_a_line_for_every_benchmark() -> None:
    text = (TASKS / "README.md").read_text()
    assert not [path.parent.name for path in FILES if f"| `{path.parent.name}` |" not in text]
