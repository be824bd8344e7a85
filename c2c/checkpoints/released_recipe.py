"""The recipe that lies beside published fusers: for which models they are, and how they are to be used (spec §1.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.models.contract import Contract
from c2c.storage.formats import read_yaml
from c2c.storage.manifests import check_kinds, check_size
from c2c.types import FUSIONS

RECIPE = "config.json"
DOWNLOAD_AGAIN = "Download it again"
KINDS = {"is_do_alignment": bool, "alignment_strategy": str, "include_response": bool, "multi_source_fusion_mode": str}
MOST_BYTES = 2**20
"""Bytes of a recipe; those that are published have a few thousand."""
MODELS = {"base_model": "receiver", "teacher_model": "sharer"}


@dataclass(frozen=True)
class ReleasedRecipe:
    """What a published ``config.json`` says that matters for use.

    Args:
        ids: Of the ``receiver`` and the ``sharer``, as far as they are named.
        settings: Those of KINDS that are given, in the reference's words.
        found: Whether there is a recipe at all.
    """

    ids: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    found: bool = True

    @property
    def fusion(self) -> str | None:
        """How several Sharers are fused; None if it does not say."""
        return self.settings.get("multi_source_fusion_mode")

    def contract(self, several: bool) -> Contract:
        """The lines that it fixes; the fusion only if there are `several` Sharers."""
        parts: Contract = {part: {"id": name} for part, name in self.ids.items()}
        return parts | ({"fuser": {"fusion": self.fusion}} if several and self.fusion else {})


def read_recipe(folder: Path) -> ReleasedRecipe:
    """The recipe of a published folder, or of the one around it where that is its ``final/``.

    Raises:
        RefusedError: If there is one that cannot be read, or a model's name in it is no text.
    """
    path = (folder.parent if folder.name == "final" else folder) / RECIPE
    if not path.is_file():
        return ReleasedRecipe(found=False)
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
    # A recipe that was written as YAML is published under the same name, and JSON is YAML.
    content = read_yaml(path, DOWNLOAD_AGAIN)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise RefusedError(
            f"{RECIPE} of published fusers must hold a section model, as JSON or YAML", content, DOWNLOAD_AGAIN
        )
    return model
