"""Items made from a benchmark: its own questions for the test, others for training, all in the words of its task."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import choice_items
from benchmarks.overlap import fold
from c2c.errors import RefusedError
from c2c.testbed.checks import check_splits
from c2c.testbed.items import read_items

TASKS = Path(__file__).resolve().parents[2] / "benchmarks" / "tasks"
SIZES = {"test": 4, "train": 9, "validation": 4}
Row = dict[str, Any]


def question(number: int, stem: str = "Ice is") -> Row:
    options = ["hot", "very cold", "loud", "sweet"]
    return {"id": f"q{number}", "subset": "", "question": f"{stem} {number}", "options": options, "answer": "B"}


def write_lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Six questions of a benchmark; sixteen to train on, of which one is the benchmark's and one is there twice."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    training = [question(number) for number in range(14)]
    repeats = [question(100, "ICE   is"), question(200, "ice is 3 ?") | {"question": "ice is 3?"}]
    return {
        "questions": write_lines(tmp_path / "arc_easy.jsonl", [question(number) for number in range(100, 106)]),
        "training": write_lines(tmp_path / "training.jsonl", [*training, *repeats]),
    }


def run(monkeypatch: pytest.MonkeyPatch, files: dict[str, Path], output: Path, *more: object) -> int:
    flags = ["--task", "arc_easy_text", "--questions", files["questions"], "--tasks", TASKS, "--seed", 0]
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}", size)]
    words = [*flags, *sizes, "--source", f"file={files['training']}", "--output", output, *more]
    monkeypatch.setattr(sys, "argv", ["choice_items", *map(str, words)])
    return choice_items.main()


def test_test_items_are_the_first_questions_and_the_others_are_none_of_the_benchmark(
    files, tmp_path, monkeypatch
) -> None:
    assert run(monkeypatch, files, tmp_path / "items") == 0
    splits = {name: read_items(tmp_path / "items" / f"{name}.jsonl") for name in SIZES}
    assert {name: len(items) for name, items in splits.items()} == SIZES
    check_splits(splits)
    assert [item.id for item in splits["test"]] == [f"q{number}" for number in range(100, 104)]
    texts = [fold(item.prompt) for items in splits.values() for item in items]
    assert len(set(texts)) == len(texts)
    notes = json.loads((tmp_path / "items" / "train.jsonl.provenance.json").read_text())
    assert notes["left_out"] == {"a benchmark asks it": 1} and notes["repeats"] == 1 and notes["questions"] == 14
    assert notes["rows"] == SIZES["train"] and notes["settings"]["split"] == "train"


def test_an_item_is_asked_in_the_words_of_its_task_and_needs_no_message(files, tmp_path, monkeypatch) -> None:
    assert run(monkeypatch, files, tmp_path / "items") == 0
    for split in SIZES:
        for item in read_items(tmp_path / "items" / f"{split}.jsonl"):
            assert item.prompt.startswith("Question: Ice is ") and item.prompt.endswith("\nAnswer:")
            assert item.sharer_texts == (item.prompt,) == (item.full_prompt,) == (item.target_prompt,)
            assert item.options == ("hot", "very cold", "loud", "sweet") and item.value == "very cold"
            assert not item.places and not item.need and item.by_character


def test_another_seed_trains_on_other_questions_and_asks_the_same(files, tmp_path, monkeypatch) -> None:
    for seed in (0, 0, 1):
        run(monkeypatch, files, tmp_path / str(seed), "--seed", seed)
    train = {seed: read_items(tmp_path / seed / "train.jsonl") for seed in "01"}
    assert {item.id for item in train["0"]} != {item.id for item in train["1"]}
    assert read_items(tmp_path / "0" / "test.jsonl") == read_items(tmp_path / "1" / "test.jsonl")


def test_options_that_read_alike_are_one(files, tmp_path, monkeypatch) -> None:
    twice = question(100) | {"options": ["hot", "very cold", "very cold", "sweet"], "answer": "C"}
    write_lines(files["questions"], [twice, *(question(number) for number in range(101, 106))])
    assert run(monkeypatch, files, tmp_path / "items") == 0
    first = read_items(tmp_path / "items" / "test.jsonl")[0]
    assert first.options == ("hot", "very cold", "sweet") and first.answer == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--test", 7], "must be as many as the items of a split"),
        (["--train", 11], "must have 15 questions for training and validation"),
        (["--train", 0], "must have a row or more"),
        (["--task", "arc_easy_letter"], "must be a task whose options are weighed"),
    ],
)
def test_what_gives_no_items_is_refused_in_one_line(files, tmp_path, monkeypatch, capsys, more, words) -> None:
    assert run(monkeypatch, files, tmp_path / "items", *more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "items").exists()


def test_training_questions_without_options_are_refused(files, tmp_path, monkeypatch, capsys) -> None:
    write_lines(files["training"], [{"question": "Which colour?", "answer": "yellow"}])
    assert run(monkeypatch, files, tmp_path / "items") == 2
    assert "must be made of questions with options" in capsys.readouterr().err


def test_questions_with_a_private_line_are_refused(files, tmp_path, monkeypatch) -> None:
    write_lines(files["questions"], [question(1) | {"private": "It is cold."}])
    task = choice_items.ChoiceTask("arc_easy_text", TASKS, files["questions"])
    with pytest.raises(RefusedError, match="must have no private line"):
        task.items(files["questions"], 1)
