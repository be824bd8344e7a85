"""Text, JSON, JSON lines and YAML, as every package of this project reads and writes them. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from c2c.errors import RefusedError, excerpt
from c2c.storage.files import write_atomically

MOST_NODES = 100_000
"""Values that a YAML document may have once its aliases are written out."""


def read_text(path: Path, remedy: str, where: str = "") -> str:
    """The text of a file.

    Args:
        path: The file.
        remedy: Of a refusal.
        where: What a refusal calls the file; its name if empty.

    Raises:
        RefusedError: If it is no file, is not UTF-8, or begins with a byte order mark, which no writer here makes.
    """
    where = where or path.name
    try:
        # Newlines stay as they are: a lone carriage return ends no line of JSON lines.
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        rule = f"{where} must be UTF-8 text"
        raise RefusedError(rule, f"byte {error.object[error.start]:#04x} at {error.start}", remedy) from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise RefusedError(f"{where or 'A path'} must be a file", str(path), remedy) from error
    if text.startswith("\ufeff"):
        raise RefusedError(f"{where} must be UTF-8 text without a byte order mark", "a byte order mark", remedy)
    return text


class _DoubledKeyError(ValueError):
    """Two equal keys, of which Python's readers would keep the last."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubledKeyError(f"two keys {excerpt(next(key for key in keys if keys.count(key) > 1))}")
    return content


def parse_json(text: str, where: str, remedy: str) -> Any:
    """The value of a JSON text.

    Raises:
        RefusedError: If it is no JSON, is nested too deeply to be read, or has a key twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _DoubledKeyError as error:
        raise RefusedError(f"Each key of an object in {where} must be there once", str(error), remedy) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{where} must be JSON", str(error), remedy) from error


def read_json(path: Path, remedy: str) -> Any:
    """The value that a JSON file holds.

    Raises:
        RefusedError: As `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, remedy), path.name, remedy)


def read_json_lines(path: Path, remedy: str, where: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines; see `parse_json_lines`, and `read_text` for the arguments.

    Raises:
        RefusedError: As `read_text` and `parse_json_lines`.
    """
    yield from parse_json_lines(read_text(path, remedy, where), where or path.name, remedy)


def parse_json_lines(text: str, where: str, remedy: str) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""The objects of JSON lines, each with the number of its line, from 1; blank lines are skipped.

    A line ends with ``\n`` alone, as https://jsonlines.org has it: JSON text may hold U+2028, U+2029 and U+0085, at
    which ``str.splitlines`` would cut it.

    Raises:
        RefusedError: With its number, at a line that is no JSON object or holds a lone surrogate.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"Line {number} of {where}"
        row = parse_json(line, place, remedy)
        if not isinstance(row, dict):
            raise RefusedError(f"{place} must be a JSON object", row, remedy)
        # Escaped, half of a surrogate pair is valid JSON; no tokenizer and no file can take it.
        if "\\ud" in line.lower() and not _encodes(row):
            raise RefusedError(f"{place} must hold text that can be written as UTF-8", line, remedy)
        yield number, row


def _encodes(row: Mapping[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; the file is there whole or not at all."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path, content: Any) -> None:
    """Write one JSON value; the file is there whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def read_yaml(path: Path, remedy: str, where: str = "") -> Any:
    """The value that a YAML file holds, of plain types: a tag such as ``!function`` runs nothing and is refused.

    The arguments are those of `read_text`.

    Raises:
        RefusedError: As `read_text` and `parse_yaml`.
    """
    return parse_yaml(read_text(path, remedy, where), where or path.name, remedy)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a mapping with two equal keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before ``<<`` adds keys of others, which its own may replace."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        names: set[Any] = set()
        for key, _ in node.value:
            # `<<` may stand twice, and merges mappings whose keys may repeat.
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key)
            if not isinstance(name, Hashable):
                continue  # the constructor refuses it
            if name in names:
                raise _DoubledKeyError(f"a second {excerpt(name)} in line {key.start_mark.line + 1}")
            names.add(name)
        return node


def parse_yaml(text: str, where: str, remedy: str) -> Any:
    """The value of a YAML text.

    Raises:
        RefusedError: If it is no YAML, has a tag, has a key twice in one mapping, is nested too deeply, or grows beyond
            MOST_NODES values once its aliases are written out.
    """
    try:
        content = yaml.load(text, _Loader)
        nodes = _count(content, {})
    except _DoubledKeyError as error:
        raise RefusedError(f"Each key in {where} must be there once", str(error), remedy) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RefusedError(f"{where} must be YAML of plain values", str(error), remedy) from error
    if nodes > MOST_NODES:
        raise RefusedError(f"{where} must have at most {MOST_NODES} values", f"{excerpt(nodes)} with aliases", remedy)
    return content


def _count(value: Any, counted: dict[int, int]) -> int:
    """Values in `value`, with those behind aliases counted each time."""
    if not isinstance(value, (list, dict)):
        return 1
    # An alias is the same object: its values are counted once, and added each time.
    if id(value) not in counted:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(part, counted) for part in parts)
    return counted[id(value)]
