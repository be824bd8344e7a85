"""Checks of the config that ask other parts of the repository what is possible. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.knowledge_gap.sizes import check_heads
from benchmarks.knowledge_gap.sizes import check_world as check_sizes
from c2c.errors import RefusedError
from c2c.hub import MIRRORS
from paper.needed import NEEDED


def check_world(config: Mapping[str, Any]) -> None:
    """Sizes of the knowledge-gap world and of its models, where the scale has one.

    Raises:
        RefusedError: No such world or model can be made.
    """
    if "world" not in config:
        return
    world = config["world"]
    _at("world", check_sizes, world["entities"], world["attributes"], world["values"])
    _at("world.pretraining", check_heads, world["pretraining"]["hidden"])
    for name, model in world["models"].items():
        if "hidden" in model:
            _at(f"world.models.{name}", check_heads, model["hidden"])


def check_artefacts(config: Mapping[str, Any]) -> None:
    """The paper's tables and figures are among those that are made.

    Raises:
        RefusedError: The paper is wanted without one of them.
    """
    artefacts = config["artefacts"]
    if not artefacts["paper"]:
        return
    for kind in ("tables", "figures"):
        needed = [Path(name).stem for name in NEEDED if name.startswith(f"{kind}/")]
        if missing := [name for name in needed if name not in artefacts[kind]]:
            rule = f"A paper has the {kind} {', '.join(needed)}"
            raise RefusedError(
                rule, f"artefacts.{kind} without {', '.join(missing)}", "Add them, or set artefacts.paper to false"
            )


def check_mirrors(environment: Mapping[str, str] = os.environ) -> None:
    """Each folder of C2C_HUB_MIRROR exists on the machine that plans the run.

    Raises:
        RefusedError: One does not.
    """
    for folder in filter(None, environment.get(MIRRORS, "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise RefusedError(
                f"Each folder of {MIRRORS} exists", folder, f"Correct the path, or unset {MIRRORS} to use the hub"
            )


def _at(place: str, check: Any, *values: int) -> None:
    """Run a check of another part, and say where in the config the value stands."""
    try:
        check(*values)
    except RefusedError as refusal:
        raise RefusedError(f"config.{place}: {refusal.rule}", refusal.received, refusal.remedy) from None
