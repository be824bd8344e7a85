"""Writes fusers in the layout of the released ones, so that the reference's code can load them.

See ``docs/reference-behaviour.md``, "Checkpoint folder" and "Parameter names".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from c2c.checkpoints.checkpoint import load_stack
from c2c.checkpoints.checkpoint_folder import read_config
from c2c.checkpoints.released import ABLATION_LEVELS, ARGUMENTS
from c2c.checkpoints.released_folder import RECIPE, STRATEGIES
from c2c.errors import RefusedError
from c2c.fuser.config import FuserConfig
from c2c.models import hub
from c2c.types import UNALIGNED


def write_released(fuser: str | Path, folder: Path) -> None:
    """Write a checkpoint in the released layout: a file of weights and one of settings for each Fuser, and a recipe.

    Args:
        fuser: Folder or hub id of a checkpoint of one Sharer.
        folder: Made if it does not exist; it must be empty.

    Raises:
        RefusedError: If the folder holds something, or the layout has no place for the variant or the alignment.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError("The folder of converted fusers must be empty", str(folder), "Name another folder")
    stack, config = load_stack(hub.resolve(fuser))[0], read_config(hub.resolve(fuser))
    # What the layout can say: everything else is refused before a file is written.
    about, contract = config["about"], config["contract_check"]
    recipe = {"model": _model(about)}
    links = sorted(stack.links.items())
    arguments = [_arguments(stack.fuser_of(layer).config) for layer, _ in links]
    # A file of weights and one of settings for each Fuser
    final = folder / "final"
    final.mkdir(parents=True, exist_ok=True)
    layer_map = {}
    for number, ((layer, link), content) in enumerate(zip(links, arguments, strict=True)):
        torch.save(dict(stack.fuser_of(layer).state_dict()), final / f"projector_{number}.pt")
        (final / f"projector_{number}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        layer_map[str(layer)] = [[link.sharer_layer, number]]
    # Which Fuser is whose, and the recipe
    (final / "projector_config.json").write_text(json.dumps({"0": {"1": layer_map}}, indent=1) + "\n", encoding="utf-8")
    recipe["contract_check"] = contract
    (folder / RECIPE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")


def _arguments(config: FuserConfig) -> dict[str, Any]:
    """The settings of a Fuser in the reference's words."""
    if config.variant not in ABLATION_LEVELS:
        rule = f"A fuser of the released layout must be of a variant that it has: {', '.join(ABLATION_LEVELS)}"
        raise RefusedError(rule, config.variant, "Keep it as a checkpoint of this package")
    values = {word: getattr(config, name) for word, name in ARGUMENTS.items()}
    if config.variant == ABLATION_LEVELS[0]:
        return {"class": "C2CProjector", "init_args": values}
    return {"class": "AblationProjector", "init_args": values | {"ablation_level": ABLATION_LEVELS.index(config.variant)}}


def _model(about: dict[str, Any]) -> dict[str, Any]:
    """The recipe's section about the models and how they are used."""
    alignment = about.get("alignment", UNALIGNED)
    if alignment not in (*STRATEGIES, UNALIGNED):
        rule = f"A pair of the released layout must be aligned by one of: {', '.join((*STRATEGIES, UNALIGNED))}"
        raise RefusedError(rule, alignment, "Train with --alignment first or longest, or keep the checkpoint")
    ids = {"base_model": about.get("receiver"), "teacher_model": about.get("sharer")}
    section: dict[str, Any] = {word: name for word, name in ids.items() if name}
    section |= {"include_response": bool(about.get("include_response", False))}
    section |= {"multi_source_fusion_mode": about.get("fusion", "sequential")}
    aligned = {} if alignment == UNALIGNED else {"alignment_strategy": alignment}
    return section | {"is_do_alignment": alignment != UNALIGNED, **aligned}
