"""Loads released fusers; the reference's words are used in the modules of released fusers only.

See ``docs/reference-behaviour.md``, "Checkpoint folder" and "Parameter names".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from c2c.cache.shape import cache_shape
from c2c.checkpoints.components import Components
from c2c.checkpoints.released_folder import DOWNLOAD_AGAIN, ReleasedRecipe, is_released, read_recipe, resolve_released
from c2c.checkpoints.released_weights import forms_of, read_state
from c2c.errors import RefusedError, check_choice, excerpt
from c2c.fuser.config import FuserConfig
from c2c.fuser.layer import Fuser
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import create_fuser
from c2c.fuser.weights import check_depth, check_forms, forms, load_weights
from c2c.models import hub
from c2c.models.contract import ContractCheck, check_contract
from c2c.models.loading import Device, Dtype, ModelSource, SharerSource, as_list, identify, load_sharer
from c2c.storage.manifests import check_kinds, read_object
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
) -> Components:
    """The components of a RosettaModel from released fusers.

    Their recipe, ``config.json``, names the two models and nothing else of them, so only ids can be compared. A model
    that was built in code has none; that is noted. The layout has no hashes either: where there is no manifest of
    ``c2c fetch-fuser`` and no commit of the hub, it is noted that files may have been exchanged.

    Args:
        source: Folder, hub id or manifest of ``c2c fetch-fuser`` with the fusers of one pair; a list, one a Sharer.
        receiver: The Receiver, or where it is.
        sharers: The Sharers, or where they are, or the config of one that runs elsewhere.
        subfolder: Of the pair inside `source`, for all Sharers or one a Sharer; only it is downloaded.
        revision: Hub revision of `source`.
        fusion: ``sequential`` or ``parallel``; that of the recipe if None.
        include_response: Whether the response is fused too; that of the recipe if None.
        dtype: Of models that are loaded here (fp32 if None); the Fusers take the Receiver's.
        device: Of models that are loaded here (CPU if None); the Fusers go to the Receiver's.
        override: What may differ from the recipe, by name: ``receiver.id``, ``sharer.id``; with several Sharers
            ``sharer_1.id``, ``fuser_1.fusion`` and so on.

    Returns:
        The components, with `contract_check`, and `released_settings`: those of each recipe for alignment, response
        and fusion.

    Raises:
        RefusedError: If files are missing, a name in them is unknown or missing, or a fuser does not fit the models
            or was trained for others.
    """
    # 1. One folder a Sharer
    sources, sharer_sources = as_list(source), as_list(sharers)
    subfolders = [subfolder] * len(sources) if subfolder is None or isinstance(subfolder, str) else list(subfolder)
    if not len(sources) == len(sharer_sources) == len(subfolders):
        raise RefusedError(
            "Each Sharer must have one folder of fusers",
            f"{len(sources)} source(s), {len(subfolders)} subfolder(s), {len(sharer_sources)} Sharer(s)",
            "Pass lists of the same length",
        )
    folders = [_find(place, revision, inner) for place, inner in zip(sources, subfolders, strict=True)]
    # 2. Recipes, before any model is loaded
    recipes = [read_recipe(folder) for folder in folders]
    fusion = fusion or recipes[0].fusion or "sequential"
    check = _check_recipes(recipes, receiver, sharer_sources, fusion, override)
    check = check.merged(ContractCheck(noted=tuple(_unvouched(sources, folders))))
    # 3. Models and fusers
    models = [load_sharer(model, dtype, device) for model in (receiver, *sharer_sources)]
    fuses_response = recipes[0].settings.get("include_response", False)
    return Components(
        receiver=models[0],
        sharers=models[1:],
        stacks=_read_stacks(folders, models),
        fusion=fusion,
        include_response=fuses_response if include_response is None else include_response,
        contracts=[recipe.contract(several=False) for recipe in recipes],
        override=as_list(override),
        contract_check=check,
        released_settings=[recipe.settings for recipe in recipes],
    )


def _find(source: str | Path, revision: str | None, subfolder: str | None) -> Path:
    """The folder of one pair; of a manifest, after its files have been compared with its hashes."""
    if _has_hashes(source):
        return resolve_released(source)
    return hub.resolve(source, revision, subfolder=subfolder)


def _has_hashes(source: str | Path) -> bool:
    return Path(source).suffix == ".json" and is_released(source)


def _unvouched(sources: Sequence[str | Path], folders: Sequence[Path]) -> list[str]:
    """A line for each folder whose files have no hash, so that an exchange would not be noticed."""
    return [
        f"fusers of Sharer {number}: nothing vouches for their files, which have no hash (c2c fetch-fuser writes them)"
        for number, (source, folder) in enumerate(zip(sources, folders, strict=True), start=1)
        if not _has_hashes(source) and not any(hub.revision_of(place) for place in (folder, folder.parent))
    ]


def _read_stacks(folders: Sequence[Path], models: Sequence[Any]) -> list[FuserStack]:
    """The fusers of each Sharer, where the Receiver is; `models` are the Receiver and the Sharers or their configs."""
    receiver = models[0]
    shape, *shapes = (cache_shape(model if isinstance(model, PreTrainedConfig) else model.config) for model in models)
    return [
        read_stack(folder, sharer=sharer, receiver=shape).to(receiver.device, receiver.dtype)
        for folder, sharer in zip(folders, shapes, strict=True)
    ]


def _check_recipes(
    recipes: Sequence[ReleasedRecipe],
    receiver: ModelSource,
    sharers: Sequence[SharerSource],
    fusion: str,
    override: Sequence[str],
) -> ContractCheck:
    """Compare the ids, before any model is loaded. One Sharer's caches are fused the same in both fusions."""
    several = len(recipes) > 1
    models = [
        {"receiver": {"id": identify(receiver).id}, "sharer": {"id": identify(sharer).id}, "fuser": {"fusion": fusion}}
        for sharer in sharers
    ]
    check = check_contract([recipe.contract(several) for recipe in recipes], models, override)
    silent = [
        f"fusers of Sharer {number}: no config.json says for which models they are"
        for number, recipe in enumerate(recipes, start=1)
        if not recipe.exists
    ]
    return ContractCheck(check.accepted, (*check.noted, *silent))


def read_stack(folder: Path, *, sharer: CacheShape, receiver: CacheShape) -> FuserStack:
    """The fusers of one released folder, which holds them itself or in ``final/``.

    The files are checked first, in the order of `c2c.fuser.weights`: numbers are read last.

    Raises:
        RefusedError: If a file, key or layer is missing, unknown or of the wrong size.
    """
    final = folder / "final" if (folder / "final").is_dir() else folder
    # 1. JSON: counts are bounded by the files that are there, and by the models' layers
    layer_map = _read_layer_map(final / "projector_config.json")
    numbers = [
        int(match[1]) for path in final.iterdir() if (match := re.fullmatch(r"projector_(\d{1,9})\.pt", path.name))
    ]
    used = {fuser for _, fuser in layer_map.values()}
    if used != set(range(len(numbers))):
        raise RefusedError(
            f"The layer map must use the fusers 0 to {len(numbers) - 1} that {final.name}/ holds",
            sorted(used),
            "Download the folder again, or repair projector_config.json",
        )
    if absent := sorted(used - set(numbers)):
        rule = "Released fusers must be numbered from 0 without a gap"
        raise RefusedError(rule, f"no projector_{absent[0]}.pt", DOWNLOAD_AGAIN)
    # 2. Fusers on the meta device, with their links; no deeper than the tensors in their files allow
    configs = [_read_config(final / f"projector_{number}.json") for number in range(len(numbers))]
    states = [read_state(final / f"projector_{number}.pt") for number in range(len(numbers))]
    for number, (config, state) in enumerate(zip(configs, states, strict=True)):
        check_depth(config, len(state), f"projector_{number}.pt")
    with torch.device("meta"):
        fusers = [create_fuser(config) for config in configs]
    stack = FuserStack(sharer, receiver)
    for layer, (sharer_layer, number) in sorted(layer_map.items()):
        stack.link(layer, sharer_layer, fusers[number])
    # 3. names, shapes and dtypes of the tensors in the files
    for number, (fuser, state) in enumerate(zip(fusers, states, strict=True)):
        check_forms(forms(fuser), forms_of(state), f"projector_{number}.pt")
    # 4. memory and numbers
    for number, (fuser, state) in enumerate(zip(fusers, states, strict=True)):
        load_weights(fuser, state, f"projector_{number}.pt")
    return stack


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RefusedError(
            "A released folder must hold projector_config.json and a projector_{i}.json for each projector_{i}.pt",
            f"no {path.name} in {path.parent.name}/",
            "Name the folder of one pair, or download it again",
        )
    return read_object(path, DOWNLOAD_AGAIN)


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
    if type(sharer_layer) is not int or type(fuser) is not int:
        raise TypeError(f"the pair {excerpt(pairs)}")
    return sharer_layer, fuser


def _read_config(path: Path) -> FuserConfig:
    content = _read_json(path)
    name = check_choice("The class of a released fuser", content.get("class", ""), CLASSES)
    check_kinds(path.name, content, {"init_args": dict}, remedy=DOWNLOAD_AGAIN)
    arguments = {**DEFAULTS, **content.get("init_args", {})}
    missing = [argument for argument in REQUIRED if argument not in arguments]
    if missing:
        raise RefusedError(f"init_args of {name} must hold {' and '.join(REQUIRED)}", arguments, f"Add {missing[0]}")
    # Only the ablation class has levels; C2CProjector is level 0.
    level = arguments.pop("ablation_level", 0) if name == "AblationProjector" else 0
    sizes: dict[str, Any] = {}
    for argument, value in arguments.items():
        if argument not in WITHOUT_EFFECT:
            check_choice(f"An argument of {name}", argument, ARGUMENTS)
            sizes[ARGUMENTS[argument]] = value
    levels = range(len(ABLATION_LEVELS))
    if type(level) is not int or level not in levels:
        raise RefusedError(
            f"ablation_level of {path.name} must be one of: {', '.join(map(str, levels))}", level, DOWNLOAD_AGAIN
        )
    return FuserConfig(variant=ABLATION_LEVELS[level], **sizes)
