"""Published fusers in a workflow: fetched once where the network is, and found again by their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from c2c.checkpoints.released_recipe import RECIPE, ReleasedRecipe, read_recipe
from c2c.errors import RefusedError
from c2c.models import hub
from c2c.storage.manifests import PUBLISHED, describe_source, is_manifest, read_source
from c2c.types import TOKEN_ALIGNMENTS, UNALIGNED


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
    return describe_source(
        folder,
        kind=PUBLISHED,
        id=hub_id,
        subfolder=subfolder,
        revision=revision,
        path=None if source == "mirror" else str(folder),
        source=source,
        resolved=root.name if source == "hub" else hub.revision_of(root),
        models=recipe.ids,
        alignment=_alignment(recipe),
    )


def is_published(source: str | Path) -> bool:
    """Whether `source` is a manifest of `describe`, or a folder in the published layout."""
    path = Path(source)
    if is_manifest(path):
        return read_source(path).get("kind") == PUBLISHED
    return (path / "final").is_dir() or (path / "projector_config.json").is_file()


def find(source: str | Path) -> Path:
    """The folder of published fusers: `source` itself, or the one of a manifest, whose files are compared with it.

    Raises:
        RefusedError: If a file is missing or is not the one that was fetched.
    """
    return Path(source) if Path(source).is_dir() else hub.resolve(source)


def alignment_of(source: str | Path) -> str:
    """The token alignment that published fusers, a folder or a manifest, were trained with.

    Returns:
        ``first``, ``longest``, or `UNALIGNED`.

    Raises:
        RefusedError: If their recipe names another one.
    """
    path = Path(source)
    return str(read_source(path)["alignment"]) if path.is_file() else _alignment(read_recipe(path))


def _alignment(recipe: ReleasedRecipe) -> str:
    if not recipe.settings.get("is_do_alignment"):
        return UNALIGNED
    named = str(recipe.settings.get("alignment_strategy", "first"))
    if named not in TOKEN_ALIGNMENTS:
        known = ", ".join(TOKEN_ALIGNMENTS)
        raise RefusedError(f"alignment_strategy of {RECIPE} must be one of: {known}", named, "Download it again")
    return named
