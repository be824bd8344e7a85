"""Turns the name of a model or data set into a folder: local path, mirror, hub (design §7)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.provenance import file_hash

MIRRORS = "C2C_HUB_MIRROR"
KINDS = ("model", "dataset")


def mirrored(hub_id: str) -> Path | None:
    """The folder ``<mirror>/<owner>/<name>`` in the first folder of C2C_HUB_MIRROR that has it."""
    for mirror in os.environ.get(MIRRORS, "").split(os.pathsep):
        folder = Path(mirror) / hub_id
        if mirror and folder.is_dir():
            return folder
    return None


def resolve(source: str | Path, revision: str | None = None, kind: str = "model") -> Path:
    """The folder of a model or data set.

    Args:
        source: A folder, a model manifest (``.json``, see `describe`), or a hub id ``owner/name``.
        revision: Commit, tag or branch on the hub; mirrors and folders have only one.
        kind: ``model`` or ``dataset``.

    Raises:
        RefusedError: If nothing has that name, or the hub cannot be reached.
    """
    check_choice("A kind of hub repository", kind, KINDS)
    path = Path(source)
    if path.suffix == ".json" and path.is_file():
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return resolve(manifest["path"] or manifest["id"], manifest.get("revision"), kind)
    if path.is_dir():
        return path
    return mirrored(str(source)) or _download(str(source), revision, kind)


def _download(hub_id: str, revision: str | None, kind: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, repo_type=kind))
    except Exception as error:
        raise RefusedError(
            f"A {kind} must be a folder, a mirrored id or an id that the hub has",
            f"{hub_id} (revision {revision}): {type(error).__name__}",
            f"Check the name, fetch it where the network is (c2c fetch), or name a mirror folder in {MIRRORS}",
        ) from error


def describe(hub_id: str, revision: str | None) -> dict[str, Any]:
    """The manifest of a fetched model: id, revision asked for, what it resolved to, and a hash of its config.

    Fetches the model if it is not here yet.
    """
    folder = resolve(hub_id, revision)
    source = "folder" if Path(hub_id).is_dir() else "hub" if mirrored(hub_id) is None else "mirror"
    return {
        "id": hub_id,
        "revision": revision,
        "path": None if source == "mirror" else str(folder),
        "source": source,
        "resolved": folder.name if source == "hub" else None,
        "config_sha256": file_hash(folder / "config.json"),
    }
