"""Tokenised sets that are no longer, or never were, what ``c2c tokenise`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2c.alignment.tokens import AlignedPrompt
from c2c.training import tokenised_set
from c2c.training.examples import Example
from c2c.training.tokenised_set import KEY, SCHEMA, TokenisedSet, write_tokenised
from tests.bad_inputs.refusals import refused

ABOUT = {"version": 1}


def example(number: int, **changes: list[int]) -> Example:
    prompt = {"receiver_ids": [1, 2, 3], "sharer_ids": [1, 2], "token_map": [0, 1]} | changes
    return Example(AlignedPrompt(**prompt), [4, 5 + number % 90], str(number))


def good(path: Path, count: int = 600) -> Path:
    write_tokenised(path, map(example, range(count)), ABOUT, {})
    return path


def rewritten(path: Path, table: pa.Table, about: object = ABOUT, rows: int = 256) -> None:
    text = about if isinstance(about, str) else json.dumps(about)
    pq.write_table(table.replace_schema_metadata({KEY: text}), path, row_group_size=rows)


def column(name: str, change: Callable[[list[list[int]]], object]) -> Callable[[Path], None]:
    """Put another first value into a column."""

    def spoil(path: Path) -> None:
        table = pq.read_table(path)
        values = table[name].to_pylist()
        values[0] = change(values)
        place = table.column_names.index(name)
        rewritten(path, table.set_column(place, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type)))

    return spoil


def byte_of_the_data(path: Path) -> None:
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(SCHEMA.names.index("response_ids"))
    content[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)


SPOILT: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "cut off in the middle": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "first half missing": lambda path: path.write_bytes(path.read_bytes()[path.stat().st_size // 2 :]),
    "random bytes": lambda path: path.write_bytes(os.urandom(4096)),
    "JSON lines": lambda path: path.write_text('{"id": "a", "prompt": "b", "response": "c"}\n'),
    "parquet of another kind": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "other columns": lambda path: rewritten(path, pa.table({"a": [1]})),
    "columns of another type": lambda path: rewritten(
        path, pq.read_table(path).set_column(6, "prompt_tokens", pa.array([3] * 600, pa.int64()))
    ),
    "no example": lambda path: rewritten(path, pq.read_table(path)[:0]),
    "groups of another size": lambda path: rewritten(path, pq.read_table(path), rows=100),
    "a newer version": lambda path: rewritten(path, pq.read_table(path), {"version": 2}),
    "a version that is text": lambda path: rewritten(path, pq.read_table(path), {"version": "1"}),
    "metadata that are a list": lambda path: rewritten(path, pq.read_table(path), [1]),
    "metadata that are no JSON": lambda path: rewritten(path, pq.read_table(path), "{"),
    "metadata nested 100,000 times": lambda path: rewritten(path, pq.read_table(path), "[" * 100_000),
    "counts that are text": lambda path: rewritten(path, pq.read_table(path), {"version": 1, "left_out": "none"}),
    "a byte of the data changed": byte_of_the_data,
    "a negative id": column("response_ids", lambda values: [-1, 5]),
    "ids that are null": column("receiver_ids", lambda values: None),
    "a map of another length": column("token_map", lambda values: [0, 1, 2]),
    "fewer ids than counted": column("response_ids", lambda values: [4]),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_set_is_refused_before_an_example_of_it_is_learned(name, tmp_path) -> None:
    path = good(tmp_path / "set.parquet")
    SPOILT[name](path)
    with refused("tokenise"):
        TokenisedSet(path)[0]


def test_the_set_that_is_spoilt_here_is_a_good_one_before(tmp_path) -> None:
    path = good(tmp_path / "set.parquet")
    assert [each.id for each in TokenisedSet(path)] == [str(number) for number in range(600)]
    rewritten(path, pq.read_table(path))  # as most of the spoilt ones are, with one thing changed
    assert [each.id for each in TokenisedSet(path)] == [str(number) for number in range(600)]


@pytest.mark.parametrize("where", ["the first group", "a later group"])
def test_s12_ids_beyond_32_bits_are_refused_when_they_are_written(where, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tokenised_set, "ROW_GROUP", 2)
    examples = [example(number) for number in range(5)]
    examples[0 if where == "the first group" else 4] = example(9, receiver_ids=[1, 2**33, 3])
    with refused("32 bits", "8589934592"):
        write_tokenised(tmp_path / "set.parquet", examples, ABOUT, {})
    assert not list(tmp_path.iterdir())


def test_what_is_no_number_is_refused_when_it_is_written(tmp_path) -> None:
    with refused("32 bits"):
        write_tokenised(tmp_path / "set.parquet", [example(0, sharer_ids=["a"])], ABOUT, {})  # type: ignore[list-item]
