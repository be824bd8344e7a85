"""The recipe that lies beside published fusers: for which models they are, and how they are to be used (spec §1.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from c2c.contract import Contract
from c2c.errors import RefusedError, check_choice
from c2c.types import FUSIONS

RECIPE = "config.json"
SETTINGS = ("is_do_alignment", "alignment_strategy", "include_response", "multi_source_fusion_mode")
MODELS = {"base_model": "receiver", "teacher_model": "sharer"}


@dataclass(frozen=True)
class ReleasedRecipe:
    """What a published ``config.json`` says that matters for use.

    Args:
        ids: Of the ``receiver`` and the ``sharer``, as far as they are named.
        settings: Those of SETTINGS that are given, in the reference's words.
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
    settings = {name: model[name] for name in SETTINGS if model.get(name) is not None}
    if "multi_source_fusion_mode" in settings:
        check_choice("multi_source_fusion_mode", settings["multi_source_fusion_mode"], FUSIONS)
    return ReleasedRecipe(ids, settings)


def _model_section(path: Path) -> dict[str, Any]:
    # A recipe that was written as YAML is published under the same name.
    try:
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        if not isinstance(model, dict):
            raise TypeError(f"model is {type(model).__name__}")
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise RefusedError(
            f"{RECIPE} of published fusers must hold a section model, as JSON or YAML", str(error), "Download it again"
        ) from error
    return model
