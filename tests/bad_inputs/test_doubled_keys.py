"""A key twice in one object, of which Python's readers keep the last, is refused by name in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2c.storage.formats import parse_json_lines, parse_yaml, read_json, read_yaml
from tests.bad_inputs.refusals import refused

YAML = {
    "at the top": ("a: 1\nb: 2\na: 3\n", "'a' in line 3"),
    "below": ("top:\n  x: 1\n  x: 1\n", "'x' in line 3"),
    "in a list": ("- {x: 1, x: 2}\n", "'x' in line 1"),
    "with and without quotes": ("x: 1\n'x': 2\n", "'x' in line 2"),
    "a number in two ways": ("10: a\n0xa: b\n", "10 in line 2"),
    "beside a merge": ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n", "'y' in line 5"),
    "in what is merged": ("a: &a {x: 1, x: 2}\nb: {<<: *a}\n", "'x' in line 1"),
}


@pytest.mark.parametrize("case", YAML)
def test_a_key_twice_in_yaml_is_refused(case, tmp_path) -> None:
    text, place = YAML[case]
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with refused("run.yaml", place):
        read_yaml(path, "Correct it")


def test_a_key_of_ones_own_may_replace_a_merged_one_and_be_merged_again() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, x: 4}\nd: [*b, *b]\n"
    own = {"x": 3, "y": 2}
    assert parse_yaml(text, "text", "") == {"a": {"x": 1, "y": 2}, "b": own, "c": {"x": 4, "y": 2}, "d": [own, own]}


@pytest.mark.parametrize("text", ["? !!seq ''\n: 1\n", "? [1]\n: 2\n", "? {a: 1}\n: 2\n"])
def test_a_key_that_is_no_plain_value_is_refused(text) -> None:
    with refused("text"):
        parse_yaml(text, "text", "Correct it")


JSON = {
    "at the top": '{"a": 1, "b": 2, "a": 3}',
    "below": '{"b": [{"a": 1, "a": 1}]}',
    "with an escape": '{"a": 1, "\\u0061": 2}',
    "of objects": '{"a": {"b": 1}, "a": {"b": 2}}',
}


@pytest.mark.parametrize("case", JSON)
def test_a_key_twice_in_json_is_refused(case, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(JSON[case], encoding="utf-8")
    with refused("run.json", "'a'"):
        read_json(path, "Correct it")
    with refused("Line 2 of run", "'a'"):
        list(parse_json_lines(f'{{"a": 1}}\n{JSON[case]}\n', "run", "Correct it"))


def test_no_file_of_this_repository_has_a_key_twice() -> None:
    root = Path(__file__).resolve().parents[2]
    files = [path for folder in ("paper", "config", "benchmarks", "c2c") for path in (root / folder).rglob("*.yaml")]
    assert len(files) > 60
    for path in files:
        read_yaml(path, "Leave one out")
