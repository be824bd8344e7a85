"""Own checkpoints: config.json, model.safetensors, and a manifest of contract and hashes, in one folder a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2c.checkpoints.checkpoint_folder import (
    CONFIG,
    FILES,
    FORMAT,
    MANIFEST,
    PART,
    WEIGHTS,
    Description,
    describe_folder,
    read_config,
    read_manifest,
)
from c2c.checkpoints.components import Components
from c2c.errors import RefusedError
from c2c.fuser.latent import LatentEncoder, LatentStack
from c2c.fuser.ridge import RidgeStack
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import create_fuser
from c2c.fuser.weights import load_weights
from c2c.models import hub
from c2c.models.contract import Contract, ContractCheck, Lines, check_contract, describe_fusers, describe_model
from c2c.models.loading import Device, Dtype, as_list, load_described
from c2c.provenance import file_hash
from c2c.storage.folders import current, exchange
from c2c.types import CacheShape


def save_stack(
    stack: FuserStack,
    folder: str | Path,
    *,
    receiver: Lines,
    sharer: Lines,
    about: Mapping[str, Any] | None = None,
    check: ContractCheck | None = None,
) -> None:
    """Save one pair's Fusers; those that `folder` held before are there until the new ones are complete.

    Args:
        stack: The Fusers with their links.
        folder: Created if it does not exist. Files of other names stay.
        receiver: Lines of the Receiver, as `c2c.models.contract.describe_model` gives them.
        sharer: Lines of the Sharer.
        about: What else to record: recipe, alignment, training settings, seed.
        check: What an earlier contract of these Fusers let pass, if they were loaded and are saved again.
    """
    with exchange(Path(folder), FILES, PART) as unfinished:
        write_stack(stack, unfinished, receiver, sharer, about or {}, check or ContractCheck())


def write_stack(
    stack: FuserStack, folder: Path, receiver: Lines, sharer: Lines, about: Mapping[str, Any], check: ContractCheck
) -> None:
    """Write the three files into a folder that holds none yet, such as that of an exchange; see `save_stack`."""
    config = {
        "format": FORMAT,
        "sharer": stack.sharer._asdict(),
        "receiver": stack.receiver._asdict(),
        "links": [asdict(link) for _, link in sorted(stack.links.items())],
        "fusers": [fuser.config.to_dict() for fuser in stack.all_fusers()],
        "about": dict(about),
        "contract_check": check.to_dict(),
        **({"latent": stack.encoder.to_dict()} if isinstance(stack, LatentStack) else {}),
        **({"base": {"tokens": stack.base.tokens}} if isinstance(stack, RidgeStack) else {}),
    }
    # Config and weights first: the manifest holds their hashes, and says that the folder is complete.
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in stack.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    manifest = {
        "format": FORMAT,
        "contract": {"receiver": receiver, "sharer": sharer, "fuser": describe_fusers(stack)},
        "sha256": {name: file_hash(folder / name) for name in (CONFIG, WEIGHTS)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def load_stack(folder: str | Path) -> tuple[FuserStack, dict[str, Any]]:
    """The Fusers that `save_stack` saved, in eval mode, and their `about`; no models are compared.

    Raises:
        RefusedError: If a file is missing or changed.
    """
    saved = _load(Path(folder))
    return saved.stack, saved.about


class _Saved(NamedTuple):
    """What a checkpoint holds."""

    stack: FuserStack
    about: dict[str, Any]
    contract: Contract
    check: ContractCheck


def _load(folder: Path) -> _Saved:
    described = describe_folder(folder)
    stack = _build(described)
    # Hashes and forms are those that were described; only now is memory asked for.
    load_weights(stack, load_file(current(folder) / WEIGHTS), WEIGHTS)
    config = described.config
    passed = ContractCheck(**{name: tuple(lines) for name, lines in config["contract_check"].items()})
    return _Saved(stack.eval(), config["about"], described.manifest["contract"], passed)


def _build(described: Description) -> FuserStack:
    """The Fusers with their links, on the meta device."""
    config = described.config
    sharer, receiver = (CacheShape(**config[part]) for part in ("sharer", "receiver"))
    with torch.device("meta"):
        encoder = LatentEncoder.from_dict(sharer, config["latent"]) if "latent" in config else None
        fusers = [create_fuser(fuser) for fuser in described.fusers]
    stack = FuserStack(sharer if encoder is None else encoder.latent, receiver)
    stack.fusers.extend(fusers)  # before any link: their numbers name the tensors in the file
    for link in config["links"]:
        stack.link(link["receiver_layer"], link["sharer_layer"], fusers[link["fuser"]])
    if "base" in config:
        with torch.device("meta"):
            return RidgeStack(stack, config["base"]["tokens"])
    return stack if encoder is None else LatentStack(encoder, stack)


def save_pretrained(
    components: Components,
    folder: str | Path,
    *,
    tokenizers: Sequence[PreTrainedTokenizerBase | None] = (),
    about: Mapping[str, Any] | None = None,
) -> None:
    """Save the Fusers of a RosettaModel (its language models are not copied): one Sharer in `folder`, several in
    ``sharer_1/``, ``sharer_2/`` … of it.

    What `folder` held before is there until all of them are saved: a kill leaves the old Fusers or the new ones.

    The contract names the models that the Fusers are used with now. Where an earlier contract named others, the lines
    that were accepted are saved too (``contract_check``), and loading shows them again.

    Args:
        components: Of the model.
        folder: Created if it does not exist.
        tokenizers: The Receiver's and each Sharer's, so that loading can compare them; none are compared if empty.
        about: What else to record, as in `save_stack`.

    Raises:
        RefusedError: If there is no Sharer, and so no Fuser, or there are tokenizers for some models only.
    """
    if not components.sharers:
        raise RefusedError("A model must have Sharers, and so Fusers, to be saved", "a Receiver alone", "Add a Sharer")
    models = [components.receiver, *components.sharers]
    # A wrapped model, or one that runs elsewhere, is described by its config
    models = [model if isinstance(model, PreTrainedModel) else model.config for model in models]
    if tokenizers and len(tokenizers) != len(models):
        raise RefusedError(
            f"There must be a tokenizer for each of the {len(models)} models",
            len(tokenizers),
            "Pass the Receiver's and each Sharer's, None where there is none",
        )
    lines = [describe_model(*pair) for pair in zip(models, tokenizers or [None] * len(models), strict=True)]
    use = {"fusion": components.fusion, "include_response": components.include_response}
    check = components.contract_check or ContractCheck()
    with exchange(Path(folder), FILES, PART) as unfinished:
        folders = stack_folders(unfinished, len(components.stacks))
        for where, stack, sharer in zip(folders, components.stacks, lines[1:], strict=True):
            where.mkdir(exist_ok=True)
            record = {"receiver": lines[0]["id"], "sharer": sharer["id"], **use, **(about or {})}
            write_stack(stack, where, lines[0], sharer, record, check)


def stack_folders(folder: Path, sharers: int) -> list[Path]:
    """Where `save_pretrained` keeps the Fusers of each Sharer."""
    folder = current(folder)
    return [folder] if sharers == 1 else [folder / f"sharer_{number}" for number in range(1, sharers + 1)]


def load_pretrained(
    source: str | Path | Sequence[str | Path],
    *,
    receiver: Any,
    sharers: Any,
    fusion: str | None = None,
    include_response: bool | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
    override: Sequence[str] = (),
) -> Components:
    """The components of a RosettaModel from checkpoints of `save_pretrained` or ``c2c train``, one a Sharer.

    Args:
        source: The folder or hub id, or one a Sharer.
        receiver: The Receiver: a model, a `c2c.models.loading.LoadedModel` (then its tokenizer is compared too), or
            where both are: folder, model manifest, hub id.
        sharers: The Sharers, as `receiver`, or the config of one that runs elsewhere.
        fusion: ``sequential`` or ``parallel``; that of the checkpoint if None.
        include_response: Whether the response is fused too; that of the checkpoint if None.
        revision: Hub revision of `source`.
        subfolder: Folder inside `source`.
        dtype: Of models that are loaded here (fp32 if None); the Fusers take the Receiver's.
        device: Of models that are loaded here (CPU if None); the Fusers go to the Receiver's.
        override: Lines of the contract that may differ, by name; see `c2c.models.contract.check_contract`.

    Returns:
        The components. Their `contract_check` has the differences that were accepted or noted, now and before the
        Fusers were saved. The `contracts` also hold for caches that are given in place of a Sharer.

    Raises:
        RefusedError: If a file is missing or changed, or the models are not those of the contract, line by line.
    """
    sharer_sources = as_list(sharers)
    folders = [hub.resolve(place, revision, subfolder=subfolder) for place in as_list(source)]
    # One folder for several Sharers holds a folder for each of them.
    if len(folders) == 1:
        folders = stack_folders(folders[0], len(sharer_sources))
    if len(folders) != len(sharer_sources):
        received = f"{len(sharer_sources)} and {len(folders)}"
        raise RefusedError("Each Sharer must have one FuserStack", received, "Pass one folder a Sharer")
    for folder in folders:
        read_config(folder)  # before any language model is loaded
    described = [load_described(model, dtype, device) for model in (receiver, *sharer_sources)]
    return load_components(folders, described, override=override, fusion=fusion, include_response=include_response)


def load_components(
    folders: Sequence[Path],
    described: Sequence[tuple[Any, Lines]],
    *,
    fusion: str | None = None,
    include_response: bool | None = None,
    override: Sequence[str] = (),
) -> Components:
    """The components of a RosettaModel of loaded models and saved Fusers.

    Args:
        folders: Fusers of each Sharer.
        described: The Receiver, then each Sharer, with their lines.
        fusion: As in `load_pretrained`.
        include_response: As in `load_pretrained`.
        override: As in `load_pretrained`.

    Raises:
        RefusedError: As in `load_pretrained`.
    """
    (receiver, lines), sharers = described[0], described[1:]
    checkpoints = [_load(folder) for folder in folders]
    for checkpoint in checkpoints:
        # Before the comparison, so that a change of their precision is noted.
        checkpoint.stack.to(receiver.device, receiver.dtype)
    # Compare the models that are here with those of the contracts
    models = [
        {"receiver": lines, "sharer": sharer, "fuser": describe_fusers(checkpoint.stack)}
        for (_, sharer), checkpoint in zip(sharers, checkpoints, strict=True)
    ]
    contracts = [checkpoint.contract for checkpoint in checkpoints]
    check = check_contract(contracts, models, override)
    # Settings that are left out are those of the first checkpoint
    about = checkpoints[0].about
    return Components(
        receiver=receiver,
        sharers=[model for model, _ in sharers],
        stacks=[checkpoint.stack for checkpoint in checkpoints],
        fusion=fusion or about.get("fusion", "sequential"),
        include_response=bool(about.get("include_response")) if include_response is None else include_response,
        contracts=contracts,
        override=as_list(override),
        contract_check=ContractCheck().merged(*(checkpoint.check for checkpoint in checkpoints), check),
        about=[checkpoint.about for checkpoint in checkpoints],
    )
