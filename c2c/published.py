"""Published fusers in a workflow: fetched once where the network is, and found again by their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from c2c import hub
from c2c.errors import RefusedError
from c2c.manifests import read_object
from c2c.provenance import file_hash
from c2c.released_recipe import RECIPE, ReleasedRecipe, read_recipe
from c2c.types import TOKEN_ALIGNMENTS

UNALIGNED = "none"
"""The Sharer is handed the Receiver's tokens, template and all."""
KIND = "published fusers"
"""What a manifest of `describe` says that it is of; a model's says nothing."""


def describe(hub_id: str, subfolder: str, revision: str | None) -> dict[str, Any]:
    """The manifest of published fusers, which are fetched if they are not here yet.

    Args:
        hub_id: Hub id, or a folder.
        subfolder: Folder of one pair inside it; only that is downloaded. Empty for the whole.
        revision: Commit, tag or branch.

    Returns:
        ``id``, ``subfolder`` and ``revision`` as asked for, ``resolved``, the two models and the alignment that the
        recipe names, and the SHA-256 of each file.

    Raises:
        RefusedError: If nothing has that name, or the recipe cannot be used.
    """
    folder = hub.resolve(hub_id, revision, subfolder=subfolder or None)
    root = folder.parents[len(Path(subfolder).parts) - 1] if subfolder else folder
    source = "folder" if Path(hub_id).is_dir() else "hub" if hub.mirrored(hub_id) is None else "mirror"
    recipe = read_recipe(folder)
    return {
        "kind": KIND,
        "id": hub_id,
        "subfolder": subfolder,
        "revision": revision,
        "path": None if source == "mirror" else str(folder),
        "source": source,
        "resolved": root.name if source == "hub" else hub.revision_of(root),
        "models": recipe.ids,
        "alignment": _alignment(recipe),
        "sha256": {name: file_hash(path) for name, path in _files(folder).items()},
    }


def is_published(source: str | Path) -> bool:
    """Whether `source` is a manifest of `describe`, or a folder in the published layout."""
    path = Path(source)
    if path.suffix == ".json" and path.is_file():
        return read_object(path).get("kind") == KIND
    return (path / "final").is_dir() or (path / "projector_config.json").is_file()


def find(source: str | Path) -> Path:
    """The folder of published fusers: `source` itself, or the one of a manifest, whose files are compared with it.

    Raises:
        RefusedError: If a file is missing or is not the one that was fetched.
    """
    path = Path(source)
    if path.is_dir():
        return path
    manifest = read_object(path)
    if manifest["path"]:
        folder = hub.resolve(manifest["path"])
    else:
        folder = hub.resolve(manifest["id"], manifest["revision"], subfolder=manifest["subfolder"] or None)
    found = {name: file_hash(each) for name, each in _files(folder).items()}
    if found != manifest["sha256"]:
        differ = sorted(name for name in found | manifest["sha256"] if found.get(name) != manifest["sha256"].get(name))
        raise RefusedError(f"Published fusers are those of {path.name}", differ, "Fetch them again: c2c fetch-fuser")
    return folder


def alignment_of(source: str | Path) -> str:
    """The token alignment that published fusers, a folder or a manifest, were trained with.

    Returns:
        ``first``, ``longest``, or `UNALIGNED`.

    Raises:
        RefusedError: If their recipe names another one.
    """
    path = Path(source)
    return str(read_object(path)["alignment"]) if path.is_file() else _alignment(read_recipe(path))


def _alignment(recipe: ReleasedRecipe) -> str:
    if not recipe.settings.get("is_do_alignment"):
        return UNALIGNED
    named = str(recipe.settings.get("alignment_strategy", "first"))
    if named not in TOKEN_ALIGNMENTS:
        known = ", ".join(TOKEN_ALIGNMENTS)
        raise RefusedError(f"alignment_strategy of {RECIPE} is one of: {known}", named, "Download it again")
    return named


def _files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
