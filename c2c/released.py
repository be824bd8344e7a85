"""Reads fusers in the published layout (reference spec §1.5). Here, and only here, the reference's words are used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from c2c import hub
from c2c.cache_shape import cache_shape
from c2c.contract import ContractCheck, check_contract
from c2c.errors import RefusedError, check_choice
from c2c.fuser.config import VARIANTS, FuserConfig
from c2c.fuser.layer import Fuser
from c2c.fuser.stack import FuserStack
from c2c.loading import Device, Dtype, ModelSource, SharerSource, as_list, identify, load_sharer
from c2c.released_recipe import ReleasedRecipe, read_recipe
from c2c.rosetta import RosettaModel
from c2c.types import CacheShape

CLASSES = ("C2CProjector", "AblationProjector")
ABLATION_LEVELS = ("full", "unweighted", "fuse", "project", "ungated")
ARGUMENTS = {  # the reference's constructor arguments and ours
    "source_dim": "sharer_head_dim",
    "target_dim": "receiver_head_dim",
    "source_num_heads": "sharer_heads",
    "target_num_heads": "receiver_heads",
    "intermediate_dim": "intermediate_dim",
    "hidden_dim": "hidden_dim",
    "num_layers": "num_layers",
    "dropout": "dropout",
    "initial_temperature": "initial_temperature",
    "final_temperature": "final_temperature",
    "anneal_steps": "anneal_steps",
}
REQUIRED = ("source_dim", "target_dim")
DEFAULTS = {"source_num_heads": 1, "target_num_heads": 1}
WITHOUT_EFFECT = {"dtype", "device", "zero_init"}  # on a fuser whose weights are read from a file


def load_released(
    source: str | Path | Sequence[str | Path],
    *,
    receiver: ModelSource,
    sharers: Sequence[SharerSource] | SharerSource,
    subfolder: str | Sequence[str] | None = None,
    revision: str | None = None,
    fusion: str | None = None,
    include_response: bool | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
    override: Sequence[str] = (),
) -> RosettaModel:
    """A RosettaModel from fusers as the reference publishes them.

    Their recipe, ``config.json``, names the two models and says nothing else about them: ids are all that can be
    compared. A model that was built in code has none; that is noted.

    Args:
        source: A folder or hub id with the fusers of one pair, or a list of them, one a Sharer.
        receiver: The Receiver, or where it is.
        sharers: The Sharers, or where they are, or the config of one that runs elsewhere.
        subfolder: Folder of the pair inside `source`, for all Sharers or one a Sharer; only it is downloaded.
        revision: Hub revision of `source`.
        fusion: ``sequential`` or ``parallel``; as the recipe says if None.
        include_response: Whether the response is fused too; as the recipe says if None.
        dtype: Of models that are loaded here (fp32 if None); the Fusers take the Receiver's.
        device: Of models that are loaded here (CPU if None); the Fusers go to the Receiver's.
        override: What may differ from the recipe, by name: ``receiver.id``, ``sharer.id``; with several Sharers
            ``sharer_1.id``, ``fuser_1.fusion`` and so on.

    Returns:
        The model in eval mode, with `contract_check`, and `released_settings`: what each recipe says of alignment,
        response and fusion.

    Raises:
        RefusedError: If files are missing, a name in them is unknown or missing, or a fuser does not fit the models
            or was trained for others.
    """
    sources, named = as_list(source), as_list(sharers)
    subfolders = [subfolder] * len(sources) if subfolder is None or isinstance(subfolder, str) else list(subfolder)
    if not len(sources) == len(named) == len(subfolders):
        raise RefusedError(
            "Each Sharer needs one folder of fusers",
            f"{len(sources)} source(s), {len(subfolders)} subfolder(s), {len(named)} Sharer(s)",
            "Pass lists of the same length",
        )
    folders = [hub.resolve(where, revision, subfolder=inner) for where, inner in zip(sources, subfolders, strict=True)]
    recipes = [read_recipe(folder) for folder in folders]
    fusion = fusion or recipes[0].fusion or "sequential"
    check = _check_recipes(recipes, receiver, named, fusion, override)
    model = _assemble(folders, [load_sharer(each, dtype, device) for each in (receiver, *named)], fusion)
    said = bool(recipes[0].settings.get("include_response"))
    model.include_response = said if include_response is None else include_response
    model.contract_check = check
    model.contracts, model.override = [recipe.contract(several=False) for recipe in recipes], as_list(override)
    model.released_settings = [recipe.settings for recipe in recipes]
    return model


def _assemble(folders: Sequence[Path], models: Sequence[Any], fusion: str) -> RosettaModel:
    receiver, sharers = models[0], models[1:]
    shape, *shapes = (cache_shape(each if isinstance(each, PreTrainedConfig) else each.config) for each in models)
    stacks = [
        read_stack(folder, sharer=sharer, receiver=shape).to(receiver.device, receiver.dtype)
        for folder, sharer in zip(folders, shapes, strict=True)
    ]
    return RosettaModel.of_stacks(receiver, sharers, stacks, fusion=fusion).eval()


def _check_recipes(
    recipes: Sequence[ReleasedRecipe],
    receiver: ModelSource,
    sharers: Sequence[SharerSource],
    fusion: str,
    override: Sequence[str],
) -> ContractCheck:
    """Compare what can be known before any model is loaded. One Sharer's caches are fused the same in both fusions."""
    several = len(recipes) > 1
    found = [
        {"receiver": {"id": identify(receiver).id}, "sharer": {"id": identify(sharer).id}, "fuser": {"fusion": fusion}}
        for sharer in sharers
    ]
    check = check_contract([recipe.contract(several) for recipe in recipes], found, override)
    silent = [
        f"fusers of Sharer {number}: no config.json says for which models they are"
        for number, recipe in enumerate(recipes, start=1)
        if not recipe.found
    ]
    return ContractCheck(check.accepted, (*check.noted, *silent))


def read_stack(folder: Path, *, sharer: CacheShape, receiver: CacheShape) -> FuserStack:
    """The fusers of one published folder, which holds them itself or in ``final/``.

    Raises:
        RefusedError: If a file, key or layer is missing, unknown or of the wrong size.
    """
    final = folder / "final" if (folder / "final").is_dir() else folder
    layer_map = _read_layer_map(final / "projector_config.json")
    count = sum(re.fullmatch(r"projector_\d+\.pt", path.name) is not None for path in final.iterdir())
    fusers = [_read_fuser(final, number) for number in range(count)]
    used = {fuser for _, fuser in layer_map.values()}
    if used != set(range(count)):
        raise RefusedError(
            f"The layer map must use the fusers 0 to {count - 1} that {final.name}/ holds",
            sorted(used),
            "Download the folder again, or repair projector_config.json",
        )
    stack = FuserStack(sharer, receiver)
    for layer, (sharer_layer, fuser) in sorted(layer_map.items()):
        stack.link(layer, sharer_layer, fusers[fuser])
    return stack


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise RefusedError(
            "A published folder must hold projector_config.json and a projector_{i}.json for each projector_{i}.pt",
            f"no {path.name} in {path.parent.name}/",
            "Name the folder of one pair, or download it again",
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RefusedError(f"{path.name} must be JSON", str(error), "Download it again") from error


def _read_layer_map(path: Path) -> dict[int, tuple[int, int]]:
    """Receiver layer to (Sharer layer, fuser). The file: ``{target model: {source model: {layer: [[layer, i]]}}}``."""
    try:
        ((target, sources),) = _read_json(path).items()
        ((_, layers),) = sources.items()
        if int(target) != 0:
            raise ValueError(f"target model {target}")
        return {int(layer): _only_pair(pairs) for layer, pairs in layers.items()}
    except (ValueError, AttributeError, TypeError) as error:
        if isinstance(error, RefusedError):
            raise
        raise RefusedError(
            f'{path.name} must be {{"0": {{"1": {{layer: [[sharer layer, fuser]]}}}}}} for one Sharer',
            str(error),
            "Give the fusers of each Sharer as a folder of their own",
        ) from error


def _only_pair(pairs: list[list[int]]) -> tuple[int, int]:
    if len(pairs) != 1:
        raise RefusedError(
            "Each layer must have one [sharer layer, fuser] pair (the reference uses only the first)",
            pairs,
            "Delete the pairs that are not used",
        )
    ((sharer_layer, fuser),) = pairs
    return int(sharer_layer), int(fuser)


def _read_fuser(folder: Path, number: int) -> Fuser:
    fuser = Fuser(_read_config(_read_json(folder / f"projector_{number}.json")))
    weights = folder / f"projector_{number}.pt"
    if not weights.is_file():
        raise RefusedError("Fusers must be numbered from 0 without a gap", f"no {weights.name}", "Download it again")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RefusedError(
            f"{weights.name} must be a pickle of tensors alone", type(error).__name__, "Download it again"
        ) from error
    check_names(fuser.state_dict(), state, weights.name)
    fuser.load_state_dict(state, strict=True)
    return fuser


def _read_config(described: dict[str, Any]) -> FuserConfig:
    name = check_choice("The class of a published fuser", described.get("class", ""), CLASSES)
    given = {**DEFAULTS, **described.get("init_args", {})}
    missing = [argument for argument in REQUIRED if argument not in given]
    if missing:
        raise RefusedError(f"init_args of {name} must hold {' and '.join(REQUIRED)}", given, f"Add {missing[0]}")
    level = given.pop("ablation_level", 0) if name == "AblationProjector" else 0
    sizes: dict[str, Any] = {}
    for argument, value in given.items():
        if argument not in WITHOUT_EFFECT:
            check_choice(f"An argument of {name}", argument, ARGUMENTS)
            sizes[ARGUMENTS[argument]] = value
    check_choice("The ablation level", str(level), [str(known) for known in range(len(ABLATION_LEVELS))])
    return FuserConfig(**{**VARIANTS[ABLATION_LEVELS[level]], **sizes})


def check_names(expected: Mapping[str, Tensor], received: Any, where: str) -> None:
    """Refuse a state dict with missing, unknown, misshapen or non-finite tensors.

    Raises:
        RefusedError: With the names that differ.
    """
    if not isinstance(received, Mapping) or not all(isinstance(each, Tensor) for each in received.values()):
        raise RefusedError(f"{where} must hold tensors by name", type(received).__name__, "Use the matching files")
    wrong = [f"missing {name}" for name in expected if name not in received]
    wrong += [f"unknown {name}" for name in received if name not in expected]
    wrong += [
        f"{name} is {tuple(received[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in received and received[name].shape != tensor.shape
    ]
    wrong += [f"{name} is not finite" for name, tensor in received.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise RefusedError(f"{where} must hold exactly the tensors of its fuser", wrong, "Use the matching files")
