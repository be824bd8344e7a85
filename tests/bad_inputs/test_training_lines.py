"""Lines to learn from, as people have them: each is read with the right value, or refused with its line number."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from benchmarks import overlap, teacher
from benchmarks.teacher import Sampling, write_answers
from c2c.cli.main import main
from c2c.evaluation.answers.answer import Answer
from c2c.storage.formats import write_json_lines
from c2c.training.examples import Examples, read_lines
from c2c.training.tokenised_set import TokenisedSet
from tests.bad_inputs.refusals import refused

GOOD = {"id": "a", "prompt": "what is the color of home", "response": "red"}
ASKED, ANSWERED = {"role": "user", "content": "what is the color"}, {"role": "assistant", "content": "red"}


def text(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def with_(**changes: Any) -> bytes:
    """A good line and, in the second, a bad one."""
    return text(GOOD, {**GOOD, "id": "b", **changes})


def chat(*messages: Any, **more: Any) -> bytes:
    return text(GOOD, {"id": "m", "messages": list(messages), **more})


REFUSED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "15 bom": (b"\xef\xbb\xbf" + text(GOOD), ("byte order mark",)),
    "15 broken_json": (text(GOOD) + b'{"id": "b", "prompt": "x\n', ("Line 2", "JSON")),
    "15 json_array_file": (json.dumps([GOOD, GOOD], indent=1).encode(), ("Line 1", "JSON")),
    "15 array_line": (text(GOOD, ["a", "b"]), ("Line 2", "object", "['a', 'b']")),
    "15 number_line": (text(GOOD, 3), ("Line 2", "object")),
    "15 response_number": (with_(response=4), ("response must be text", "line 2", "4")),
    "15 response_none": (with_(response=None), ("response must be text", "line 2", "None")),
    "15 prompt_list": (with_(prompt=["a"]), ("prompt must be text", "line 2", "['a']")),
    "15 surrogate": (text(GOOD) + b'{"id":"s","prompt":"what \\ud800 is","response":"red"}\n', ("Line 2", "UTF-8")),
    "15 chat_tool": (
        chat(ASKED, {"role": "assistant", "content": None, "tool_calls": [{}]}, ANSWERED),
        ("a role and a content, both text", "line 2", "tool_calls"),
    ),
    "15 chat_parts": (
        chat({"role": "user", "content": [{"type": "text", "text": "what is"}]}, ANSWERED),
        ("both text", "line 2"),
    ),
    "15 chat_content_missing": (chat({"role": "user"}, ANSWERED), ("both text", "line 2")),
    "15 chat_no_role": (chat({"content": "hi"}, ANSWERED), ("both text", "line 2")),
    "15 chat_sharegpt": (text({"id": "m", "conversations": [{"from": "human"}]}), ("id and messages", "line 1")),
    "15 chat_string_msgs": (text({"id": "m", "messages": "hi"}), ("messages must be a list", "line 1", "'hi'")),
    "15 chat_msgs_of_str": (chat("hi", "there"), ("messages must be a list of objects", "line 2", "'hi'")),
    "15 latin1": ('{"id": "a", "prompt": "café", "response": "red"}'.encode("latin-1"), ("UTF-8", "0xe9")),
    "15 empty": (b"", ("at least one example",)),
    "15 gz": (gzip.compress(text(GOOD), mtime=0), ("UTF-8",)),
    "blank lines alone": (b"\n \n\n", ("at least one example",)),
    "utf-16": (text(GOOD).decode().encode("utf-16"), ("UTF-8",)),
    "NULs, as after a power cut": (bytes(64), ("Line 1", "JSON")),
    "cut off in the last line": (text(GOOD, GOOD)[:-20], ("Line 2", "JSON")),
    "nested 100,000 times": (b"[" * 100_000 + b"\n", ("Line 1", "JSON")),
    "id null": (with_(id=None), ("id must be text or a whole number", "line 2", "None")),
    "id true": (with_(id=True), ("id must be text", "line 2", "True")),
    "id a fraction": (with_(id=1.5), ("id must be text", "line 2")),
    "id a list": (with_(id=["a"]), ("id must be text", "line 2")),
    "no id": (text(GOOD, {"prompt": "a", "response": "b"}), ("line 2", "['prompt', 'response']")),
    "prompt null": (with_(prompt=None), ("prompt must be text", "line 2")),
    "prompt a number": (with_(prompt=7), ("prompt must be text", "line 2")),
    "response a list": (with_(response=["red"]), ("response must be text", "line 2")),
    "private an object": (with_(private={"a": 1}), ("private must be text", "line 2")),
    "opening a number": (with_(opening=3), ("opening must be text", "line 2")),
    "opening not at the prompt's end": (with_(opening="Answer:"), ("end with the opening", "line 2")),
    "messages null": (text({"id": "m", "messages": None}), ("messages must be a list", "line 1")),
    "messages an object": (text({"id": "m", "messages": ASKED}), ("messages must be a list", "line 1")),
    "messages empty": (text({"id": "m", "messages": []}), ("assistant's turn", "line 1", "[]")),
    "one message": (chat(ANSWERED), ("assistant's turn", "line 2")),
    "role a number": (chat({"role": 1, "content": "hi"}, ANSWERED), ("both text", "line 2")),
    "last turn a user's": (chat(ANSWERED, ASKED), ("assistant's turn", "line 2", "['assistant', 'user']")),
    "a response of a megabyte of numbers": (with_(response=list(range(200_000))), ("response must be text", "line 2")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_line_is_refused_before_any_model_is_read(name, tmp_path) -> None:
    content, words = REFUSED[name]
    (tmp_path / "set.jsonl").write_bytes(content)
    with refused(*words):
        read_lines(tmp_path / "set.jsonl")


@pytest.mark.parametrize("name", ["15 directory", "missing"])
def test_what_is_no_file_is_refused(name, tmp_path) -> None:
    place = tmp_path if name == "15 directory" else tmp_path / "none.jsonl"
    with refused("must be a file"):
        read_lines(place)


READ: dict[str, tuple[str, bytes, list[str]]] = {
    "15 crlf": ("plain", text(GOOD).replace(b"\n", b"\r\n"), ["red"]),
    "15 u2028": ("plain", with_(prompt="what is\u2028the color"), ["red", "red"]),
    "15 u0085": ("plain", with_(response="red\x85blue"), ["red", "red\x85blue"]),
    "01 u2029": ("plain", with_(response="red\u2029blue"), ["red", "red\u2029blue"]),
    "15 response_empty": ("plain", with_(response=""), ["red", ""]),
    "15 id_number": ("plain", with_(id=5), ["red", "red"]),
    "15 dup_ids": ("plain", text(GOOD, GOOD), ["red", "red"]),
    "15 nul": ("plain", with_(prompt="what\x00is the color"), ["red", "red"]),
    "15 nan": ("plain", with_(x=float("nan")), ["red", "red"]),
    "15 chat_empty_answer": ("chat", chat(ASKED, {"role": "assistant", "content": ""}), ["red", ""]),
    "15 chat_blank_answer": ("chat", chat(ASKED, {"role": "assistant", "content": " \n"}), ["red", ""]),
    "15 chat_empty_user": ("chat", chat({"role": "user", "content": ""}, ANSWERED), ["red", "red"]),
    "15 chat_system_only": ("chat", chat({"role": "system", "content": "home"}, ANSWERED), ["red", "red"]),
    "15 chat_same_texts": ("chat", chat({**ANSWERED, "role": "user"}, ANSWERED, ASKED, ANSWERED), ["red", "red"]),
    "no newline at the end": ("plain", text(GOOD).rstrip(), ["red"]),
    "blank lines between": ("plain", text(GOOD) + b"\n  \n" + text(GOOD), ["red", "red"]),
    "null where nothing need be": ("plain", with_(private=None, opening=None), ["red", "red"]),
}


@pytest.mark.parametrize("name", READ)
def test_an_odd_line_is_learned_from_or_left_out_and_counted(name, tmp_path, chat_receiver, chat_sharer) -> None:
    prompts, content, responses = READ[name]
    (tmp_path / "set.jsonl").write_bytes(content)
    rows = read_lines(tmp_path / "set.jsonl")
    examples = Examples(chat_receiver, chat_sharer, "span", prompts, 128)
    kept = list(examples.of(rows))
    assert len(kept) == len(responses) and len(kept) + sum(examples.left_out.values()) == len(rows)
    for example, response in zip(kept, responses, strict=True):
        written = response if prompts == "chat" else f" {response}"
        ids = chat_receiver(written, add_special_tokens=False)["input_ids"]
        assert example.response_ids[: len(ids)] == ids


def test_an_empty_prompt_is_left_out_and_counted(chat_receiver, chat_sharer) -> None:
    examples = Examples(chat_receiver, chat_sharer, "span", "plain", 128)
    rows = [GOOD, {**GOOD, "id": "empty", "prompt": ""}]
    assert [example.id for example in examples.of(rows)] == ["a"]
    assert sum(examples.left_out.values()) == 1
    with refused("at least two tokens", "line 'empty'"):
        list(Examples(chat_receiver, chat_sharer, "span", "plain", 128).of(rows[1:]))


SEPARATED = "what is\u2028the color\u2029of\x85home?"


def test_01_a_line_with_a_separator_comes_from_the_writer_to_the_teacher_and_to_the_tokenised_set(
    tmp_path, tiny_model, chat_receiver, chat_sharer, monkeypatch
) -> None:
    rows = [{"id": "q", "prompt": f"{SEPARATED} Answer:", "response": SEPARATED, "opening": "Answer:"}, GOOD]
    lines, taught, stored = (tmp_path / name for name in ("set.jsonl", "taught.jsonl", "set.parquet"))
    write_json_lines(lines, rows)
    assert read_lines(lines) == rows

    for name, tokenizer in (("receiver", chat_receiver), ("sharer", chat_sharer)):
        tiny_model("qwen3", vocab=len(tokenizer)).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    answer = Answer(output_text=SEPARATED)
    monkeypatch.setattr(teacher, "answer_all", lambda loaded, asked, *rest: [answer for _ in asked])
    assert write_answers(str(tmp_path / "receiver"), lines, taught, Sampling(), 4096)["kept"] == 2
    assert [row["response"] for row in read_lines(taught)] == [SEPARATED] * 2

    models = ("--receiver", str(tmp_path / "receiver"), "--sharer", str(tmp_path / "sharer"))
    given = ["--prompts", "chat", "--data", str(taught), "--output", str(stored)]
    assert main(["tokenise", *models, *given]) == 0
    expected = list(Examples(chat_receiver, chat_sharer, "span", "chat", 2048).of(read_lines(taught)))
    assert list(TokenisedSet(stored)) == expected and len(expected) == 2


def test_01_a_question_with_a_separator_is_found_in_a_benchmark(tmp_path) -> None:
    write_json_lines(tmp_path / "asked.jsonl", [{"id": "q", "question": SEPARATED}])
    assert overlap.asked_in([tmp_path / "asked.jsonl"]) == overlap.texts_of({"question": SEPARATED})
