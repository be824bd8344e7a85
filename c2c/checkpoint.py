"""Own checkpoints: config.json, model.safetensors, and a manifest of contract and hashes, in one folder a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2c import hub
from c2c.contract import PARTS, Contract, ContractCheck, Lines, check_contract, describe_fusers, describe_model
from c2c.errors import RefusedError
from c2c.files import write_atomically
from c2c.fuser.config import FuserConfig
from c2c.fuser.latent import LatentEncoder, LatentStack
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import create_fuser
from c2c.loading import Device, Dtype, as_list, load_described
from c2c.manifests import COUNT, check_counts, check_keys, read_object
from c2c.provenance import file_hash
from c2c.types import CacheShape

if TYPE_CHECKING:
    from c2c.rosetta import RosettaModel

FORMAT = 2
CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"
CONFIG_KEYS = {
    "format": int,
    "sharer": dict,
    "receiver": dict,
    "links": list,
    "fusers": list,
    "about": dict,
    "contract_check": dict,
    "latent": dict,
}
LATENT_KEYS = {"shape": dict, "reads": list, "hidden_dim": int}
LINK_KEYS = {"receiver_layer": int, "sharer_layer": int, "fuser": int}
CHECK_KEYS = {"accepted": list, "noted": list}
MANIFEST_KEYS = {"format": int, "contract": dict, "sha256": dict}


def save_stack(
    stack: FuserStack,
    folder: str | Path,
    *,
    receiver: Lines,
    sharer: Lines,
    about: Mapping[str, Any] | None = None,
    check: ContractCheck | None = None,
) -> None:
    """Save one pair's Fusers; the manifest comes last, so a folder without one is unfinished.

    Args:
        stack: The Fusers with their links.
        folder: Created if it does not exist.
        receiver: Lines of the Receiver, as `c2c.contract.describe_model` gives them.
        sharer: Lines of the Sharer.
        about: What else a reader must know: recipe, alignment, training settings, seed.
        check: What an earlier contract of these Fusers let pass, if they were loaded and are saved again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    config = {
        "format": FORMAT,
        "sharer": stack.sharer._asdict(),
        "receiver": stack.receiver._asdict(),
        "links": [asdict(link) for _, link in sorted(stack.links.items())],
        "fusers": [fuser.config.to_dict() for fuser in stack.fusers],  # type: ignore[union-attr,operator]
        "about": dict(about or {}),
        "contract_check": (check or ContractCheck()).to_dict(),
        **({"latent": stack.encoder.to_dict()} if isinstance(stack, LatentStack) else {}),
    }
    write_atomically(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in stack.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    manifest = {
        "format": FORMAT,
        "contract": {"receiver": receiver, "sharer": sharer, "fuser": describe_fusers(stack)},
        "sha256": {name: file_hash(folder / name) for name in (CONFIG, WEIGHTS)},
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest.json of a checkpoint, after its files have been checked against it.

    Raises:
        RefusedError: If a file is missing or changed, the format is another one, or the contract lacks a line.
    """
    folder = Path(folder)
    for name in (MANIFEST, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise RefusedError(f"A fuser folder must hold {name}", str(folder), "Train it to the end, or copy it whole")
    manifest = read_object(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise RefusedError(
            f"A fuser folder must have format {FORMAT}",
            manifest.get("format"),
            "Train the fuser again, since format 1 does not say for which models it is"
            if manifest.get("format") == 1
            else "Use a matching version of this package",
        )
    # What is missing of these is refused below, by what it was to vouch for.
    check_keys(MANIFEST, manifest, MANIFEST_KEYS, optional=("contract", "sha256"))
    for name in (CONFIG, WEIGHTS):
        found = file_hash(folder / name)
        if found != manifest.get("sha256", {}).get(name):
            raise RefusedError(f"{name} must be the file that the manifest names", found, "Copy the folder again")
    _check_whole(manifest.get("contract", {}))
    return manifest


def _check_whole(contract: Contract) -> None:
    check_keys(f"The contract in {MANIFEST}", contract, dict.fromkeys(PARTS, dict), optional=tuple(PARTS))
    missing = [
        f"{part}.{line}" for part, lines in PARTS.items() for line in lines if line not in contract.get(part, {})
    ]
    if missing:
        raise RefusedError(
            "The contract of a checkpoint must hold every line", f"no {', '.join(missing)}", "Copy the folder again"
        )


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint, after its files have been checked against the manifest.

    Raises:
        RefusedError: As `read_manifest`, or if a key of it is missing, unknown or of another kind.
    """
    read_manifest(folder)
    config = read_object(Path(folder) / CONFIG)
    check_keys(CONFIG, config, CONFIG_KEYS, optional=("contract_check", "latent"))
    shapes = {part: config[part] for part in ("sharer", "receiver")}
    if "latent" in config:
        check_keys(f"latent in {CONFIG}", config["latent"], LATENT_KEYS)
        shapes["latent"] = config["latent"]["shape"]
    for part, shape in shapes.items():
        check_keys(f"{part} in {CONFIG}", shape, COUNT)
        check_counts(f"{part} in {CONFIG}", shape)
    for link in config["links"]:
        check_keys(f"A link in {CONFIG}", link, LINK_KEYS)
        if not 0 <= link["fuser"] < len(config["fusers"]):
            raise RefusedError(
                f"A link in {CONFIG} must name one of the {len(config['fusers'])} fusers",
                link["fuser"],
                "Copy the folder again",
            )
    check_keys(
        f"contract_check in {CONFIG}", config.setdefault("contract_check", ContractCheck().to_dict()), CHECK_KEYS
    )
    return config


def load_stack(folder: str | Path) -> tuple[FuserStack, dict[str, Any]]:
    """The Fusers that `save_stack` saved, in eval mode, and what was said about them; for no model in particular.

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
    from c2c.released import check_names

    config, contract = read_config(folder), read_manifest(folder)["contract"]
    sharer, receiver = (CacheShape(**config[part]) for part in ("sharer", "receiver"))
    encoder = LatentEncoder.from_dict(sharer, config["latent"]) if "latent" in config else None
    stack = FuserStack(sharer if encoder is None else encoder.latent, receiver)
    fusers = [create_fuser(FuserConfig.from_dict(each)) for each in config["fusers"]]
    stack.fusers.extend(fusers)  # before any link: their numbers name the tensors in the file
    for link in config["links"]:
        stack.link(link["receiver_layer"], link["sharer_layer"], fusers[link["fuser"]])
    if encoder is not None:
        stack = LatentStack(encoder, stack)
    try:
        state = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise RefusedError(f"{WEIGHTS} must be a safetensors file", str(error), "Copy the folder again") from error
    check_names(stack.state_dict(), state, WEIGHTS)
    stack.load_state_dict(state)
    passed = ContractCheck(**{name: tuple(lines) for name, lines in config["contract_check"].items()})
    return _Saved(stack.eval(), config["about"], contract, passed)


def save_model(
    model: RosettaModel,
    folder: str | Path,
    *,
    tokenizers: Sequence[PreTrainedTokenizerBase | None] = (),
    about: Mapping[str, Any] | None = None,
) -> None:
    """Save a RosettaModel's Fusers (its language models are not copied): one Sharer in `folder`, several in
    ``sharer_1/``, ``sharer_2/`` … of it.

    The contract names the models that the Fusers are used with now. Where an earlier contract named others, the lines
    that were accepted are saved too (``contract_check``), and loading shows them again.

    Args:
        model: The model.
        folder: Created if it does not exist.
        tokenizers: The Receiver's and each Sharer's, so that loading can compare them; none are compared if empty.
        about: What else a reader must know, as in `save_stack`.

    Raises:
        RefusedError: If there is no Sharer, and so no Fuser, or there are tokenizers for some models only.
    """
    if not model.sharers:
        raise RefusedError("Only a model with Sharers has Fusers to save", "a Receiver alone", "Add a Sharer")
    models = [each if isinstance(each, PreTrainedModel) else each.config for each in (model.receiver, *model.sharers)]
    if tokenizers and len(tokenizers) != len(models):
        raise RefusedError(
            f"There must be a tokenizer for each of the {len(models)} models",
            len(tokenizers),
            "Pass the Receiver's and each Sharer's, None where there is none",
        )
    lines = [describe_model(*each) for each in zip(models, tokenizers or [None] * len(models), strict=True)]
    folders = stack_folders(Path(folder), len(model.stacks))
    for where, stack, sharer in zip(folders, model.stacks, lines[1:], strict=True):
        used = {"fusion": model.fusion, "include_response": model.include_response}
        told = {"receiver": lines[0]["id"], "sharer": sharer["id"], **used, **(about or {})}
        save_stack(stack, where, receiver=lines[0], sharer=sharer, about=told, check=model.contract_check)  # type: ignore[arg-type]


def stack_folders(folder: Path, sharers: int) -> list[Path]:
    """Where `save_model` keeps the Fusers of each Sharer."""
    return [folder] if sharers == 1 else [folder / f"sharer_{number}" for number in range(1, sharers + 1)]


def load_model(
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
) -> RosettaModel:
    """A RosettaModel from what `save_model` or ``c2c train`` saved, for the models that the contract names.

    Args:
        source: The folder or hub id, or one a Sharer.
        receiver: The Receiver: a model, a `c2c.loading.LoadedModel` (then its tokenizer is compared too), or where
            both are: folder, model manifest, hub id.
        sharers: The Sharers, as `receiver`, or the config of one that runs elsewhere.
        fusion: ``sequential`` or ``parallel``; as the checkpoint says if None.
        include_response: Whether the response is fused too; as the checkpoint says if None.
        revision: Hub revision of `source`.
        subfolder: Folder inside `source`.
        dtype: Of models that are loaded here (fp32 if None); the Fusers take the Receiver's.
        device: Of models that are loaded here (CPU if None); the Fusers go to the Receiver's.
        override: Lines of the contract that may differ, by name; see `c2c.contract.check_contract`.

    Returns:
        The model in eval mode. Its `contract_check` says which differences were accepted or noted, now and before the
        Fusers were saved. Its `contracts` also hold for caches that are given in place of a Sharer.

    Raises:
        RefusedError: If a file is missing or changed, or the models are not those of the contract, line by line.
    """
    named = as_list(sharers)
    folders = [hub.resolve(each, revision, subfolder=subfolder) for each in as_list(source)]
    if len(folders) == 1:
        folders = stack_folders(folders[0], len(named))
    if len(folders) != len(named):
        raise RefusedError(
            "Each Sharer needs one FuserStack", f"{len(named)} and {len(folders)}", "Pass one folder a Sharer"
        )
    for folder in folders:
        read_config(folder)  # before any language model is loaded
    described = [load_described(each, dtype, device) for each in (receiver, *named)]
    options = {"fusion": fusion, "include_response": include_response}
    return assemble(folders, described, override=override, **options)[0]  # type: ignore[arg-type]


def assemble(
    folders: Sequence[Path],
    described: Sequence[tuple[Any, Lines]],
    *,
    fusion: str | None = None,
    include_response: bool | None = None,
    override: Sequence[str] = (),
) -> tuple[RosettaModel, list[dict[str, Any]]]:
    """A RosettaModel of loaded models and saved Fusers, and what was said about each of these.

    Args:
        folders: Fusers of each Sharer.
        described: The Receiver, then each Sharer, with their lines.
        fusion: As in `load_model`.
        include_response: As in `load_model`.
        override: As in `load_model`.

    Raises:
        RefusedError: As in `load_model`.
    """
    from c2c.rosetta import RosettaModel

    (receiver, lines), sharers = described[0], described[1:]
    loaded = [_load(folder) for folder in folders]
    for saved in loaded:
        saved.stack.to(receiver.device, receiver.dtype)
    found = [
        {"receiver": lines, "sharer": sharer, "fuser": describe_fusers(saved.stack)}
        for (_, sharer), saved in zip(sharers, loaded, strict=True)
    ]
    contracts = [saved.contract for saved in loaded]
    check = ContractCheck().joined(*(saved.check for saved in loaded), check_contract(contracts, found, override))
    said = loaded[0].about
    fusion = fusion or said.get("fusion", "sequential")
    response = bool(said.get("include_response")) if include_response is None else include_response
    stacks, models = [saved.stack for saved in loaded], [model for model, _ in sharers]
    model = RosettaModel.of_stacks(receiver, models, stacks, fusion=fusion, include_response=response).eval()
    model.contract_check, model.contracts, model.override = check, contracts, as_list(override)
    return model, [saved.about for saved in loaded]
