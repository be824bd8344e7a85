"""Checks of config and tables against their schemas.

Imports no torch, so that `snakemake -n` answers in seconds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from c2c.errors import RefusedError
from c2c.fuser.config import VARIANTS
from c2c.settings import json_schema
from c2c.storage.formats import read_text, read_yaml
from workflow.config import ID, ID_FORM, ScaleConfig

TABLE_SCHEMAS = Path(__file__).parent / "schemas" / "tables.schema.yaml"
Row = dict[str, Any]
Table = dict[str, Row]
RESTORE = "Restore the file, or correct it; config/README.md explains its columns"
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}")
NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
GREATEST = 10**12
"""Greatest number that a config or table may hold: no count, size or seed is greater."""
MOST_LISTED = 12
"""Names that a message lists at most."""
DEEPEST = 20
"""Lists and mappings inside each other that a config may have."""


def check_config(config: Mapping[str, Any]) -> None:
    """Check the merged config against its schema.

    Raises:
        RefusedError: At the first key or value that breaks it.
    """
    check(config, _config_schema(), "config")


def read_table(path: Path, schema: str = "") -> Table:
    """Rows of a tab-separated table of config/ by their id, in the file's order; `schema` is its file's name if empty.

    Raises:
        RefusedError: The file is missing, no whole UTF-8 text, without rows, has other columns than the schema, an
            impossible cell, or an id twice.
    """
    if not path.is_file():
        raise RefusedError(
            "Each table of the config must exist", str(path), "Restore it, or run from the repository's root"
        )
    key = _table_schemas()[schema or path.stem]["key"]
    table: Table = {}
    for number, row in enumerate(read_rows(path, schema), start=2):
        if row[key] in table:
            raise RefusedError(f"An id must stand once in {path.name}", row[key], f"Rename line {number} or drop it")
        table[row[key]] = row
    return table


def read_rows(path: Path, schema: str = "") -> Iterator[Row]:
    """Rows of a table in the file's order; cells of a file ``.csv`` have commas between, those of others tabs.

    Raises:
        RefusedError: As `read_table`, but for a missing file and an id that stands twice.
    """
    about = row_schema(schema or path.stem)
    columns = about["properties"]
    for number, cells in enumerate(_cells(path, list(columns)), start=2):
        row = {name: _value(cell, columns[name], about["$defs"]) for name, cell in cells.items()}
        check(row, about, f"{path.name}, line {number}")
        yield row


def row_schema(table: str) -> dict[str, Any]:
    """The schema of a row of a table."""
    schemas = _table_schemas()
    return {"$defs": schemas["$defs"], "properties": schemas[table]["properties"]}


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Refuse the first thing in `value` that breaks `schema`; unknown keys come before impossible values.

    Numbers must be finite and at most `GREATEST`, since each comparison of a schema holds for NaN.
    """
    for place, number in _numbers(value, where):
        if isinstance(number, float) and not math.isfinite(number):
            raise RefusedError(f"{place} must be a finite number", number, _REMEDY)
        if abs(number) > GREATEST:
            raise RefusedError(f"{place} must be a number of at most {GREATEST:.0e}", number, _REMEDY)
    errors = _Validator(schema).iter_errors(value)
    ranked = sorted(errors, key=lambda e: (e.validator != "additionalProperties", len(e.absolute_path)))
    if ranked:
        raise _refusal(ranked[0], where)


def check_known(what: str, received: str, names: Iterable[str], home: str, remedy: str) -> None:
    """Refuse a name that is not among `names`, with the nearest of them, and with all where they are few.

    Args:
        what: Whose name it is: ``The pair of a run``.
        received: The name.
        names: The names that are allowed.
        home: What has these names: ``a row of config/pairs.tsv``.
        remedy: What the user can do about it.

    Raises:
        RefusedError: The name is another.
    """
    if received not in (choices := list(names)):
        listing = f"Names: {', '.join(choices)}. " if 0 < len(choices) <= MOST_LISTED else ""
        raise RefusedError(f"{what} must be {home}", received, f"{_nearest(received, choices)}{listing}{remedy}")


def check_row(what: str, received: str, rows: Iterable[str], table: str) -> None:
    """Refuse an id that is not among the `rows` of a table of config/, as `check_known`."""
    check_known(what, received, rows, f"a row of config/{table}.tsv", f"Add it to config/{table}.tsv")


def _refusal(error: jsonschema.ValidationError, where: str) -> RefusedError:
    place = ".".join([where, *(str(part) for part in error.absolute_path)])
    if error.validator == "additionalProperties":
        keys = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in keys)
        return RefusedError(
            f"{place} must have only known keys", unknown, f"{_nearest(unknown, keys)}Known: {', '.join(keys)}"
        )
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        rule = f"{place} must have every required key"
        return RefusedError(rule, f"without {', '.join(missing)}", f"Add {missing[0]!r}")
    if error.validator == "enum":
        allowed = [str(choice) for choice in error.validator_value if choice is not None]
        remedy = f"{_nearest(str(error.instance), allowed)}Choose one of: {', '.join(allowed)}"
        return RefusedError(f"{place} must be a known name", error.instance, remedy)
    if error.validator == "pattern":
        # A user reads characters in words, not a regular expression.
        form = ID_FORM if error.validator_value == ID else error.schema["$comment"]
        place = f"A key of {place}" if "propertyNames" in error.schema_path else place
        return RefusedError(f"{place} must consist of {form}", error.instance, _REMEDY)
    return RefusedError(f"{place} must {_RULES[error.validator](error.validator_value)}", error.instance, _REMEDY)


_REMEDY = "Correct the value; config/README.md explains the key"
_RULES = {
    "type": lambda types: f"be of type {' or '.join([types] if isinstance(types, str) else types)}",
    "minimum": lambda least: f"be at least {least}",
    "maximum": lambda most: f"be at most {most}",
    "exclusiveMinimum": lambda bound: f"be greater than {bound}",
    "exclusiveMaximum": lambda bound: f"be less than {bound}",
    "minItems": lambda count: f"list at least {count}",
    "minLength": lambda _: "not be empty",
    "minProperties": lambda count: f"name at least {count}",
    "uniqueItems": lambda _: "list nothing twice",
}


@cache
def _config_schema() -> dict[str, Any]:
    """The schema that ``schemas/config.schema.yaml`` holds for editors."""
    return json_schema(ScaleConfig)


@cache
def _table_schemas() -> Any:
    """The schemas of the tables, read once; the variants of a recipe are those that ``c2c`` has."""
    schemas = read_yaml(TABLE_SCHEMAS, "Restore the file")
    schemas["recipes"]["properties"]["variant"]["enum"] = list(VARIANTS)
    return schemas


def _is_whole(_: Any, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# JSON Schema takes 250.0 for an integer; no command does.
_Validator: Any = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole),
)


def _numbers(value: Any, where: str, depth: int = 0) -> Iterator[tuple[str, int | float]]:
    """Each number in `value`, with its place.

    Raises:
        RefusedError: If `value` is nested beyond `DEEPEST`, as one that holds itself is.
    """
    if depth > DEEPEST:
        raise RefusedError(f"{where.split('.')[0]} must be nested at most {DEEPEST} deep", where, "Write it flat")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield where, value
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _numbers(part, f"{where}.{key}", depth + 1)


def _nearest(received: str, names: list[str]) -> str:
    near = difflib.get_close_matches(str(received), names, n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def _cells(path: Path, columns: list[str]) -> list[dict[str, str]]:
    text, separator = read_text(path, RESTORE), "," if path.suffix == ".csv" else "\t"
    # A file that was cut in its last cell has all of its tabs.
    if not text.endswith("\n"):
        raise RefusedError(f"{path.name} must end its last line", text[-80:], "Restore the file, which may be cut off")
    header, *lines = (line.removesuffix("\r").split(separator) for line in text.removesuffix("\n").split("\n"))
    if header != columns:
        raise RefusedError(
            f"The columns of {path.name} must be {', '.join(columns)}", ", ".join(header), "Correct its first line"
        )
    if not lines:
        raise RefusedError(f"{path.name} must have a row", "its first line alone", RESTORE)
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise RefusedError(
                f"{path.name}, line {number} must have {len(columns)} cells",
                len(line),
                "Separate cells by one " + ("comma" if separator == "," else "tab"),
            )
        if unprintable := [cell for cell in line if not cell.isprintable()]:
            raise RefusedError(f"{path.name}, line {number} must be printable text", unprintable[0], RESTORE)
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _value(cell: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """A cell as the schema's type; left as text where it does not parse, for the schema to refuse."""
    if cell == "":
        return None
    rules = definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
    types = [rules["type"]] if isinstance(rules.get("type"), str) else rules.get("type", ["string"])
    if "integer" in types and WHOLE_NUMBER.fullmatch(cell):
        return int(cell)
    if "number" in types and NUMBER.fullmatch(cell):
        return float(cell)
    return cell
