"""What differs between two runs of one scale (``volatile.yaml``), and the hash of a file without that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.storage.formats import read_yaml

PATH = Path(__file__).parents[1] / "volatile.yaml"


def read_rules(path: Path = PATH) -> dict[str, Any]:
    """What ``volatile.yaml`` lists."""
    rules: dict[str, Any] = read_yaml(path, f"Restore {path.name}")
    return rules


def steady_hash(paths: Iterable[Path]) -> str:
    """SHA-256 of files without what differs between two runs of one scale (``volatile.yaml``), in whichever order."""
    parts = sorted(hashlib.sha256(_steady(path)).hexdigest() for path in paths)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _steady(path: Path) -> bytes | memoryview:
    """The content of a file; of a table, without its volatile columns."""
    tails = ["/".join(path.parts[at:]) for at in range(len(path.parts))]
    lists = [names for pattern, names in _column_rules().items() if any(fnmatch(tail, pattern) for tail in tails)]
    volatile = [name for names in lists for name in names]

    def is_steady(column: str) -> bool:
        return not any(fnmatch(column, pattern) for pattern in volatile)

    if volatile and path.suffix == ".parquet":
        # Arrow's own bytes: text of a million small lists takes most of the time of a table.
        table = pq.ParquetFile(path).read()
        return _arrow_bytes(table.select([column for column in table.column_names if is_steady(column)]))
    if volatile and path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        return frame[[column for column in frame if is_steady(str(column))]].to_csv(index=False).encode()
    return path.read_bytes()


@cache
def _column_rules() -> dict[str, list[str]]:
    """Patterns of volatile columns by the pattern of their file."""
    rules: dict[str, list[str]] = read_rules()["columns"]
    return rules


def _arrow_bytes(table: pa.Table) -> memoryview:
    """Names, types and values of a table, in one stream that does not depend on how its file was cut into groups."""
    plain_table = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain_table.schema) as stream:
        stream.write_table(plain_table)
    return memoryview(sink.getvalue())
