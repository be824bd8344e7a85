"""Task files and question files from outside: refused before anything is asked, or asked as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.prompts import PromptFormat
from c2c.evaluation.questions import generation_settings as settings
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.task_files import read_task_file, resolve, task_files
from c2c.evaluation.questions.tasks import gold_of, load_tasks, questions_of
from c2c.evaluation.questions.templates import TEMPLATES
from c2c.generation import decoding
from tests.bad_inputs.refusals import refused

TASK: dict[str, Any] = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {
        "version": 1,
        "scoring": "exact",
        "t2t_question": "{{question}}",
        "t2t_prompt": "{{message}} {{prompt}}",
    },
}
CODE = "{{ cycler.__init__.__globals__.os.system('touch ran') }}"
ROW = {"id": "1", "question": "what is 1?", "answer": "red"}


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return write_task(tmp_path, {})


def write_task(folder: Path, change: dict[str, Any], text: str | bytes = "") -> Path:
    path = folder / "tasks" / "bench" / "bench.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text or yaml.safe_dump(TASK | change)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / "tasks"


def load(tasks: Path, lines: list[Any]) -> Any:
    path = tasks.parent / "bench.jsonl"
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return load_tasks(tasks, {"bench": path})["tasks"]["bench"]


def test_a_good_task_is_asked(tasks: Path) -> None:  # G0
    task = load(tasks, [ROW, ROW | {"id": "2"}])
    assert [question.prompt for question in questions_of(task)] == ["what is 1?", "what is 1?"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"doc_to_text": CODE}, id="G1 code in doc_to_text"),
        pytest.param({"doc_to_target": CODE}, id="G1 code in doc_to_target"),
        pytest.param({"metadata": TASK["metadata"] | {"t2t_question": CODE}}, id="G2 code in t2t_question"),
    ],
)
def test_a_template_runs_no_code(change: dict[str, Any], tasks: Path, tmp_path: Path) -> None:
    write_task(tmp_path, change)
    with refused("bench"):
        load(tasks, [ROW])
    assert not (tmp_path / "ran").exists()


def test_prompts_of_a_training_set_run_no_code(tasks: Path, tmp_path: Path) -> None:  # G2b
    with refused("letter"):
        PromptFormat("letter", {"doc_to_text": CODE}).example({"id": "1", "answer": "A"})
    assert not (tmp_path / "ran").exists()


def test_a_message_in_a_prompt_of_text_to_text_runs_no_code(tasks: Path, tmp_path: Path) -> None:
    question = questions_of(load(tasks, [ROW]))[0]
    question.t2t_prompt = CODE
    with refused("t2t_prompt"):
        prompting.question_with_message(question, "a message")
    assert TEMPLATES.sandboxed and not (tmp_path / "ran").exists()


def test_a_question_that_looks_like_a_template_is_text(tasks: Path, tmp_path: Path) -> None:  # G4
    question = questions_of(load(tasks, [ROW | {"question": CODE, "answer": "{{7*7}}"}]))[0]
    assert (question.prompt, question.gold) == (CODE, "{{7*7}}")
    assert prompting.message_request(question) == CODE and not (tmp_path / "ran").exists()


TEXTS = {
    "G3 a function": "doc_to_text: !function evil.run\n",
    "G3 a Python object": "doc_to_text: !!python/object/apply:os.system ['touch ran']\n",
    "G5 an absolute include": "include: /etc/passwd\n",
    "G6 an include outside": "include: ../../outside.yaml\n",
    "G6 an include by a link": "include: link.yaml\n",
    "G7 an include that is a number": "include: 5\n",
    "G7 an include of a number": "include: [5]\n",
    "G8 broken YAML": "a: [1\n",
    "G9 not UTF-8": b"a: \xff\n",
    "G9 a byte order mark": b"\xef\xbb\xbfa: 1\n",
    "G10 metadata that are a list": "metadata: [1]\n",
    "a list": "- 1\n",
    "a key twice": "doc_to_text: a\ndoc_to_target: b\ndoc_to_text: c\n",
    "a key twice below another": "metadata:\n  scoring: exact\n  version: 1\n  scoring: letter\n",
    "empty": "# nothing\n",
    "aliases that grow": "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
    "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
    "e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_task_file_that_is_none_or_leaves_its_folder_is_refused(name: str, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("doc_to_text: outside\n", encoding="utf-8")
    write_task(tmp_path, {}, TEXTS[name])
    (tasks / "bench" / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (tasks / "bench" / "link.yaml").rename(tasks / "link.yaml") if "../" in str(TEXTS[name]) else None
    for read in (lambda: read_task_file(tasks, "bench"), lambda: resolve(tasks / "bench/bench.yaml", tasks)):
        with refused():
            read()
    if "include" in str(TEXTS[name]):
        with refused("include"):
            task_files(tasks, {"bench": Path("bench.jsonl")})
    assert not (tmp_path / "ran").exists()


def put(**settings: Any) -> dict[str, Any]:
    return {"generation_kwargs": TASK["generation_kwargs"] | settings}


def put_metadata(**entries: Any) -> dict[str, Any]:
    return {"metadata": TASK["metadata"] | entries}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param(put(until=[""]), "until", id="G11 an empty stop string"),
        pytest.param(put(until=5), "until", id="G12 stops that are a number"),
        pytest.param(put(until=["a", 5]), "until", id="G12 a stop that is a number"),
        pytest.param(put(max_gen_toks=-3), "Lengths", id="G13 a negative length"),
        pytest.param(put(max_gen_toks="4"), "Lengths", id="G13 a length in words"),
        pytest.param(put(max_gen_toks=10**30), "Lengths", id="G13 a length beyond memory"),
        pytest.param(put(untill=["\n"]), "Did you mean 'until'", id="a setting with a slip"),
        pytest.param(put(max_new_tokens=4), "Did you mean 'max_gen_toks'", id="a limit by another name"),
        pytest.param(put(colour="red"), "A generation setting", id="an unknown setting"),
        pytest.param(put(do_sample=True, temperature=1.0), "do_sample", id="samples"),
        pytest.param(put(do_sample="false"), "do_sample", id="a word for false"),
        pytest.param(put(temperature=0.7), "temperature", id="a temperature alone, by which lm-eval samples"),
        pytest.param(put(repetition_penalty=1.2), "repetition_penalty", id="a penalty"),
        pytest.param(put(num_beams=4), "num_beams", id="beams"),
        pytest.param({"task": "notbench"}, "task of bench.yaml must be the file's name", id="another task's name"),
        pytest.param({"generation_kwargs": [1]}, "generation_kwargs", id="settings that are a list"),
        pytest.param(put_metadata(scoring="guess"), "scoring", id="an unknown scoring"),
        pytest.param(put_metadata(scoring=["exact"]), "text", id="a scoring that is a list"),
        pytest.param(put_metadata(t2t_question=7), "t2t_question", id="G10 a wording that is a number"),
        pytest.param(put_metadata(answer_tokens=[4]), "answer_tokens", id="lengths that are a list"),
        pytest.param(put_metadata(answer_tokens={"a": 0}), "Lengths", id="a length of zero"),
        pytest.param({"output_type": "telepathy"}, "output_type", id="an unknown output type"),
        pytest.param({"dataset_path": "owner/data"}, "dataset_path", id="S7 data from elsewhere"),
        pytest.param({"metric_list": [{"metric": "owner/code"}]}, "metric_list", id="S7 a metric that is code"),
        pytest.param(
            {"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "metric_list", id="S7 a metric of the hub"
        ),
        pytest.param({"metric_list": [5]}, "metric_list", id="a metric that is a number"),
        pytest.param({"colour": "red"}, "lm-eval", id="an unknown key"),
        pytest.param({"doc_to_text": "{{question"}, "fit", id="a broken template"),
        pytest.param({"doc_to_text": "{{nothing}}"}, "fit", id="a column that there is not"),
        pytest.param({"doc_to_target": "{{answer.__class__}}"}, "fit", id="S7 an attribute of Python"),
    ],
)
def test_a_task_file_that_cannot_be_asked_is_refused(
    change: dict[str, Any], word: str, tasks: Path, tmp_path: Path
) -> None:
    write_task(tmp_path, change)
    with refused(word):
        load(tasks, [ROW])


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"do_sample": False}, id="no samples"),
        pytest.param({"temperature": 0}, id="a temperature of 0"),
        pytest.param({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, id="what shapes samples, and none"),
        pytest.param({"repetition_penalty": 1.0, "num_beams": 1, "use_cache": True}, id="values without effect"),
        pytest.param({"until": "\n"}, id="one stop"),
    ],
)
def test_settings_that_change_nothing_in_greedy_text_may_stay(
    settings: dict[str, Any], tasks: Path, tmp_path: Path
) -> None:
    write_task(tmp_path, put(**settings))
    (question,) = questions_of(load(tasks, [ROW]))
    assert (question.stops, question.max_new_tokens) == (("\n",), 4)


def test_all_settings_of_generation_are_known_to_task_files() -> None:
    assert settings.SAMPLING == decoding.SAMPLING
    assert set(settings.PENALTIES) == {*decoding.PENALTIES, "no_repeat_ngram_size"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key != name}


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        pytest.param([ROW, b'{"id": "2", '], "Line 2", id="G14 a broken line"),
        pytest.param([], "must hold a question", id="G15 an empty file"),
        pytest.param([b""], "must hold a question", id="G15 a blank file"),
        pytest.param([without("id")], "Line 1", id="G16 no id"),
        pytest.param([ROW, without("id")], "Line 2", id="G16b no id later"),
        pytest.param([ROW, ROW], "Line 2", id="G17 an id twice"),
        pytest.param([ROW | {"id": 1}, ROW | {"id": "1"}], "Line 2", id="G17 an id twice, as a number"),
        pytest.param([ROW | {"id": None}], "Line 1", id="an id that is null"),
        pytest.param([ROW | {"id": ""}], "an id", id="an id that is empty"),
        pytest.param([ROW | {"id": True}], "an id", id="an id that is true"),
        pytest.param([ROW | {"id": ["1"]}], "an id", id="an id that is a list"),
        pytest.param([ROW | {"question": None}], "question", id="G18 a question that is null"),
        pytest.param([ROW | {"answer": None}], "answer", id="G18 a gold answer that is null"),
        pytest.param([ROW, without("question") | {"id": "2"}], "question", id="G18 a question that is missing"),
        pytest.param(
            [without("question"), ROW | {"id": "2"}], "question", id="G18 a question that is missing at first"
        ),
        pytest.param([ROW | {"answer": 10**400}], "2^63", id="G20 a number of 401 digits"),
        pytest.param([b'{"id": "1", "question": "q", "answer": 1e999}'], "finite", id="G20 an infinite number"),
        pytest.param([b'{"id": "1", "question": "q", "answer": NaN}'], "finite", id="G20 no number"),
        pytest.param([b'{"id": "1", "question": "q", "answer": ' + b"9" * 5000 + b"}"], "JSON", id="G20 5,000 digits"),
        pytest.param([ROW, ROW | {"id": "2", "answer": 7}], "as the lines above", id="an answer of another kind"),
        pytest.param([ROW | {"answer": ""}], "gold answer", id="a gold answer that is empty"),
        pytest.param([b'{"id": "1", "question": "q", "answer": "a", "id": "2"}'], "Line 1", id="a key twice"),
        pytest.param([[1]], "object", id="a line that is a list"),
        pytest.param([b"\xff\xfe"], "UTF-8", id="a file that is not UTF-8"),
        pytest.param([b"\x1f\x8b\x08\x00"], "UTF-8", id="a compressed file"),
        pytest.param([b"[" * 100_000], "JSON", id="a line that is nested too deeply"),
        pytest.param([b'{"id": "1", "question": "\\ud800", "answer": "a"}'], "UTF-8", id="half of a surrogate pair"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused_before_the_run(lines: list[Any], word: str, tasks: Path) -> None:
    with refused(word):
        load(tasks, lines)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"options": ["a", ""], "answer": "A"}, id="an empty option"),
        pytest.param({"options": [], "answer": "A"}, id="no option"),
        pytest.param({"options": ["a", "b"], "answer": "Z"}, id="a key that names no option"),
        pytest.param({"options": ["a", "b"], "answer": "C"}, id="a key behind the options"),
        pytest.param({"options": None, "answer": "A"}, id="options that are null"),
    ],
)
def test_options_that_cannot_be_weighed_are_refused(change: dict[str, Any], tasks: Path, tmp_path: Path) -> None:
    choice = {"doc_to_choice": "options", "doc_to_target": "{{'ABCDEFGHIJ'.index(answer)}}", "metric_list": []}
    metadata = put_metadata(scoring="text")
    write_task(tmp_path, {"output_type": "multiple_choice", **choice, **metadata})
    good = load(tasks, [{"id": "1", "question": "q", "options": ["a", "b"], "answer": "B"}])
    assert gold_of(good, good.test_docs()[0]) == "b"
    with refused():
        load(tasks, [{"id": "1", "question": "q", **change}])


def test_a_line_that_holds_a_line_separator_and_a_column_that_may_be_null_are_asked(tasks: Path) -> None:
    lines = [ROW | {"question": "one\u2028two", "private": None}, ROW | {"id": "2", "private": "x"}]
    assert [question.prompt for question in questions_of(load(tasks, lines))] == ["one\u2028two", "what is 1?"]
