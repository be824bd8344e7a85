"""Kept answers that are cut off, spoilt or of another version: not used, counted on stderr, and asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from c2c.evaluation.answers import store
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.store import AnswerStore, check_free, open_store
from c2c.evaluation.questions.question import Question
from tests.bad_inputs.refusals import refused


def question(number: int) -> Question:
    return Question("some", number, {"id": str(number)}, f"prompt {number}", "gold")


def keep(folder: Path, *numbers: int) -> Path:
    """Keep one batch; returns its shard."""
    before = set(folder.glob("*.jsonl"))
    asked = [question(number) for number in numbers]
    AnswerStore(folder).put("receiver", asked, [Answer(output_text=str(number)) for number in numbers])
    (shard,) = set(folder.glob("*.jsonl")) - before
    return shard


def known(answers: AnswerStore) -> list[int]:
    return [number for number in range(6) if answers.get("receiver", question(number))]


def lines_of(shard: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shard.read_text().splitlines()]


def changed(shard: Path, **fields: Any) -> None:
    """Change the answer of the first line."""
    rows = lines_of(shard)
    rows[0]["answer"] |= fields
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows))


def without(shard: Path, field: str) -> None:
    rows = lines_of(shard)
    del rows[0]["answer"][field]
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows))


def other(shard: Path, **fields: Any) -> None:
    """Change the first line itself."""
    rows = lines_of(shard)
    rows[0] |= fields
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows))


SPOILT = {
    "F2 no byte": lambda shard: shard.write_bytes(b""),
    "F3 half a line": lambda shard: shard.write_bytes(shard.read_bytes()[:-40]),
    "F3 a line less": lambda shard: shard.write_text(shard.read_text().splitlines()[0] + "\n"),
    "F4 NULs": lambda shard: shard.write_bytes(bytes(len(shard.read_bytes()))),
    "F4 NULs at the end": lambda shard: shard.write_bytes(shard.read_bytes()[:-40] + bytes(40)),
    "F5 a field of another version": lambda shard: changed(shard, new_in_v2=1),
    "F5 a field less": lambda shard: without(shard, "message"),
    "another version": lambda shard: other(shard, version=2),
    "before there was a version": lambda shard: other(shard, version=None),
    "no UTF-8": lambda shard: shard.write_bytes(b"\xff\xfe" + shard.read_bytes()),
    "a lone surrogate": lambda shard: changed(shard, output_text="\ud800"),
    "text as a number": lambda shard: changed(shard, output_text=5),
    "ids as text": lambda shard: changed(shard, output_ids="1 2"),
    "an id as text": lambda shard: changed(shard, output_ids=[1, "2"]),
    "a true number": lambda shard: changed(shard, tokens_in=True),
    "a list": lambda shard: shard.write_text("[1]\n[2]\n"),
    "an answer that is a list": lambda shard: other(shard, answer=[]),
    "a key of three parts": lambda shard: other(shard, key=["receiver", "some", "0"]),
    "a key of numbers": lambda shard: other(shard, key=[1, 2, 3, 4]),
    "nested too deeply": lambda shard: shard.write_text("[" * 100_000 + "\n"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_batch_that_is_of_no_use_is_counted_and_asked_again(case, tmp_path, capsys) -> None:
    whole, spoilt = keep(tmp_path, 0, 1), keep(tmp_path, 2, 3)
    SPOILT[case](spoilt)
    answers = AnswerStore(tmp_path)
    assert known(answers) == [0, 1]
    told = capsys.readouterr().err
    assert "1 of 2 kept batches are of no use" in told and spoilt.name in told and len(told) < 700
    answers.put("receiver", [question(2), question(3)], [Answer(), Answer()])
    assert known(AnswerStore(tmp_path)) == [0, 1, 2, 3]
    assert whole.exists() and len(list(tmp_path.iterdir())) == 3


STRAYS = ("note.jsonl", "7.json", "-1.jsonl", "٣.jsonl", "1 copy.jsonl", "000007.jsonl/000000.jsonl")


@pytest.mark.parametrize("name", [f"F7 {name}" for name in STRAYS])
def test_a_file_of_another_name_is_named_and_left_where_it_is(name, tmp_path, capsys) -> None:
    stray = tmp_path / name.removeprefix("F7 ")
    keep(tmp_path, 0)
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("mine\n")
    answers = AnswerStore(tmp_path)
    assert known(answers) == [0]
    told = capsys.readouterr().err
    assert "1 file(s) that hold no answers are ignored" in told and stray.relative_to(tmp_path).parts[0] in told
    answers.forget()
    assert stray.read_text() == "mine\n" and known(AnswerStore(tmp_path)) == []


def test_a_store_of_many_batches_is_read_in_the_order_of_their_numbers(tmp_path) -> None:
    shard = keep(tmp_path, 0)
    shard.rename(tmp_path / "1000000.jsonl")
    assert keep(tmp_path, 1).name.startswith("1000001-")
    assert known(AnswerStore(tmp_path)) == [0, 1]


def test_a_second_run_of_one_output_is_refused_and_takes_nothing_of_the_first(tmp_path) -> None:
    """F6 and F24."""
    output = tmp_path / "records.parquet"
    with open_store(output, "settings") as first:
        first.put("receiver", [question(0)], [Answer(output_text="0")])
        for fingerprint in ("settings", "other settings"):
            with refused("records.parquet", "Only one run"), open_store(output, fingerprint):
                raise AssertionError("two runs at once")
        with refused("records.parquet", "Only one run"):
            check_free(output)
        first.put("receiver", [question(1)], [Answer(output_text="1")])
        assert known(AnswerStore(first.folder)) == [0, 1]
    assert list(tmp_path.iterdir()) == []


def test_two_stores_of_one_folder_without_locks_keep_and_forget_their_own(tmp_path) -> None:
    """F6 and F24, on a file system that has no locks."""
    folder = tmp_path / "answers"
    one, two = AnswerStore(folder), AnswerStore(folder)
    one.put("receiver", [question(0)], [Answer(output_text="0")])
    two.put("receiver", [question(1)], [Answer(output_text="1")])
    assert known(AnswerStore(folder)) == [0, 1]
    one.forget()
    two.put("receiver", [question(2)], [Answer(output_text="2")])
    assert known(AnswerStore(folder)) == [1, 2]
    two.forget()
    assert not folder.exists()


def test_a_run_that_fails_keeps_its_answers_and_the_next_one_has_them(tmp_path) -> None:
    output = tmp_path / "records.parquet"
    with pytest.raises(RuntimeError), open_store(output, "settings") as answers:
        answers.put("receiver", [question(0)], [Answer(output_text="0")])
        raise RuntimeError("the device is gone")
    with open_store(output, "settings") as answers:
        assert known(answers) == [0]


@pytest.mark.parametrize("place", range(5))
def test_answers_of_other_code_or_libraries_are_not_used_and_that_is_said(place, tmp_path, monkeypatch, capsys) -> None:
    output = tmp_path / "records.parquet"
    with pytest.raises(KeyboardInterrupt), open_store(output, "settings") as answers:
        answers.put("receiver", [question(0)], [Answer(output_text="0")])
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""
    upgraded = [*store.versions()]
    assert len(upgraded) == 5, "package, code, torch, transformers, tokenizers"
    upgraded[place] += ".1"
    monkeypatch.setattr(store, "versions", lambda: tuple(upgraded))
    with open_store(output, "settings") as answers:
        assert known(answers) == []
    told = capsys.readouterr().err
    assert "answers in 1 folder(s)" in told and "not used" in told
    assert len(list(tmp_path.iterdir())) == 1, "the earlier answers stay until a person removes them"
