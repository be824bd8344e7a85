from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import prepare
from benchmarks.prepare import Source, Template
from c2c.errors import RefusedError

ROOT = Path(__file__).resolve().parents[2]
TASK = ROOT / "benchmarks" / "tasks" / "openbookqa.yaml"
CHAT = ROOT / "benchmarks" / "training" / "openhermes.yaml"


def question(number: int, stem: str = "Ice is") -> dict[str, Any]:
    options = {"text": ["hot", "cold", "loud", "sweet"], "label": ["A", "B", "C", "D"]}
    return {"id": f"q{number}", "question_stem": f"{stem} {number}", "choices": options, "answerKey": "B"}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror that holds one tiny data set in the layout of the hub."""
    folder = tmp_path / "mirror" / "allenai" / "openbookqa"
    (folder / "main").mkdir(parents=True)
    splits = {"train": range(40), "test": range(100, 106)}
    for split, numbers in splits.items():
        lines = "".join(json.dumps(question(number)) + "\n" for number in numbers)
        (folder / "main" / f"{split}.jsonl").write_text(lines)
    files = "".join(f"  - split: {split}\n    path: main/{split}.jsonl\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n")
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
    return prepare.main()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def source(split: str, limit: int | None = None) -> Source:
    return Source("allenai/openbookqa", "main", split, "main", limit)


def test_questions_keep_their_columns_and_order_and_gain_a_subset(mirror: Path, tmp_path: Path) -> None:
    output = tmp_path / "openbookqa.jsonl"
    prepare.prepare_benchmark(source("test"), Template.read(TASK), output)
    assert lines(output) == [{**question(number), "subset": ""} for number in range(100, 106)]


def test_the_limit_takes_the_first_rows(mirror: Path, tmp_path: Path) -> None:
    output = tmp_path / "openbookqa.jsonl"
    prepare.prepare_benchmark(source("test", limit=2), Template.read(TASK), output)
    assert [row["id"] for row in lines(output)] == ["q100", "q101"]


def test_provenance_records_the_revision_and_where_the_data_came_from(mirror: Path, tmp_path: Path) -> None:
    output = tmp_path / "openbookqa.jsonl"
    prepare.prepare_benchmark(source("test"), Template.read(TASK), output)
    record = json.loads(Path(f"{output}.provenance.json").read_text())
    assert record["data"] == {"id": "allenai/openbookqa", "revision": "main", "source": "mirror"}
    assert record["questions"] == 6


def test_a_training_set_asks_as_the_benchmark_does(mirror: Path, tmp_path: Path) -> None:
    train, validation = tmp_path / "t" / "train.jsonl", tmp_path / "t" / "validation.jsonl"
    prepare.prepare_training_set(source("train"), Template.read(TASK), 8, train, validation)
    held_out, kept = lines(validation), lines(train)
    assert (len(held_out), len(kept)) == (8, 32)
    assert {row["id"] for row in held_out}.isdisjoint(row["id"] for row in kept)
    first = next(row for row in [*kept, *held_out] if row["id"] == "q0")
    assert first["prompt"].endswith("Question: Ice is 0\nA) hot\nB) cold\nC) loud\nD) sweet\nAnswer:")
    assert first["response"] == "B"


def test_what_is_held_out_depends_on_the_rows_alone() -> None:
    rows = [{"id": str(n), "prompt": f"p{n}", "response": "r"} for n in range(50)]
    _, held_out = prepare.hold_out(rows, 10)
    _, reversed_held_out = prepare.hold_out(rows[::-1], 10)
    assert sorted(row["id"] for row in held_out) == sorted(row["id"] for row in reversed_held_out)


def test_rows_with_the_same_prompt_stay_on_one_side() -> None:
    rows = [{"id": str(n), "prompt": f"p{n // 2}", "response": "r"} for n in range(20)]
    kept, held_out = prepare.hold_out(rows, 7)
    assert {row["prompt"] for row in kept}.isdisjoint(row["prompt"] for row in held_out)


def test_a_validation_part_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match="some are left for training; received 2"):
        prepare.hold_out([{"prompt": "a"}, {"prompt": "b"}], 2)


def test_chats_become_one_prompt_and_the_last_answer() -> None:
    turns = [("system", "Be kind."), ("human", " Hi "), ("gpt", "Hello."), ("human", "Bye"), ("gpt", "See you. ")]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    prepared, left_out = prepare.examples([row], "chat", Template.read(CHAT))
    assert prepared[0]["prompt"] == "User: Hi\n\nAssistant: Hello.\n\nUser: Bye\n\nAssistant:"
    assert prepared[0]["response"] == "See you."
    assert left_out == 0


def test_chats_without_an_answer_are_left_out_and_counted() -> None:
    row = {"conversations": [{"from": "human", "value": "Hi"}]}
    assert prepare.examples([row], "chat", Template.read(CHAT)) == ([], 1)


def test_questions_that_share_an_id_are_refused() -> None:
    with pytest.raises(RefusedError, match="different ids; received 'q1'"):
        prepare.questions([question(1), question(1)], "openbookqa", Template.read(TASK))


def test_a_column_that_the_data_lacks_is_refused_with_the_columns_it_has() -> None:
    with pytest.raises(RefusedError, match=r"names columns of the data set.*It has: text"):
        Template.read(TASK).render({"text": "x"})


def test_an_unknown_data_set_is_one_line_and_exit_code_2(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--template", str(TASK), "--dataset", "allenai/openbookqa", "--subset", "main", "--split", "dev"]
    assert run(monkeypatch, "benchmark", *where, "--output", str(tmp_path / "x.jsonl")) == 2
    assert "The data set has the subset and the split" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()


def test_the_sharer_of_t2t_sees_no_options() -> None:
    import yaml

    metadata = yaml.safe_load(TASK.read_text())["metadata"]
    asked = prepare.JINJA.from_string(metadata["t2t_question"]).render(question(3))
    assert "Ice is 3" in asked and "cold" not in asked
    told = prepare.JINJA.from_string(metadata["t2t_prompt"]).render(message="Water freezes.", prompt="PROMPT")
    assert told == "Background: Water freezes.\n\nPROMPT"
