"""JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from c2c.provenance import write_atomically


def write_lines(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write one JSON object a line."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
