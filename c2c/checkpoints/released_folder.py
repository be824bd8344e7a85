"""The folder of released fusers: its layout, its recipe, and the manifest that names it.

Released fusers are those that the paper's authors put on the hub, in the reference's layout
(``docs/reference-behaviour.md``, "Checkpoint folder"). In a workflow they are fetched once, where the network is, and
found again by their manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.models import hub
from c2c.models.contract import Contract
from c2c.storage.formats import read_yaml
from c2c.storage.manifests import RELEASED, check_kinds, check_size, describe_source, is_manifest, read_source
from c2c.types import FUSIONS, UNALIGNED

RECIPE = "config.json"
DOWNLOAD_AGAIN = "Download it again"
STRATEGIES = ("first", "longest")
"""Token alignments of the released code, where a recipe aligns tokens."""
KINDS = {"is_do_alignment": bool, "alignment_strategy": str, "include_response": bool, "multi_source_fusion_mode": str}
MOST_BYTES = 2**20
"""Bytes of a recipe; the released ones have a few thousand."""
MODELS = {"base_model": "receiver", "teacher_model": "sharer"}


@dataclass(frozen=True)
class ReleasedRecipe:
    """The settings of a released ``config.json`` on which the use of its fusers depends.

    Args:
        ids: Of the ``receiver`` and the ``sharer``, as far as they are named.
        settings: Those of KINDS that are there, in the reference's words.
        exists: Whether the folder has a recipe.
    """

    ids: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    exists: bool = True

    @property
    def fusion(self) -> str | None:
        """How several Sharers are fused; None if the recipe does not name it."""
        return self.settings.get("multi_source_fusion_mode")

    @property
    def alignment(self) -> str:
        """The token alignment that the fusers were trained with: ``first``, ``longest``, or `UNALIGNED`.

        Raises:
            RefusedError: If the recipe names another one.
        """
        if not self.settings.get("is_do_alignment"):
            return UNALIGNED
        name = str(self.settings.get("alignment_strategy", "first"))
        if name not in STRATEGIES:
            names = ", ".join(STRATEGIES)
            raise RefusedError(f"alignment_strategy of {RECIPE} must be one of: {names}", name, DOWNLOAD_AGAIN)
        return name

    def contract(self, several: bool) -> Contract:
        """The lines of a contract that the recipe fixes; the fusion only if there are `several` Sharers."""
        parts: Contract = {part: {"id": name} for part, name in self.ids.items()}
        return parts | ({"fuser": {"fusion": self.fusion}} if several and self.fusion else {})


def read_recipe(folder: Path) -> ReleasedRecipe:
    """The recipe of a released folder; of the one above it, if `folder` is its ``final/``.

    Raises:
        RefusedError: If there is one that cannot be read, or a model's name in it is no text.
    """
    path = (folder.parent if folder.name == "final" else folder) / RECIPE
    if not path.is_file():
        return ReleasedRecipe(exists=False)
    model = _model_section(path)
    ids = {part: model[name] for name, part in MODELS.items() if name in model}
    for part, name in ids.items():
        if not isinstance(name, str):
            raise RefusedError(
                f"{RECIPE} must name one {part} for the fusers of one folder", name, "Give each Sharer its own folder"
            )
    check_kinds(f"model in {RECIPE}", model, KINDS, nullable=True, remedy=DOWNLOAD_AGAIN)
    settings = {name: model[name] for name in KINDS if model.get(name) is not None}
    if "multi_source_fusion_mode" in settings:
        check_choice("multi_source_fusion_mode", settings["multi_source_fusion_mode"], FUSIONS)
    return ReleasedRecipe(ids, settings)


def _model_section(path: Path) -> dict[str, Any]:
    check_size(path, MOST_BYTES, DOWNLOAD_AGAIN)
    # A recipe that was written as YAML is released under the same name, and JSON is YAML.
    content = read_yaml(path, DOWNLOAD_AGAIN)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise RefusedError(
            f"{RECIPE} of released fusers must hold a section model, as JSON or YAML", content, DOWNLOAD_AGAIN
        )
    return model


def describe_released(hub_id: str, subfolder: str, revision: str | None) -> dict[str, Any]:
    """The manifest of released fusers, which are fetched if they are not on this machine yet.

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
    # Where the files are, and which commit they are of
    folder = hub.resolve(hub_id, revision, subfolder=subfolder or None)
    root = folder.parents[len(Path(subfolder).parts) - 1] if subfolder else folder
    source = "folder" if Path(hub_id).is_dir() else "hub" if hub.mirror_folder(hub_id) is None else "mirror"
    # The models that they are of, and how their tokens align
    recipe = read_recipe(folder)
    return describe_source(
        folder,
        kind=RELEASED,
        id=hub_id,
        subfolder=subfolder,
        revision=revision,
        path=None if source == "mirror" else str(folder),
        source=source,
        resolved=root.name if source == "hub" else hub.revision_of(root),
        models=recipe.ids,
        alignment=recipe.alignment,
    )


def is_released(source: str | Path) -> bool:
    """Whether `source` is a manifest of `describe_released`, or a folder in the released layout."""
    path = Path(source)
    if is_manifest(path):
        return read_source(path).get("kind") == RELEASED
    return (path / "final").is_dir() or (path / "projector_config.json").is_file()


def resolve_released(source: str | Path) -> Path:
    """The folder of released fusers: `source` itself, or that of a manifest, with whose hashes its files are compared.

    Raises:
        RefusedError: If a file is missing or is not the one that was fetched.
    """
    return Path(source) if Path(source).is_dir() else hub.resolve(source)


def released_alignment(source: str | Path) -> str:
    """The token alignment that released fusers, a folder or a manifest, were trained with.

    Returns:
        ``first``, ``longest``, or `UNALIGNED`.

    Raises:
        RefusedError: If their recipe names another one.
    """
    path = Path(source)
    return str(read_source(path)["alignment"]) if path.is_file() else read_recipe(path).alignment
