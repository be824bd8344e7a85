"""Own checkpoints: config.json, model.safetensors and a manifest of hashes in one folder a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from c2c import hub
from c2c.errors import RefusedError
from c2c.fuser.config import FuserConfig
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import create_fuser
from c2c.provenance import file_hash, write_atomically
from c2c.types import CacheShape

if TYPE_CHECKING:
    from c2c.rosetta import RosettaModel

FORMAT = 1
CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"


def as_list(value: Any) -> list[Any]:
    """A list of `value`, or `value` itself as a list if it is a sequence of things."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def load_causal_model(source: PreTrainedModel | str | Path, dtype: str = "float32") -> PreTrainedModel:
    """A frozen causal model in eval mode: `source` itself if it is one, else loaded from where `source` resolves to."""
    if isinstance(source, PreTrainedModel):
        return source
    model = AutoModelForCausalLM.from_pretrained(hub.resolve(source), dtype=getattr(torch, dtype))
    return model.eval().requires_grad_(False)


def save_stack(stack: FuserStack, folder: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
    """Save one pair's Fusers; the manifest comes last, so a folder without one is unfinished.

    Args:
        stack: The Fusers with their links.
        folder: Created if it does not exist.
        about: What a reader must know: models with revisions, recipe, alignment, seed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "sharer": stack.sharer._asdict(),
        "receiver": stack.receiver._asdict(),
        "links": [asdict(link) for _, link in sorted(stack.links.items())],
        "fusers": [fuser.config.to_dict() for fuser in stack.fusers],  # type: ignore[union-attr,operator]
        "about": dict(about or {}),
    }
    write_atomically(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in stack.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    hashes = {name: file_hash(folder / name) for name in (CONFIG, WEIGHTS)}
    write_atomically(folder / MANIFEST, json.dumps({"format": FORMAT, "sha256": hashes}, indent=1) + "\n")


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint, after its files have been checked against the manifest.

    Raises:
        RefusedError: If a file is missing or changed, or the format is unknown.
    """
    folder = Path(folder)
    for name in (MANIFEST, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise RefusedError(f"A fuser folder must hold {name}", str(folder), "Train it to the end, or copy it whole")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise RefusedError(
            f"A fuser folder must have format {FORMAT}", manifest.get("format"), "Use a matching version"
        )
    for name, expected in manifest["sha256"].items():
        found = file_hash(folder / name)
        if found != expected:
            raise RefusedError(f"{name} must be the file that the manifest names", found, "Copy the folder again")
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))


def load_stack(folder: str | Path) -> tuple[FuserStack, dict[str, Any]]:
    """The Fusers that `save_stack` saved, in eval mode, and what was said about them.

    Raises:
        RefusedError: If a file is missing, changed or does not fit.
    """
    from c2c.released import check_names

    folder = Path(folder)
    config = read_config(folder)
    stack = FuserStack(CacheShape(**config["sharer"]), CacheShape(**config["receiver"]))
    fusers = [create_fuser(FuserConfig.from_dict(each)) for each in config["fusers"]]
    stack.fusers.extend(fusers)  # before any link: their numbers name the tensors in the file
    for link in config["links"]:
        stack.link(link["receiver_layer"], link["sharer_layer"], fusers[link["fuser"]])
    state = load_file(folder / WEIGHTS)
    check_names(stack.state_dict(), state, WEIGHTS)
    stack.load_state_dict(state)
    return stack.eval(), config["about"]


def save_model(model: RosettaModel, folder: str | Path) -> None:
    """Save a RosettaModel's Fusers (its language models are not copied): one Sharer in `folder`, several in
    ``sharer_1/``, ``sharer_2/`` … of it.

    Raises:
        RefusedError: If there is no Sharer, and so no Fuser.
    """
    if not model.sharers:
        raise RefusedError("Only a model with Sharers has Fusers to save", "a Receiver alone", "Add a Sharer")
    folders = stack_folders(Path(folder), len(model.stacks))
    for where, stack, sharer in zip(folders, model.stacks, model.sharers, strict=True):
        about = {
            "receiver": getattr(model.receiver, "name_or_path", ""),
            "sharer": getattr(sharer, "name_or_path", ""),
            "fusion": model.fusion,
        }
        save_stack(stack, where, about=about)  # type: ignore[arg-type]


def stack_folders(folder: Path, sharers: int) -> list[Path]:
    """Where `save_model` keeps the Fusers of each Sharer."""
    return [folder] if sharers == 1 else [folder / f"sharer_{number}" for number in range(1, sharers + 1)]


def load_model(
    source: str | Path | Sequence[str | Path], *, receiver: Any, sharers: Any, fusion: str | None = None
) -> RosettaModel:
    """A RosettaModel from what `save_model` saved.

    Args:
        source: The folder, or one folder a Sharer.
        receiver: The Receiver, or where it is.
        sharers: The Sharers, or where they are.
        fusion: As the checkpoint says if None.

    Raises:
        RefusedError: If a file is missing or changed, or the Fusers do not fit the models.
    """
    from c2c.rosetta import RosettaModel

    models = [load_causal_model(sharer) for sharer in as_list(sharers)]
    folders = as_list(source)
    if len(folders) == 1:
        folders = stack_folders(Path(folders[0]), len(models))
    answering = load_causal_model(receiver)
    loaded = [load_stack(folder) for folder in folders]
    for stack, _ in loaded:
        stack.to(answering.device, answering.dtype)
    fusion = fusion or loaded[0][1].get("fusion", "sequential")
    return RosettaModel.of_stacks(answering, models, [stack for stack, _ in loaded], fusion=fusion).eval()
