"""The gap benchmarks: what no split may share, and what the Receiver may never read."""

from __future__ import annotations

import json
import re
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from benchmarks.private import make, private_line, skill, words
from benchmarks.private.splits import Row
from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import read_task_file
from c2c.testbed.tasks.bank import OPTIONS, split_values
from c2c.testbed.tasks.bank import bank as value_bank
from c2c.training.examples import read_lines
from c2c.types import LETTERS

ROOT = Path(__file__).resolve().parents[3]
SIZES: dict[str, dict[str, int]] = {
    task: sizes
    for task, sizes in yaml.safe_load((ROOT / "config/config.yaml").read_text())["gap"].items()
    if task != "seed"
}


@pytest.fixture(scope="module", params=sorted(make.TASKS))
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(task: str) -> dict[str, list[Row]]:
    """All splits of a task in the sizes of the config."""
    return make.TASKS[task](SIZES[task], 0)


@pytest.fixture(scope="module")
def facts() -> dict[str, list[Row]]:
    return private_line.build_splits(SIZES["private_line"], 0)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command, as a person types it."""
    monkeypatch.setattr(sys, "argv", ["make", *map(str, arguments)])
    return make.main()


def flags(task: str, seed: int = 0, **sizes: int) -> list[object]:
    given = {"test": 40, "train": 60, "validation": 20} | sizes
    return ["--task", task, "--seed", seed, *(part for name, n in given.items() for part in (f"--{name}", n))]


def test_the_config_asks_for_at_least_five_hundred_test_questions_and_gets_all_it_asks_for(task, made) -> None:
    assert len(made["test"]) == SIZES[task]["test"] >= 500
    assert len(made["validation"]) == SIZES[task]["validation"]
    assert len(made["train"]) == SIZES[task]["train"] or task == "words"
    assert len(made["train"]) >= 500


def test_no_question_stands_in_two_splits_or_twice_in_one(made) -> None:
    questions = [row["question"] for rows in made.values() for row in rows]
    identities = [row["id"] for rows in made.values() for row in rows]
    assert len(questions) == len(set(questions)) == len(set(identities))


def test_four_options_hold_the_right_one_once_where_the_letter_says(made) -> None:
    for row in (each for rows in made.values() for each in rows):
        assert len(row["options"]) == len(set(row["options"])) == OPTIONS
        assert row["options"].count(row["value"]) == 1
        assert row["options"][LETTERS.index(row["answer"])] == row["value"]


def test_every_letter_is_right_about_as_often(made) -> None:
    share = [sum(row["answer"] == letter for row in made["test"]) / len(made["test"]) for letter in LETTERS[:OPTIONS]]
    assert all(0.18 < each < 0.32 for each in share)


def test_the_question_never_holds_the_answer_unless_it_is_one_of_two_numbers(task, made) -> None:
    if task == "skill":
        return
    for row in (each for rows in made.values() for each in rows):
        assert row["value"].lower() not in re.findall(r"\w+", row["question"].lower())


def test_the_same_seed_gives_the_same_splits_and_another_one_others(task, made) -> None:
    assert make.TASKS[task](SIZES[task], 0) == made
    other = make.TASKS[task](SIZES[task], 1)
    assert {row["id"] for row in other["test"]} != {row["id"] for row in made["test"]}


def test_persons_and_their_family_names_are_of_one_split_alone(facts) -> None:
    for part in (lambda row: row["person"], lambda row: row["person"].split()[1]):
        for one, other in combinations(facts.values(), 2):
            assert {part(row) for row in one}.isdisjoint(part(row) for row in other)


def test_values_of_the_test_and_of_the_unseen_validation_stand_in_no_training_row_not_even_as_options(facts) -> None:
    said = {split: {value for row in rows for value in row["options"]} for split, rows in facts.items()}
    assert said["test"].isdisjoint(said["train"] | said["validation"] | said["unseen"])
    assert said["unseen"].isdisjoint(said["train"] | said["validation"])
    training = {word for row in facts["train"] for word in re.findall(r"\w+", row["private"])}
    assert {row["value"] for row in facts["test"]}.isdisjoint(training)
    assert {row["value"] for row in facts["validation"]} <= said["train"]


def test_values_are_many_over_many_attributes_and_each_of_one_attribute_alone() -> None:
    bank = value_bank()
    values = [value.lower() for each in bank.values() for value in each]
    assert len(bank) >= 8 and len(values) == len(set(values)) >= 600
    parts = split_values(bank, 0)
    assert min(len(known) for split in parts.values() for known in split.values()) >= OPTIONS
    assert sum(map(len, parts["train"].values())) >= 400
    assert sum(map(len, parts["test"].values())) >= 200


def test_options_of_a_fact_are_values_of_its_attribute(facts) -> None:
    bank = value_bank()
    for row in facts["test"]:
        assert set(row["options"]) <= set(bank[row["attribute"]])
        assert row["subset"] == row["attribute"]


def test_the_private_line_says_the_fact_and_the_question_asks_for_it(facts) -> None:
    for row in facts["test"]:
        assert row["private"] == f"{row['person']}'s {row['attribute']} is {row['value']}."
        assert row["question"] == f"{row['person']}'s {row['attribute']} is what?"


def test_an_attribute_with_too_few_values_is_refused() -> None:
    with pytest.raises(RefusedError, match="values for test, validation and training"):
        split_values({"mood": ["glad", "sad", "calm", "keen", "shy", "cross", "sunny", "bold"]}, 0)


def test_neither_chinese_words_nor_their_translations_repeat_in_the_list() -> None:
    known = words.read_words()
    assert len(known) >= 900
    assert len({word.chinese for word in known}) == len({word.english.lower() for word in known}) == len(known)
    assert {word.kind for word in known} == {"noun", "verb", "adjective"}
    assert all(re.fullmatch(r"[A-Za-z]+", word.english) and not word.chinese.isascii() for word in known)


def test_translations_of_test_words_are_neither_answers_nor_options_of_another_split() -> None:
    made = words.build_splits(SIZES["words"], 0)
    said = {split: {option for row in rows for option in row["options"]} for split, rows in made.items()}
    for one, other in combinations(said.values(), 2):
        assert one.isdisjoint(other)


def test_pairs_of_operands_are_of_one_split_alone_in_either_order() -> None:
    made = skill.build_splits(SIZES["skill"], 0)
    pairs = {
        split: {(row["subset"], frozenset(re.findall(r"\d+", row["question"]))) for row in rows}
        for split, rows in made.items()
    }
    for one, other in combinations(pairs.values(), 2):
        assert one.isdisjoint(other)
    for split, rows in made.items():
        assert len(pairs[split]) == len(rows)
        assert {row["subset"] for row in rows} == set(skill.SIGNS)


def test_the_right_result_is_right() -> None:
    for row in skill.build_splits(SIZES["skill"], 0)["test"]:
        expression = row["question"].removesuffix(" is what?")
        assert str(eval(expression)) == row["value"]
        assert all(int(option) >= 0 for option in row["options"])


def test_sizes_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(RefusedError, match="left for training"):
        words.build_splits({"test": len(words.read_words()), "validation": 4, "train": 1}, 0)


def test_the_command_writes_the_same_bytes_again(monkeypatch, tmp_path, task) -> None:
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert run(monkeypatch, *flags(task), "--benchmark", folder / "gap.jsonl") == 0
        assert run(monkeypatch, *flags(task), "--tasks", ROOT / "benchmarks/tasks", "--training-set", folder) == 0
        written.append([(folder / name).read_bytes() for name in ("gap.jsonl", "train.jsonl", "validation.jsonl")])
    assert written[0] == written[1] and all(written[0])


def test_training_examples_are_asked_in_the_words_of_the_tasks_and_keep_the_private_line_apart(
    monkeypatch, tmp_path, task
) -> None:
    assert run(monkeypatch, *flags(task), "--tasks", ROOT / "benchmarks/tasks", "--training-set", tmp_path) == 0
    made = make.TASKS[task]({"test": 40, "train": 60, "validation": 20}, 0)
    rows = read_lines(tmp_path / "train.jsonl")
    assert len(rows) == len(made["train"]) == 60
    for row, question in zip(rows, made["train"], strict=True):
        assert row["prompt"] == f"Question: {question['question']}\nAnswer:"
        assert row["response"] == question["value"]
        assert row.get("private") == question.get("private")


def test_the_validation_on_unseen_values_has_the_same_training_rows_and_no_value_of_theirs(
    monkeypatch, tmp_path
) -> None:
    tasks = ["--tasks", ROOT / "benchmarks/tasks"]
    base = flags("private_line", train=400)
    assert run(monkeypatch, *base, *tasks, "--training-set", tmp_path / "seen") == 0
    unseen = ["--validation-values", "unseen", "--training-set", tmp_path / "unseen"]
    assert run(monkeypatch, *base, *tasks, *unseen) == 0
    read = {name: read_lines(tmp_path / name / "validation.jsonl") for name in ("seen", "unseen")}
    assert (tmp_path / "seen/train.jsonl").read_bytes() == (tmp_path / "unseen/train.jsonl").read_bytes()
    values = split_values(value_bank(), 0)
    known = {value for each in values["train"].values() for value in each}
    assert {row["response"] for row in read["seen"]} <= known
    assert {row["response"] for row in read["unseen"]}.isdisjoint(known)


@pytest.mark.parametrize("other", ["words", "skill"])
def test_unseen_values_of_a_task_without_values_are_refused(monkeypatch, tmp_path, capsys, other) -> None:
    given = [*flags(other), "--validation-values", "unseen", "--tasks", ROOT / "benchmarks/tasks"]
    assert run(monkeypatch, *given, "--training-set", tmp_path / "set") == 2
    assert "must be of private_line" in capsys.readouterr().err


@pytest.mark.parametrize("scoring", ["exact", "text"])
def test_the_receivers_prompt_is_the_question_alone_and_the_sharer_of_t2t_may_state_the_fact(
    monkeypatch, tmp_path, task, scoring
) -> None:
    from c2c.evaluation.questions.tasks import load_tasks

    assert run(monkeypatch, *flags(task), "--benchmark", tmp_path / "gap.jsonl") == 0
    name = f"gap_{task}_{scoring}"
    loaded = load_tasks(ROOT / "benchmarks/tasks", {name: tmp_path / "gap.jsonl"})["tasks"][name]
    rows = [json.loads(line) for line in (tmp_path / "gap.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = read_task_file(ROOT / "benchmarks/tasks", name)
    assert asked["metadata"]["scoring"] == scoring
    for row, doc in zip(rows, loaded.test_docs(), strict=True):
        prompt = loaded.fewshot_context(doc, 0, gen_prefix=loaded.doc_to_prefix(doc))
        assert prompt == f"Question: {row['question']}\nAnswer:"
        target = loaded.doc_to_target(doc)
        gold = row["options"][target] if scoring == "text" else target
        assert gold == row["value"]
        told = read_private(asked["metadata"]["t2t_question"], row)
        assert row["question"] in told
        assert "private" not in row or row["private"] in told


def read_private(template: str, row: Row) -> str:
    """What the Sharer of T2T is asked."""
    from jinja2 import Template

    return Template(template).render(row)
