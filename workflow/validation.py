"""Config and tables against their schemas: every refusal names the rule, the value and the remedy.

Imports no torch, so that `snakemake -n` answers in seconds.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from c2c.errors import RefusedError

SCHEMAS = Path(__file__).parent / "schemas"
Row = dict[str, Any]
Table = dict[str, Row]


def check_config(config: Mapping[str, Any]) -> None:
    """Hold the merged config against its schema.

    Raises:
        RefusedError: At the first key or value that breaks it.
    """
    check(config, yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text()), "config")


def read_table(path: Path, schema: str = "") -> Table:
    """Rows of a tab-separated table of config/ by their id, in the file's order; `schema` is its file's name if empty.

    Raises:
        RefusedError: The file is missing, has other columns than the schema, an impossible cell, or an id twice.
    """
    if not path.is_file():
        raise RefusedError(
            "Each table of the config exists", str(path), "Restore it, or run from the repository's root"
        )
    schemas = yaml.safe_load((SCHEMAS / "tables.schema.yaml").read_text())
    about = schemas[schema or path.stem]
    columns = about["properties"]
    row_schema = {"$defs": schemas["$defs"], "properties": columns}
    table: Table = {}
    for number, cells in enumerate(_cells(path, list(columns)), start=2):
        row = {name: _value(cell, columns[name], schemas["$defs"]) for name, cell in cells.items()}
        check(row, row_schema, f"{path.name}, line {number}")
        if row[about["key"]] in table:
            raise RefusedError(
                f"An id stands once in {path.name}", row[about["key"]], f"Rename line {number} or drop it"
            )
        table[row[about["key"]]] = row
    return table


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Refuse the first thing in `value` that breaks `schema`; unknown keys come before impossible values."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    ranked = sorted(errors, key=lambda e: (e.validator != "additionalProperties", len(e.absolute_path)))
    if ranked:
        raise _refusal(ranked[0], where)


def check_known(what: str, received: str, known: Iterable[str], remedy: str) -> None:
    """Refuse a name that is not in `known`, with the nearest one."""
    if received not in (names := list(known)):
        raise RefusedError(f"{what} is known", received, f"{_nearest(received, names)}{remedy}")


def _refusal(error: jsonschema.ValidationError, where: str) -> RefusedError:
    place = ".".join([where, *(str(part) for part in error.absolute_path)])
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        return RefusedError(
            f"{place} has only known keys", unknown, f"{_nearest(unknown, known)}Known: {', '.join(known)}"
        )
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return RefusedError(f"{place} has every required key", f"without {', '.join(missing)}", f"Add {missing[0]!r}")
    if error.validator == "enum":
        allowed = [str(choice) for choice in error.validator_value]
        hint = _nearest(str(error.instance), allowed)
        return RefusedError(f"{place} is a known name", error.instance, f"{hint}Choose one of: {', '.join(allowed)}")
    return RefusedError(f"{place} {_RULES[error.validator](error.validator_value)}", error.instance, _REMEDY)


_REMEDY = "Correct the value; config/README.md explains the key"
_RULES = {
    "type": lambda wanted: f"is of type {' or '.join([wanted] if isinstance(wanted, str) else wanted)}",
    "minimum": lambda least: f"is at least {least}",
    "maximum": lambda most: f"is at most {most}",
    "exclusiveMinimum": lambda bound: f"is greater than {bound}",
    "exclusiveMaximum": lambda bound: f"is less than {bound}",
    "pattern": lambda pattern: f"has the form {pattern}",
    "minItems": lambda count: f"lists at least {count}",
    "minLength": lambda _: "is not empty",
    "minProperties": lambda count: f"names at least {count}",
    "uniqueItems": lambda _: "lists nothing twice",
}


def _nearest(received: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(received), known, n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def _cells(path: Path, columns: list[str]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    if header != columns:
        raise RefusedError(
            f"The columns of {path.name} are {', '.join(columns)}", ", ".join(header), "Correct its first line"
        )
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise RefusedError(
                f"{path.name}, line {number} has {len(columns)} cells", len(line), "Separate cells by one tab"
            )
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _value(cell: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """A cell as the schema's type; left as text where it does not parse, for the schema to refuse."""
    if cell == "":
        return None
    wanted = (definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema).get("type", "string")
    types = [wanted] if isinstance(wanted, str) else wanted
    for name, parse in (("integer", int), ("number", float)):
        if name in types:
            try:
                return parse(cell)
            except ValueError:
                return cell
    return cell
