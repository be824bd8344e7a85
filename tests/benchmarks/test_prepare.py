from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import prepare
from benchmarks.overlap import fold, texts_of
from benchmarks.prompts import PromptFormat
from benchmarks.rows import RowCounts, read_rows
from benchmarks.sources import Source
from benchmarks.training_sets import TrainingSet, hold_out, prepare_training_set
from c2c.errors import RefusedError

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "benchmarks" / "tasks"
Row = dict[str, Any]


def question(number: int, stem: str = "Ice is") -> Row:
    options = {"text": ["hot", "cold", "loud", "sweet"], "label": ["A", "B", "C", "D"]}
    return {"id": f"q{number}", "question_stem": f"{stem} {number}", "choices": options, "answerKey": "B"}


def chats(*asked: str) -> list[Row]:
    return [{"conversations": [{"from": "human", "value": a}, {"from": "gpt", "value": "Yes."}]} for a in asked]


def write_set(mirror: Path, name: str, splits: dict[str, list[Row]]) -> None:
    folder = mirror / name
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with a small OpenBookQA: 40 questions to train on and 6 to test, one of each the same."""
    splits = {
        "train": [question(number) for number in range(40)] + [question(99, "ICE   is")],
        "test": [question(number) for number in [*range(100, 105), 99]],
    }
    write_set(tmp_path / "mirror", "allenai/openbookqa", splits)
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "mirror"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
    return prepare.main()


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def provenance(path: Path) -> Row:
    return json.loads(Path(f"{path}.provenance.json").read_text())


def source(split: str, limit: int | None = None) -> Source:
    return Source("openbookqa", "allenai/openbookqa", "main", split, "main", limit)


@pytest.fixture
def tested(mirror: Path, tmp_path: Path) -> Path:
    """The prepared benchmark."""
    path = tmp_path / "openbookqa.jsonl"
    prepare.prepare_benchmark(source("test"), path)
    return path


def test_questions_are_normalised_in_the_data_sets_order(tested: Path) -> None:
    assert [row["id"] for row in lines(tested)] == ["q100", "q101", "q102", "q103", "q104", "q99"]
    options = ["hot", "cold", "loud", "sweet"]
    assert lines(tested)[0] == {
        "id": "q100",
        "subset": "",
        "question": "Ice is 100",
        "options": options,
        "answer": "B",
    }


def test_provenance_records_revision_source_and_what_became_of_every_row(tested: Path) -> None:
    record = provenance(tested)
    about = {"id": "allenai/openbookqa", "revision": "main", "split": "test", "subset": "main"}
    assert record["data"] == {**about, "source": "mirror"}
    assert (record["rows"], record["kept"], record["questions"], record["left_out"]) == (6, 6, 6, {})
    assert record["waterfall"] == [{"outcome": "kept", "rows": 6}]


def test_the_waterfall_is_printed_and_noted_by_group_outcome_and_reason(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [("ok", None), ("ok", None), ("wrong_groundtruth", "2"), ("wrong_groundtruth", None), ("expert", None)]
    rows = [
        {"question": f"Q{n}", "choices": ["a", "b", "c", "d"], "answer": 0, "error_type": kind, "correct_answer": right}
        for n, (kind, right) in enumerate(kinds)
    ]
    write_set(mirror, "edinburgh-dawg/mmlu-redux-2.0", {"test": rows})
    output = tmp_path / "mmlu_redux.jsonl"
    where = ("mmlu_redux", "edinburgh-dawg/mmlu-redux-2.0", "main", "test", "*")
    prepare.prepare_benchmark(Source(*where), output)
    expert = "only an expert could tell which option is right"
    wrong = "the key is wrong and no right one is named"
    assert provenance(output)["waterfall"] == [
        {"group": "expert", "outcome": "left out", "why": expert, "rows": 1},
        {"group": "ok", "outcome": "kept", "rows": 2},
        {"group": "wrong_groundtruth", "outcome": "corrected", "rows": 1},
        {"group": "wrong_groundtruth", "outcome": "left out", "why": wrong, "rows": 1},
    ]
    printed = capsys.readouterr().out
    assert "mmlu_redux, protocol corrected: 5 rows, 3 kept, 2 left out" in printed
    assert f"1  wrong_groundtruth: left out, since {wrong}" in printed
    assert [row["answer"] for row in lines(output)] == ["A", "A", "C"]
    prepare.prepare_benchmark(Source(*where), output, protocol="paper")
    assert provenance(output)["kept"] == 4


def test_a_sample_is_the_questions_with_the_lowest_hash_in_the_files_order() -> None:
    rows = [{"id": f"q{n}"} for n in range(50)]
    chosen = prepare.sample(rows, "arc_easy", 10)
    ranked = sorted(rows, key=lambda row: hashlib.sha256(f"arc_easy/{row['id']}".encode()).hexdigest())
    assert chosen == [row for row in rows if row in ranked[:10]]
    assert prepare.sample(rows[::-1], "arc_easy", 10) == chosen[::-1]
    assert prepare.sample(rows, "openbookqa", 10) != chosen


@pytest.mark.parametrize("count", [0, 50, 80])
def test_a_sample_of_nothing_or_more_than_there_is_takes_all(count: int) -> None:
    rows = [{"id": f"q{n}"} for n in range(50)]
    assert prepare.sample(rows, "arc_easy", count) == rows


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    rows = [{"id": f"q{n}"} for n in range(50)]
    small, large = (prepare.sample(rows, "x", count) for count in (5, 20))
    assert all(row in large for row in small)


def test_the_sample_is_noted_in_provenance(mirror: Path, tmp_path: Path) -> None:
    output = tmp_path / "openbookqa.jsonl"
    prepare.prepare_benchmark(source("test"), output, count=2)
    assert len(lines(output)) == 2
    record = provenance(output)
    assert (record["settings"]["sample"], record["questions"], record["kept"]) == (2, 2, 6)


def test_a_question_that_stands_there_twice_is_asked_once_unless_the_papers_protocol_is_on(
    mirror: Path, tmp_path: Path
) -> None:
    write_set(mirror, "owner/twice", {"test": [question(1), {**question(1), "id": "other"}, question(2)]})
    where = Source("openbookqa", "owner/twice", "main", "test", "main")
    output = tmp_path / "twice.jsonl"
    prepare.prepare_benchmark(where, output)
    assert [row["id"] for row in lines(output)] == ["q1", "q2"]
    assert provenance(output)["left_out"] == {"it repeats an earlier row": 1}
    prepare.prepare_benchmark(where, output, protocol="paper")
    assert [row["id"] for row in lines(output)] == ["q1", "other", "q2"]


def test_the_same_words_with_other_signs_or_options_are_no_repetition(mirror: Path) -> None:
    others = {"text": ["red", "blue"], "label": ["A", "B"]}
    rows = [question(1, "~P & Q"), {**question(1, "P & Q"), "id": "b"}, {**question(1, "P & Q"), "id": "c"}]
    rows[2]["choices"] = others
    write_set(mirror, "owner/signs", {"test": rows})
    found = read_rows(Source("openbookqa", "owner/signs", "main", "test", "main"), "corrected", RowCounts())
    assert [row["id"] for row in found] == ["q1", "b", "c"]


def test_two_questions_with_one_id_are_refused(mirror: Path, tmp_path: Path) -> None:
    write_set(mirror, "owner/same", {"test": [question(1), question(1, "Snow is")]})
    with pytest.raises(RefusedError, match="must have different ids; received 'q1'"):
        prepare.prepare_benchmark(Source("openbookqa", "owner/same", "main", "test", "main"), tmp_path / "x.jsonl")


@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_the_papers_protocol_asks_ceval_on_its_test_split_where_that_has_keys(
    mirror: Path, tmp_path: Path, protocol: str
) -> None:
    row = {"id": 0, "question": "问题", "A": "1", "B": "2", "C": "3", "D": "4"}
    write_set(mirror, "ceval/ceval-exam", {"val": [row | {"answer": "A"}], "test": [row | {"answer": "B"}]})
    where = Source("ceval", "ceval/ceval-exam", "main", "val", "main")
    prepare.prepare_benchmark(where, tmp_path / "ceval.jsonl", protocol=protocol)
    assert [(line["id"], line["answer"]) for line in lines(tmp_path / "ceval.jsonl")] == [("main-0", "B")]


@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_where_the_keys_of_ceval_s_test_split_are_withheld_its_validation_split_is_asked_and_the_ids_say_so(
    mirror: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": 0, "question": "问题", "A": "1", "B": "2", "C": "3", "D": "4"}
    write_set(mirror, "ceval/ceval-exam", {"val": [row | {"answer": "A"}], "test": [row | {"answer": ""}]})
    where = Source("ceval", "ceval/ceval-exam", "main", "val", "main")
    prepare.prepare_benchmark(where, tmp_path / "ceval.jsonl")
    assert [line["id"] for line in lines(tmp_path / "ceval.jsonl")] == ["main-0"]
    prepare.prepare_benchmark(where, tmp_path / "ceval.jsonl", protocol=protocol)
    assert [line["id"] for line in lines(tmp_path / "ceval.jsonl")] == ["val-main-0"]
    assert "The keys of split test are withheld: ceval/ceval-exam is asked on its split val" in capsys.readouterr().out


def test_contexts_that_are_too_long_are_cut_and_counted(mirror: Path, tmp_path: Path) -> None:
    rows = [
        {"_id": name, "input": "Who?", "context": "x" * size, "answers": ["Ann"], "length": 1, "all_classes": None}
        for name, size in (("id2", 100), ("id3", 5000), ("id1", 5000))
    ]
    write_set(mirror, "owner/long", {"test": rows})
    readme = mirror / "owner" / "long" / "README.md"
    readme.write_text(readme.read_text().replace("main", "qasper_e"))
    output = tmp_path / "longbench.jsonl"
    prepare.prepare_benchmark(Source("longbench", "owner/long", "main", "test", "*_e"), output, context_limit=1000)
    assert [len(row["context"]) for row in lines(output)] == [100, 1000]
    assert provenance(output)["contexts_cut"] == 1


def test_what_longbench_does_not_ask_is_trained_on_in_its_own_words(mirror: Path, tmp_path: Path) -> None:
    names = [f"id{n}" for n in range(8)]
    rows = [
        {"_id": name, "input": f"Who is {name}?", "context": f"Text of {name}.", "answers": [f"Ann {name}", "B"],
         "length": 1, "all_classes": None}
        for name in names
    ]  # fmt: skip
    write_set(mirror, "owner/long", {"test": rows})
    readme = mirror / "owner" / "long" / "README.md"
    readme.write_text(readme.read_text().replace("main", "qasper_e"))
    asked = tmp_path / "longbench.jsonl"
    prepare.prepare_benchmark(Source("longbench", "owner/long", "main", "test", "*_e"), asked)
    part = Source("longbench_training", "owner/long", "main", "test", "*_e")
    kept, held_out, _ = training(mirror, tmp_path, TrainingSet((part,), 2, "longbench", TASKS, (asked,)))
    examples = [*kept, *held_out]
    assert [row["id"] for row in lines(asked)] == ["qasper-id2", "qasper-id3"]
    assert sorted(row["id"][-3:] for row in examples) == sorted(set(names) - {"id2", "id3"})
    first = next(row for row in examples if row["id"].endswith("id0"))
    assert (first["response"], first["opening"]) == ("Ann id0", "Answer:")
    assert "Text of id0." in first["prompt"] and first["prompt"].endswith("Question: Who is id0?\nAnswer:")


def training(mirror: Path, tmp_path: Path, wanted: TrainingSet) -> tuple[list[Row], list[Row], Row]:
    train, validation = tmp_path / "t" / "train.jsonl", tmp_path / "t" / "validation.jsonl"
    prepare_training_set(wanted, train, validation)
    return lines(train), lines(validation), provenance(train)


@pytest.mark.parametrize(("asked_as", "response"), [("letter", "B"), ("text", "cold")])
def test_a_training_set_asks_and_answers_as_the_task_of_its_scoring_does(
    mirror: Path, tmp_path: Path, asked_as: str, response: str
) -> None:
    from c2c.evaluation.questions.tasks import load_tasks

    kept, held_out, _ = training(mirror, tmp_path, TrainingSet((source("train"),), 8, asked_as, TASKS))
    assert (len(held_out), len(kept)) == (8, 33)
    first = next(row for row in [*kept, *held_out] if row["id"].endswith("/q0"))
    prepared = tmp_path / "trained_on.jsonl"
    prepare.prepare_benchmark(source("train", limit=1), prepared)
    task = load_tasks(TASKS, {f"openbookqa_{asked_as}": prepared})["tasks"][f"openbookqa_{asked_as}"]
    task.build_all_requests()
    assert first["prompt"] == task.instances[0].args[0]
    assert first["response"] == response
    assert first["prompt"].endswith(first["opening"])


def test_training_questions_that_a_benchmark_asks_are_dropped_and_counted(
    mirror: Path, tmp_path: Path, tested: Path
) -> None:
    wanted = TrainingSet((source("train"),), 8, "text", TASKS, (tested,))
    kept, held_out, record = training(mirror, tmp_path, wanted)
    assert len(kept) + len(held_out) == 40
    assert not any("ICE" in row["prompt"] for row in [*kept, *held_out])
    assert record["left_out"] == {"a benchmark asks it": 1}
    assert str(tested.name) in json.dumps(record["inputs"])


def test_conversations_in_which_a_benchmarks_question_is_asked_are_dropped(
    mirror: Path, tmp_path: Path, tested: Path
) -> None:
    asked = ["Is ice cold?", "Choose well.\nIce is 101:\nA) hot", "ice is 102", "Ice is 1020"]
    write_set(mirror, "owner/chats", {"train": chats(*asked)})
    where = Source("chat", "owner/chats", "main", "train", "main")
    kept, held_out, record = training(mirror, tmp_path, TrainingSet((where,), 1, without=(tested,)))
    left = {row["messages"][0]["content"] for row in [*kept, *held_out]}
    assert left == {"Is ice cold?", "Ice is 1020"}
    assert record["left_out"] == {"a benchmark asks it": 2}


def test_a_mix_takes_all_its_sources_and_gives_their_rows_different_ids(mirror: Path, tmp_path: Path) -> None:
    write_set(mirror, "owner/more", {"train": [question(0, "Snow is"), question(1, "Snow is")]})
    more = Source("openbookqa", "owner/more", "main", "train", "main")
    kept, held_out, record = training(mirror, tmp_path, TrainingSet((source("train"), more), 8, "letter", TASKS))
    ids = [row["id"] for row in [*kept, *held_out]]
    assert len(set(ids)) == len(ids) == 43
    assert {"allenai/openbookqa/main/q0", "owner/more/main/q0"} <= set(ids)
    assert [each["id"] for each in record["data"]] == ["allenai/openbookqa", "owner/more"]


def test_openhermes_is_taken_from_its_first_rows_and_keeps_its_turns_as_messages(mirror: Path, tmp_path: Path) -> None:
    turns = [("system", "Be kind."), ("human", " Hi "), ("gpt", "Hello. ")]
    good = {"conversations": [{"from": who, "value": text} for who, text in turns], "source": "airoboros"}
    bad = {"conversations": [{"from": "human", "value": "Hi"}], "source": "airoboros"}
    late = chats("Too late")[0] | {"source": "x"}
    rows = [good, bad, {"conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]}, late]
    write_set(mirror, "teknium/OpenHermes-2.5", {"train": [row | {"source": "y"} for row in rows]})
    where = Source("chat", "teknium/OpenHermes-2.5", "main", "train", "main", limit=3)
    kept, held_out, record = training(mirror, tmp_path, TrainingSet((where,), 1))
    messages = [row["messages"] for row in [*kept, *held_out]]
    assert [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello. "}] in messages
    assert len(messages) == 2
    assert record["left_out"] == {"the last turn is not an assistant's": 1}


def test_gsm8k_is_learned_step_by_step_with_the_answer_in_the_last_line() -> None:
    row = {"id": "0", "question": "2 + 2?", "answer": "4", "solution": "2 and 2 are 4."}
    example = PromptFormat.load(TASKS, "math").example(row)
    assert example["response"] == "2 and 2 are 4.\nAnswer: 4"
    assert example["prompt"].endswith("Problem: 2 + 2?\nSolution:")


def test_questions_that_lack_what_a_prompt_names_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"asked as letter must be a template.*They have: id, question"):
        PromptFormat.load(TASKS, "letter").example({"id": "0", "question": "Q?"})


@pytest.mark.parametrize(("reader", "asked_as"), [("chat", "letter"), ("arc", "")])
def test_a_training_set_of_questions_says_how_they_are_asked_and_one_of_conversations_does_not(
    reader: str, asked_as: str
) -> None:
    with pytest.raises(RefusedError, match="made of questions, with asked_as, or of conversations, without"):
        TrainingSet((Source(reader, "a/b", "main", "train"),), 1, asked_as)


def test_what_is_held_out_depends_on_the_rows_alone() -> None:
    rows = [{"id": str(n), "prompt": f"p{n}", "response": "r"} for n in range(50)]
    _, held_out = hold_out(rows, 10)
    _, reversed_held_out = hold_out(rows[::-1], 10)
    assert sorted(row["id"] for row in held_out) == sorted(row["id"] for row in reversed_held_out)
    assert len(held_out) == 10


@pytest.mark.parametrize("kind", ["prompt", "messages"])
def test_rows_that_ask_the_same_stay_on_one_side(kind: str) -> None:
    def row(number: int) -> Row:
        asked = f"p{number // 2}"
        if kind == "prompt":
            return {"id": str(number), "prompt": asked, "response": str(number)}
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": str(number)}]
        return {"id": str(number), "messages": turns}

    kept, held_out = hold_out([row(number) for number in range(20)], 7)
    assert {int(row["id"]) // 2 for row in kept}.isdisjoint(int(row["id"]) // 2 for row in held_out)
    assert held_out


def test_a_validation_part_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"some must be left for training.*received 2"):
        hold_out([{"prompt": "a"}, {"prompt": "b"}], 2)


def test_folding_removes_case_blanks_and_punctuation_and_keeps_signs_of_mathematics() -> None:
    assert fold("  What's  ICE?\n") == fold("what s ice")
    assert fold("２＋2") == fold("2 + 2")
    assert fold("2 + 3") != fold("2 * 3") != fold("2 - 3")
    assert fold("well-known") == fold("well known")


def test_a_conversation_asks_its_users_turns_and_their_lines() -> None:
    turns = [("user", "Look:\nIs it?"), ("assistant", "No."), ("user", "Why?")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert texts_of(row) == {"look is it", "look", "is it", "why"}


def test_an_unknown_data_set_is_one_line_and_exit_code_2(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--reader", "openbookqa", "--dataset", "allenai/openbookqa", "--subset", "main", "--split", "dev"]
    assert run(monkeypatch, "benchmark", *where, "--output", str(tmp_path / "x.jsonl")) == 2
    assert "The data set must have the subset and the split" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()


def test_the_command_line_makes_a_training_set_without_what_a_benchmark_asks(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "reader=openbookqa,dataset=allenai/openbookqa,subset=main,split=train,revision=main"
    outputs = ["--train-output", str(tmp_path / "t.jsonl"), "--validation-output", str(tmp_path / "v.jsonl")]
    how = ["--asked-as", "text", "--validation", "5", "--without", str(tested), "--tasks", str(TASKS)]
    assert run(monkeypatch, "training-set", "--source", where, *how, *outputs) == 0
    assert (len(lines(tmp_path / "t.jsonl")), len(lines(tmp_path / "v.jsonl"))) == (35, 5)
    assert "1  left out, since a benchmark asks it" in capsys.readouterr().out
