"""The format of an own checkpoint's folder, checked file by file and key by key before any memory is allocated."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from c2c.errors import RefusedError, check_choice
from c2c.fuser.config import FuserConfig
from c2c.fuser.latent import LatentEncoder
from c2c.fuser.weights import USE_MATCHING, Form, Needs, check_depth, check_forms, forms, read_header
from c2c.models.contract import LATER_LINES, PARTS, Contract, ContractCheck
from c2c.provenance import file_hash
from c2c.storage.folders import current
from c2c.storage.manifests import (
    COPY_AGAIN,
    COUNT,
    LARGEST_COUNT,
    MOST_BYTES,
    check_counts,
    check_keys,
    check_kinds,
    check_size,
    read_object,
)
from c2c.types import FUSIONS, CacheShape

FORMAT = 2
CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"
FILES = (CONFIG, WEIGHTS, MANIFEST)
"""Files of a checkpoint; a folder that has the last one is complete."""
PART = r"sharer_\d+"
"""Folders of a model with several Sharers, each a checkpoint."""
CONFIG_KEYS = {
    "format": int,
    "sharer": dict,
    "receiver": dict,
    "links": list,
    "fusers": list,
    "about": dict,
    "contract_check": dict,
    "latent": dict,
    "base": dict,
}
LATENT_KEYS = {"shape": dict, "reads": list, "hidden_dim": int}
BASE_KEYS = {"tokens": int}
LINK_KEYS = {"receiver_layer": int, "sharer_layer": int, "fuser": int}
CHECK_KEYS = {"accepted": list, "noted": list}
MANIFEST_KEYS = {"format": int, "contract": dict, "sha256": dict}
ABOUT_KINDS = {"include_response": bool, "fusion": str, "alignment": str, "sharer_cache": str}
"""Entries of `about` on which the use of a checkpoint depends."""
MODEL_KINDS: dict[str, type] = {
    "id": str,
    "revision": str,
    "architecture": str,
    "layers": int,
    "kv_heads": int,
    "head_dim": int,
    "vocab_size": int,
    "computation": dict,
    "dtype": str,
    "tokenizer_sha256": str,
    "weights_sha256": str,
}
"""Kinds of `c2c.models.contract.MODEL_LINES`, where they are not None; lines that each family writes in its own way are
left out, since they are only compared."""
FUSER_KINDS: dict[str, type] = {"layer_map": dict, "sizes": list, "dtype": str}
BUFFERS = (".gate_temperature",)
"""Ends of the names of tensors that are no weights."""
KINDS = {"receiver": MODEL_KINDS, "sharer": MODEL_KINDS, "fuser": FUSER_KINDS}


class Description(NamedTuple):
    """A checkpoint but for the numbers in it: the two JSON files, and the config of each Fuser."""

    manifest: dict[str, Any]
    config: dict[str, Any]
    fusers: list[FuserConfig]


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest.json of a checkpoint, after its files have been checked against it.

    Raises:
        RefusedError: If a file is missing or changed, the format is another one, or the contract lacks a line.
    """
    folder = current(Path(folder))
    manifest = _read_manifest(folder)
    read_header(folder / WEIGHTS, COPY_AGAIN)  # before a hash of what may be no weights at all
    _check_hash(folder / WEIGHTS, manifest)
    _check_whole(manifest.get("contract", {}))
    return manifest


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint, after its files have been checked against the manifest, and with each other.

    Raises:
        RefusedError: As `read_manifest`, or if a key of it is missing, unknown or of another kind, or the weights are
            not those of its Fusers.
    """
    return describe_folder(folder).config


def describe_folder(folder: str | Path) -> Description:
    """The two JSON files and the configs of the Fusers, checked in the order of `c2c.fuser.weights`.

    Raises:
        RefusedError: As `read_config`.
    """
    folder = current(Path(folder))
    # 1. JSON, with the hash of the small file
    manifest = _read_manifest(folder)
    config = _read_config(folder / CONFIG)
    _check_whole(manifest.get("contract", {}))
    # 2. the header of the weights, 3. what the Fusers need, on the meta device
    tensors = read_header(folder / WEIGHTS, COPY_AGAIN)
    fusers = list(_fusers(config, tensors))
    _check_dtype(tensors, manifest["contract"]["fuser"]["dtype"])
    # 4. the hash of the large file, whose size is known to be that of what is needed
    _check_hash(folder / WEIGHTS, manifest)
    return Description(manifest, config, fusers)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, once the config is the one that it names."""
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
    check_size(folder / CONFIG, MOST_BYTES, COPY_AGAIN)
    _check_hash(folder / CONFIG, manifest)
    return manifest


def _check_hash(path: Path, manifest: Mapping[str, Any]) -> None:
    digest = file_hash(path)
    if digest != manifest.get("sha256", {}).get(path.name):
        raise RefusedError(f"{path.name} must be the file that the manifest names", digest, COPY_AGAIN)


def _check_whole(contract: Contract) -> None:
    check_keys(f"The contract in {MANIFEST}", contract, dict.fromkeys(PARTS, dict), optional=tuple(PARTS))
    missing = [
        f"{part}.{line}"
        for part, lines in PARTS.items()
        for line in lines
        if line not in (*LATER_LINES, *contract.get(part, {}))
    ]
    if missing:
        raise RefusedError(
            "The contract of a checkpoint must hold every line", f"no {', '.join(missing)}", "Copy the folder again"
        )
    for part, kinds in KINDS.items():
        check_kinds(f"{part} of the contract in {MANIFEST}", contract[part], kinds, nullable=True)


def _read_config(path: Path) -> dict[str, Any]:
    config = read_object(path)
    check_keys(CONFIG, config, CONFIG_KEYS, optional=("contract_check", "latent", "base"))
    if config["format"] != FORMAT:
        raise RefusedError(
            f"{CONFIG} must have format {FORMAT}", config["format"], "Use a matching version of this package"
        )
    if "base" in config:
        check_keys(f"base in {CONFIG}", config["base"], BASE_KEYS)
        if "latent" in config:
            rule = f"{CONFIG} must have a base or a latent cache, since a base reads the Sharer's own cache"
            raise RefusedError(rule, "both", COPY_AGAIN)
    # Sizes of caches
    shapes = {part: config[part] for part in ("sharer", "receiver")}
    if "latent" in config:
        check_keys(f"latent in {CONFIG}", config["latent"], LATENT_KEYS)
        check_counts(f"latent in {CONFIG}", config["latent"], most=LARGEST_COUNT)
        shapes["latent"] = config["latent"]["shape"]
    for part, shape in shapes.items():
        check_keys(f"{part} in {CONFIG}", shape, COUNT)
        check_counts(f"{part} in {CONFIG}", shape, most=LARGEST_COUNT)
    # Links, at most one a Receiver layer, each to a fuser, and each fuser with a link
    counts = (len(config["fusers"]), len(config["links"]), config["receiver"]["layers"])
    if list(counts) != sorted(counts):
        rule = f"{CONFIG} must have no more fusers than links, and no more links than Receiver layers"
        raise RefusedError(rule, counts, COPY_AGAIN)
    for link in config["links"]:
        check_keys(f"A link in {CONFIG}", link, LINK_KEYS)
        if not 0 <= link["fuser"] < len(config["fusers"]):
            raise RefusedError(
                f"A link in {CONFIG} must name one of the {len(config['fusers'])} fusers", link["fuser"], COPY_AGAIN
            )
    if len(unused := set(range(len(config["fusers"]))) - {link["fuser"] for link in config["links"]}):
        raise RefusedError(f"Each fuser in {CONFIG} must have a link", f"none for {sorted(unused)[:8]}", COPY_AGAIN)
    # What use depends on
    check_kinds(f"about in {CONFIG}", config["about"], ABOUT_KINDS, nullable=True)
    if config["about"].get("fusion") is not None:
        check_choice(f"fusion in {CONFIG}", config["about"]["fusion"], FUSIONS)
    check = config.setdefault("contract_check", ContractCheck().to_dict())
    check_keys(f"contract_check in {CONFIG}", check, CHECK_KEYS)
    for name, lines in check.items():
        if not all(isinstance(line, str) for line in lines):
            raise RefusedError(f"{name} of contract_check in {CONFIG} must be a list of texts", lines, COPY_AGAIN)
    return config


def _fusers(config: Mapping[str, Any], tensors: Mapping[str, Form]) -> Iterator[FuserConfig]:
    """The config of each Fuser, compared with what the weights hold one by one, so that the first wrong one ends it."""
    # Tensors of each fuser by their prefix, so that a file of many fusers is searched once.
    needs, expected = Needs(), _encoder(config, tensors) | _base(config)
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name in tensors:
        if match := re.match(r"fusers\.\d+\.", name):
            names[match.group()].append(name)
    for number, values in enumerate(config["fusers"]):
        fuser, prefix = FuserConfig.from_dict(values), f"fusers.{number}."
        stored = {name: tensors[name] for name in names[prefix]}
        check_depth(fuser, len(stored), WEIGHTS)
        needed = {prefix + name: shape for name, shape in needs.of(fuser).items()}
        if any(name not in stored or stored[name].shape != shape for name, shape in needed.items()):
            check_forms(needed, stored, WEIGHTS)
        expected |= needed
        yield fuser
    check_forms(expected, tensors, WEIGHTS)


def _encoder(config: Mapping[str, Any], tensors: Mapping[str, Form]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a latent encoder's tensors: those of one latent layer, as often as there are layers."""
    if "latent" not in config:
        return {}
    latent, reads = CacheShape(**config["latent"]["shape"]), config["latent"]["reads"]
    if latent.layers > len(tensors) or not all(type(layer) is int for layer in reads):
        raise RefusedError(
            f"latent in {CONFIG} must have layers that {WEIGHTS} holds, each of which reads one layer of a model",
            (latent.layers, reads),
            USE_MATCHING,
        )
    with torch.device("meta"):
        # All layers of an encoder have the same shapes, so one of them is built, not as many as the file claims.
        first = LatentEncoder(
            CacheShape(**config["sharer"]), latent._replace(layers=1), [0], config["latent"]["hidden_dim"]
        )
    return {
        f"encoder.layers.{layer}.{name.removeprefix('layers.0.')}": shape
        for layer in range(latent.layers)
        for name, shape in forms(first).items()
    }


def _base(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a closed form; none where there is no such."""
    if "base" not in config:
        return {}
    layers = config["receiver"]["layers"]
    widths = [2 * config[part]["heads"] * config[part]["head_dim"] for part in ("sharer", "receiver")]
    return {"base.weight": (layers, *widths), "base.bias": (layers, widths[1])}


def _check_dtype(tensors: Mapping[str, Form], dtype: Any) -> None:
    """The precision in which the weights are stored is a line of the contract."""
    dtypes = {form.dtype for name, form in tensors.items() if not name.endswith(BUFFERS)}
    if ", ".join(sorted(dtypes)) != dtype:
        raise RefusedError(
            f"{WEIGHTS} must hold numbers of the dtype that the contract names, {dtype}", sorted(dtypes), COPY_AGAIN
        )
