"""What can become of a file: ways to spoil it, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

HUGE = 10**400
"""A number of 401 digits, as JSON may have it."""


class Bomb:
    """A pickle of 100 bytes that allocates a terabyte when it is loaded, by a call that torch takes for harmless."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**40,)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def sparse(path: Path) -> None:
    """A file that says it has 64 GB and takes none."""
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(2**36)


def claim_terabytes(path: Path) -> None:
    """A safetensors file of a few hundred bytes whose header names a tensor of four terabytes."""
    header = {"fusers.0.key_in.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def fill_megabytes(path: Path) -> None:
    """A safetensors file with a tensor of 128 MB that nobody needs, all zeros, which takes no room on the disk."""
    header = {"extra": {"dtype": "F32", "shape": [2**25], "data_offsets": [0, 2**27]}}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + 2**27)


WAYS: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": half,
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "a list": lambda path: path.write_text("[1, 2]"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "64 GB": sparse,
}
"""What can become of any file, whatever it is."""
