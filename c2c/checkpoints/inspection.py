"""What a folder of fusers is, without the models that it was trained for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from c2c.checkpoints.checkpoint import load_stack
from c2c.checkpoints.checkpoint_folder import describe_folder
from c2c.checkpoints.released_folder import is_released, read_recipe, resolve_released
from c2c.checkpoints.released_weights import read_state
from c2c.models import hub
from c2c.storage.manifests import is_manifest, read_object
from c2c.types import HALVES


def inspect_fusers(source: str | Path) -> dict[str, Any]:
    """Layout, models, shapes, gates, contract and training of fusers, as JSON has them.

    Args:
        source: Folder, manifest or hub id, in the own or the released layout.

    Raises:
        RefusedError: If nothing has that name, or a file is missing or changed.
    """
    folder = resolve_released(source) if is_manifest(source) else hub.resolve(source)
    return _released(folder) if is_released(folder) else _checkpoint(folder)


def _checkpoint(folder: Path) -> dict[str, Any]:
    description = describe_folder(folder)
    stack, config = load_stack(folder)[0], description.config
    gates = {half: sum(stack.is_open(layer, half) for layer in stack.links) for half in HALVES}
    contract = description.manifest["contract"]
    return {
        "layout": "checkpoint",
        "receiver": contract["receiver"]["id"],
        "sharer": contract["sharer"]["id"],
        "parameters": sum(parameter.numel() for parameter in stack.parameters()),
        "layers": {"fused": len(stack.links), "open keys": gates["key"], "open values": gates["value"]},
        "sharer_layer_of": {str(layer): link.sharer_layer for layer, link in sorted(stack.links.items())},
        "fusers": [asdict(fuser) for fuser in description.fusers],
        "training": config["about"],
        "contract": contract,
        "accepted_differences": config["contract_check"]["accepted"],
    }


def _released(folder: Path) -> dict[str, Any]:
    recipe, final = read_recipe(folder), folder / "final" if (folder / "final").is_dir() else folder
    states = [read_state(path) for path in sorted(final.glob("projector_*.pt"))]
    logits = {half: [state[f"{half}_gate_logit"] for state in states if f"{half}_gate_logit" in state] for half in HALVES}
    return {
        "layout": "released",
        "receiver": recipe.ids.get("receiver"),
        "sharer": recipe.ids.get("sharer"),
        "parameters": sum(tensor.numel() for state in states for tensor in state.values()),
        "layers": {
            "fused": len(states),
            "open keys": sum(bool(logit > 0) for logit in logits["key"]),
            "open values": sum(bool(logit > 0) for logit in logits["value"]),
        },
        "fusers": [read_object(path) for path in sorted(final.glob("projector_[0-9]*.json"))],
        "alignment": recipe.alignment,
        "training": recipe.settings,
    }
