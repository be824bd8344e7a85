"""JSON files that say what other files hold: read, and checked key by key, so that a spoilt one is refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError, excerpt
from c2c.storage.file_hashes import folder_hashes
from c2c.storage.formats import read_json

COPY_AGAIN = "Copy the folder again"
WORDS = {int: "a whole number", str: "text", list: "a list", dict: "an object", bool: "true or false"}
LARGEST_COUNT = 2**16
"""Most layers, heads or numbers a head that a model's cache has."""
MOST_BYTES = 64 * 2**20
"""Bytes that a JSON file which only describes others can have."""
COUNT = {"layers": int, "heads": int, "head_dim": int}
"""Keys of a `CacheShape` in JSON."""


def read_object(path: Path, remedy: str = COPY_AGAIN) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        RefusedError: If it is not there, not UTF-8, not JSON, no object, or larger than any that describes files.
    """
    check_size(path, MOST_BYTES, remedy)
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise RefusedError(f"{path.name} must be JSON and hold an object", type(content).__name__, remedy)
    return content


def check_size(path: Path, most: int, remedy: str) -> None:
    """Refuse a file with more than `most` bytes before it is read; a link to a device, or to a pipe, is none.

    Raises:
        RefusedError: With its size.
    """
    if path.exists() and not path.is_file():
        raise RefusedError(f"{path.name} must be a file", "a folder, device or pipe", remedy)
    if path.is_file() and (size := path.stat().st_size) > most:
        raise RefusedError(f"{path.name} must have at most {most} bytes", size, remedy)


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
    # Missing keys, unknown ones, and values of another kind
    wrong = [f"no {key}" for key in keys if key not in content and key not in optional]
    wrong += [f"unknown {key:.80}" for key in content if key not in keys]
    wrong += [f"{key} is {excerpt(content[key])[:80]}, not {WORDS[kind]}" for key, kind in keys.items()
              if key in content and not _is(content[key], kind)]  # fmt: skip
    if wrong:
        raise RefusedError(f"{where} must hold {', '.join(keys)}", wrong, remedy)


def check_kinds(
    where: str,
    content: Mapping[str, Any],
    kinds: Mapping[str, type],
    *,
    nullable: bool = False,
    remedy: str = COPY_AGAIN,
) -> None:
    """Refuse an object in which a key has a value of another kind; keys may be missing, and others there.

    Args:
        where: What the message calls it.
        content: As JSON has it.
        kinds: What each key's value must be.
        nullable: Whether a value may be None instead.
        remedy: Of the refusal.

    Raises:
        RefusedError: With each key.
    """
    wrong = [
        f"{key} is {excerpt(content[key])[:80]}, not {WORDS[kind]}"
        for key, kind in kinds.items()
        if key in content and not _is(content[key], kind) and not (nullable and content[key] is None)
    ]
    if wrong:
        raise RefusedError(f"{where} must hold values of their kind", wrong, remedy)


def check_counts(
    where: str, content: Mapping[str, Any], least: int = 1, most: int | None = None, remedy: str = COPY_AGAIN
) -> None:
    """Refuse an object with a whole number below `least`, or above `most` if there is one.

    Raises:
        RefusedError: With each of them.
    """
    counts = {key: value for key, value in content.items() if _is(value, int)}
    wrong = [f"{key} is {excerpt(value)}" for key, value in counts.items() if value < least]
    if wrong:
        raise RefusedError(f"Numbers in {where} must be at least {least}", wrong, remedy)
    wrong = [f"{key} is {excerpt(value)}" for key, value in counts.items() if most is not None and value > most]
    if wrong:
        raise RefusedError(f"Numbers in {where} must be at most {most}", wrong, remedy)


def _is(value: Any, kind: type) -> bool:
    # In Python a bool is an int; in JSON it is not.
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


FORMAT = 1
RELEASED = "published fusers"
"""``kind`` of the manifest of released fusers, in the words of the first manifests; a model's has none."""
FETCH_AGAIN = "Fetch it again (c2c fetch, c2c fetch-fuser), or train it again, and use the manifest that this writes"
SOURCE_KEYS = {
    "format": int,
    "kind": str,
    "id": str,
    "revision": str,
    "resolved": str,
    "path": str,
    "source": str,
    "subfolder": str,
    "models": dict,
    "alignment": str,
    "sha256": dict,
}
NULLABLE = ("revision", "resolved", "path")
ALWAYS = ("id", "revision", "path", "sha256")
REQUIRED = {None: ALWAYS, RELEASED: (*ALWAYS, "subfolder", "alignment")}
DIGEST = re.compile(r"[0-9a-f]{64}")


def describe_source(
    folder: Path, *, id: str, revision: str | None, path: str | None, source: str, **others: Any
) -> dict[str, Any]:
    """The manifest of a model, or of released fusers, that lies in `folder`.

    Args:
        folder: Where its files are; hidden ones are not part of it.
        id: What records call it: a hub id, or a name.
        revision: The one that was asked for, or a hash of the weights.
        path: The folder as others find it again; None if `id` is enough, as in a mirror.
        source: Who wrote the folder: ``hub``, ``mirror``, ``folder``, or the training.
        **others: More keys of `SOURCE_KEYS`.

    Returns:
        These, and ``sha256`` of each file, which `read_source` gives to whoever uses the folder.
    """
    about = {"format": FORMAT, "id": id, "revision": revision, "path": path, "source": source}
    return {**about, **others, "sha256": folder_hashes(folder)}


def is_manifest(source: str | Path) -> bool:
    """Whether `source` is a manifest by its name: a file that ends in ``.json``."""
    path = Path(source)
    return path.suffix == ".json" and path.is_file()


def check_manifest_place(path: Path) -> None:
    """Refuse to write a manifest over a file that is none, such as a model's ``config.json``.

    Raises:
        RefusedError: If there is such a file.
    """
    if path.is_file() and not {"id", "source"} <= read_object(path, "Name another output").keys():
        raise RefusedError("A manifest must replace no other file", str(path), "Name another output")


def read_source(path: Path) -> dict[str, Any]:
    """The manifest that `describe_source` made.

    Raises:
        RefusedError: If it is none, or was written by another version of this package.
    """
    manifest = read_object(path, FETCH_AGAIN)
    kind, version = manifest.get("kind"), manifest.get("format", FORMAT)
    if version != FORMAT or kind not in (None, RELEASED):
        rule = f"{path.name} must be a manifest of format {FORMAT}, of a model or of released fusers"
        raise RefusedError(rule, {"format": version, "kind": kind}, FETCH_AGAIN)
    # A key that may be null counts as left out where it is.
    stated = {key: value for key, value in manifest.items() if value is not None or key not in NULLABLE}
    optional = [key for key in SOURCE_KEYS if key not in REQUIRED[kind] or (key in NULLABLE and key in manifest)]
    check_keys(path.name, stated, SOURCE_KEYS, optional=optional, remedy=FETCH_AGAIN)
    hashes = manifest["sha256"]
    if not hashes or not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in hashes.values()):
        rule = f"sha256 in {path.name} must hold the SHA-256 of each file, in 64 hexadecimal digits"
        raise RefusedError(rule, hashes, FETCH_AGAIN)
    return manifest
