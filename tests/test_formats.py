"""One reader and one writer of JSON lines, JSON and YAML; what they cannot read they refuse with its place."""

from __future__ import annotations

import json

import pytest

from c2c.errors import MOST_DIGITS, RefusedError, excerpt
from c2c.storage.formats import parse_yaml, read_json, read_json_lines, read_text, write_json_lines

SEPARATORS = "a\u2028b\u2029c\u0085d\x0b\x0c\x1ce\rf"


def test_a_line_that_was_written_is_read_back_whatever_its_text_holds(tmp_path) -> None:
    rows = [{"text": SEPARATORS}, {"text": "öß 漢 😀"}, {"number": 1.5, "none": None}]
    write_json_lines(tmp_path / "lines", rows)
    assert [row for _, row in read_json_lines(tmp_path / "lines", "Correct it")] == rows


def test_separators_of_unicode_end_no_line_even_unescaped(tmp_path) -> None:
    (tmp_path / "lines").write_bytes(('{"text": "a\u2028b\u0085c"}\r\n\n{"text": "2"}\n').encode())
    assert [number for number, _ in read_json_lines(tmp_path / "lines", "Correct it")] == [1, 3]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"\xff{}", "must be UTF-8 text; received 'byte 0xff at 0'"),
        (b"\xef\xbb\xbf{}", "without a byte order mark"),
        (b'{"a": 1}\n{"a": ', "Line 2 of lines must be JSON"),
        (b"[1]", "Line 1 of lines must be a JSON object"),
        (b"7", "Line 1 of lines must be a JSON object"),
        (b'{"a": "\\ud800"}', "text that can be written"),
        (b"[" * 100_000, "Line 1 of lines must be JSON"),
        (b"\x1f\x8b\x08\x00", "must be UTF-8"),
        (b"\x00\x00", "must be JSON"),
    ],
)
def test_what_is_no_json_lines_is_refused_with_its_place(tmp_path, content, rule) -> None:
    (tmp_path / "lines").write_bytes(content)
    with pytest.raises(RefusedError, match=rule) as refusal:
        list(read_json_lines(tmp_path / "lines", "Correct it"))
    assert len(str(refusal.value)) < 1000 and str(refusal.value).endswith("Correct it.")


def test_a_whole_surrogate_pair_is_text(tmp_path) -> None:
    (tmp_path / "lines").write_text(json.dumps({"a": "😀"}))
    assert [row for _, row in read_json_lines(tmp_path / "lines", "Correct it")] == [{"a": "😀"}]


@pytest.mark.parametrize("name", ["none", "folder"])
def test_what_is_no_file_is_refused(tmp_path, name) -> None:
    (tmp_path / "folder").mkdir()
    for read in (read_text, read_json):
        with pytest.raises(RefusedError, match=f"{name} must be a file"):
            read(tmp_path / name, "Correct it")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: !function utils.f",
        "!!python/object/apply:os.system [true]",
        "&a [*a]",
        "[" * 100_000,
        "\n".join([f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]" for i in range(10)]),
    ],
    ids=["broken", "function", "object", "circle", "deep", "aliases"],
)
def test_yaml_of_other_than_plain_values_is_refused_soon(text) -> None:
    with pytest.raises(RefusedError, match="must") as refusal:
        parse_yaml(text, "file", "Correct it")
    assert len(str(refusal.value)) < 1000


def test_a_refusal_shows_an_excerpt_of_what_it_received() -> None:
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    for value in ("x" * 10**6, list(range(10**6)), nested, {i: i for i in range(10**5)}, 10**10_000):
        assert len(str(RefusedError("It must be small", value, "Cut it"))) < 2000
    assert excerpt(10 ** (MOST_DIGITS - 10)) == str(10 ** (MOST_DIGITS - 10))
