"""What differs between two runs of one scale (``volatile.yaml``), and the hash of a file without that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

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


def _steady(path: Path) -> bytes:
    """The content of a file; of a table, without its volatile columns."""
    tails = ["/".join(path.parts[at:]) for at in range(len(path.parts))]
    rules: dict[str, list[str]] = read_rules()["columns"]
    fitting = [names for pattern, names in rules.items() if any(fnmatch(tail, pattern) for tail in tails)]
    volatile = [name for names in fitting for name in names]
    if not volatile or path.suffix not in (".csv", ".parquet"):
        return path.read_bytes()
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = [column for column in frame if not any(fnmatch(str(column), pattern) for pattern in volatile)]
    return frame[columns].to_csv(index=False).encode()
