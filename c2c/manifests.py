"""JSON files that say what other files hold: read, and checked key by key, so that a spoilt one is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from c2c.formats import read_json

COPY_AGAIN = "Copy the folder again"
WORDS = {int: "a whole number", str: "text", list: "a list", dict: "an object"}
COUNT = {"layers": int, "heads": int, "head_dim": int}
"""Keys of a `CacheShape` in JSON."""


def read_object(path: Path, remedy: str = COPY_AGAIN) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        RefusedError: If it is not there, not UTF-8, not JSON, or no object.
    """
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise RefusedError(f"{path.name} must be JSON and hold an object", type(content).__name__, remedy)
    return content


def check_keys(
    where: str,
    content: Any,
    keys: Mapping[str, type],
    *,
    optional: Sequence[str] = (),
    remedy: str = COPY_AGAIN,
) -> None:
    """Refuse what is no object with exactly these keys.

    Args:
        where: What the message calls it.
        content: As JSON has it.
        keys: What each key's value must be.
        optional: Those of `keys` that may be missing.
        remedy: Of the refusal.

    Raises:
        RefusedError: With each key that is missing, unknown, or of another kind.
    """
    if not isinstance(content, Mapping):
        raise RefusedError(f"{where} must be an object", type(content).__name__, remedy)
    wrong = [f"no {key}" for key in keys if key not in content and key not in optional]
    wrong += [f"unknown {key}" for key in content if key not in keys]
    wrong += [f"{key} is {content[key]!r:.80}, not {WORDS[kind]}" for key, kind in keys.items()
              if key in content and not _is(content[key], kind)]  # fmt: skip
    if wrong:
        raise RefusedError(f"{where} must hold {', '.join(keys)}", wrong, remedy)


def check_counts(where: str, content: Mapping[str, Any], least: int = 1, remedy: str = COPY_AGAIN) -> None:
    """Refuse an object with a whole number below `least`.

    Raises:
        RefusedError: With each of them.
    """
    low = [f"{key} is {value}" for key, value in content.items() if _is(value, int) and value < least]
    if low:
        raise RefusedError(f"Numbers in {where} must be at least {least}", low, remedy)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
