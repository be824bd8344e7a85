"""Writes a benchmark that is made here as a data set in the Croissant format: Parquet files and ``croissant.json``.

    python -m benchmarks.croissant --name gap_private_line --output exchange/gap_private_line
        --files test=results/laptop/data/benchmarks/gap_private_line.jsonl

Others load it with mlcroissant, or with any library that reads Croissant 1.0 (https://docs.mlcommons.org/croissant).
Each ``split=file`` is a record set. Parquet keeps types, which JSON lines do not: a code "0412" would be read as a
number. A value that is a list of objects, or an object, is a text of JSON. After writing, the folder is validated and
all its records are read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import pandas as pd
import yaml

from c2c.errors import RefusedError, check_choice, exit_code
from c2c.provenance import SUFFIX, file_hash, stamp
from c2c.storage.files import written_whole
from c2c.storage.formats import read_json_lines, read_yaml, write_json
from c2c.storage.manifests import read_object

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTIONS = ROOT / "benchmarks/croissant.yaml"
TASKS = ROOT / "benchmarks/tasks"
GENERATED = ("gap", "world")
"""Sources of the benchmarks of `TASKS` that are made here."""
METADATA = "croissant.json"
CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
PARQUET = "application/x-parquet"
Row = Mapping[str, Any]
TYPES = {bool: mlc.DataType.BOOL, int: mlc.DataType.INTEGER, float: mlc.DataType.FLOAT, str: mlc.DataType.TEXT}


def descriptions() -> dict[str, str]:
    """What each benchmark that is made here asks, by name: tasks of the test bed, and folders of `TASKS`."""
    content = read_yaml(DESCRIPTIONS, f"Restore {DESCRIPTIONS.name}")["data_sets"]
    for path in sorted(TASKS.glob("*/*.yaml")):
        # A benchmark is <name>/<name>.yaml; prompts have tags of lm-eval and are not read here.
        metadata = (yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader) or {}).get("metadata", {})
        if path.stem == path.parent.name and metadata.get("source") in GENERATED:
            content[path.stem] = metadata["description"]
    return dict(content)


class Column:
    """One field of the rows of a file: its type, and its values as Parquet holds them.

    Args:
        name: Key of the rows.
        rows: All rows of the file; a row without the key has None.
    """

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        values = [row.get(name) for row in rows]
        self.name = name
        self.is_list = any(isinstance(value, list) for value in values)
        parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
        kinds = {type(part) for part in parts if part is not None}
        self.is_json = len(kinds) > 1 or not kinds <= set(TYPES)
        if self.is_json:
            self.is_list, kinds = False, {str}
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        self.data_type = TYPES[kinds.pop()] if kinds else mlc.DataType.TEXT
        self.values = values

    def series(self) -> pd.Series[Any]:
        """The values; whole numbers stay whole where some are missing."""
        is_whole = self.data_type == mlc.DataType.INTEGER and not self.is_list
        return pd.Series(self.values, dtype="Int64" if is_whole else object)

    def field(self, split: str, description: str) -> mlc.Field:
        """The field of the record set of a split."""
        source = mlc.Source(file_object=f"{split}.parquet", extract=mlc.Extract(column=self.name))
        return mlc.Field(
            id=f"{split}/{self.name}",
            name=self.name,
            description=description + (" (as JSON)" if self.is_json else ""),
            data_types=[self.data_type],
            repeated=self.is_list,
            source=source,
        )


def write(name: str, files: Mapping[str, Path], output: Path) -> None:
    """Write the data set.

    Args:
        name: A name in `descriptions`.
        files: File of JSON lines by split.
        output: Folder of the Parquet files and of ``croissant.json``.

    Raises:
        RefusedError: The name is not known, a file has no rows, or a row has a field that nothing describes.
    """
    texts, known = read_yaml(DESCRIPTIONS, f"Restore {DESCRIPTIONS.name}"), descriptions()
    check_choice("The data set", name, known)
    distribution, record_sets = [], []
    for split, path in files.items():
        rows = [row for _, row in read_json_lines(path, "Make the benchmark first")]
        if not rows:
            raise RefusedError("A split must have rows", str(path), "Make the benchmark anew")
        columns = [Column(key, rows) for key in dict.fromkeys(key for row in rows for key in row)]
        if missing := [column.name for column in columns if column.name not in texts["fields"]]:
            raise RefusedError("A field must be described", missing, f"Describe it in {DESCRIPTIONS.name}")
        # The file, then its description with the hash of what was written
        target = output / f"{split}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as unfinished:
            pd.DataFrame({column.name: column.series() for column in columns}).to_parquet(unfinished)
        distribution.append(
            mlc.FileObject(
                id=target.name,
                name=target.name,
                description=f"{len(rows)} records of the split {split}",
                content_url=target.name,
                encoding_formats=[PARQUET],
                sha256=file_hash(target),
            )
        )
        fields = [column.field(split, texts["fields"][column.name]) for column in columns]
        record_sets.append(mlc.RecordSet(id=split, name=split, description=f"The split {split}", fields=fields))
    metadata = mlc.Metadata(
        conforms_to=CONFORMS_TO,
        name=name,
        description=f"{known[name].strip()} {_making(files)}".strip(),
        **_about(),
        **texts["responsible_ai"],
        distribution=distribution,
        record_sets=record_sets,
    )
    write_json(output / METADATA, metadata.to_json())


def _about() -> dict[str, Any]:
    """Licence, version, creators and address of this software, which made the data."""
    about = read_yaml(ROOT / "CITATION.cff", "Restore CITATION.cff")
    creators = [
        mlc.Organization(name=author["name"])
        if "name" in author
        else mlc.Person(name=f"{author['given-names']} {author['family-names']}")
        for author in about["authors"]
    ]
    return {
        "license": [f"https://spdx.org/licenses/{about['license']}.html"],
        "version": str(about["version"]),
        "creators": creators,
        "cite_as": f"{about['title']}, version {about['version']}",
        "url": about.get("url"),
        "date_published": about.get("date-released"),
    }


def _making(files: Mapping[str, Path]) -> str:
    """The settings that made the files, from their provenance, where it is there."""
    stamps = [path.with_name(path.name + SUFFIX) for path in files.values()]
    records = [read_object(path, "Make the benchmark anew") for path in stamps if path.is_file()]
    # Files of the test bed differ in their split alone, which the record sets name.
    settings = [{key: value for key, value in record["settings"].items() if key != "split"} for record in records]
    if not settings or any(entry != settings[0] for entry in settings):
        return ""
    return f"Made with {', '.join(f'{key} {value}' for key, value in settings[0].items())}."


def check(folder: Path) -> dict[str, int]:
    """Validate a data set and read all its records, as others would.

    Returns:
        The number of records by split.

    Raises:
        RefusedError: mlcroissant does not accept it.
    """
    try:
        data_set = mlc.Dataset(folder / METADATA)
        splits = [record_set.id for record_set in data_set.metadata.record_sets]
        return {split: sum(1 for _ in data_set.records(split)) for split in splits}
    except (mlc.ValidationError, mlc.GenerationError, OSError, ValueError) as error:
        rule = "A data set must keep the rules of Croissant"
        raise RefusedError(rule, f"{folder}: {error}", "Write it anew: benchmarks.croissant") from error


def _file(text: str) -> tuple[str, Path]:
    split, is_pair, path = text.partition("=")
    if not (is_pair and split.isidentifier() and path):
        raise argparse.ArgumentTypeError(f"must be split=file, such as test=questions.jsonl, and not {text!r}")
    return split, Path(path)


def _run(options: argparse.Namespace) -> None:
    files = dict(options.files)
    if len(files) != len(options.files):
        raise RefusedError("A split must have one file", [split for split, _ in options.files], "Name each split once")
    with stamp(options.output / METADATA, inputs=files.values(), settings={"name": options.name}):
        write(options.name, files, options.output)
    counts = ", ".join(f"{count} records in {split}" for split, count in check(options.output).items())
    print(f"{options.output / METADATA}: {counts}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="which benchmark: gap_private_line, redacted_word, ...")
    parser.add_argument("--files", type=_file, nargs="+", required=True, metavar="SPLIT=FILE", help="JSON lines")
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.croissant", lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
