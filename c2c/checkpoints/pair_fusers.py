"""The Fusers of a pair from a folder, own or released, with what answering with them depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from c2c.checkpoints.checkpoint import load_components
from c2c.checkpoints.components import Components
from c2c.checkpoints.released import load_released
from c2c.checkpoints.released_folder import is_released, released_alignment
from c2c.models import hub
from c2c.models.pair import Pair


class PairFusers(NamedTuple):
    """Models and Fusers of a pair, and how the Fusers were trained.

    Args:
        components: Of the pair's RosettaModel.
        alignment: Token alignment of the training: ``span``, ``first``, ``longest`` or ``unaligned``.
        zeroed: Whether the Sharer's cache was zeros in the training.
        seed: Of the training; 0 where the folder names none, as that of released fusers.
    """

    components: Components
    alignment: str = "span"
    zeroed: bool = False
    seed: int = 0


def load_pair_fusers(pair: Pair, fuser: str | Path, override: Sequence[str] = ()) -> PairFusers:
    """The Fusers of a pair, whichever layout they have on disk.

    Args:
        pair: The loaded models.
        fuser: Folder or hub id of a checkpoint or of released fusers; of the latter also the manifest of
            ``c2c fetch-fuser``.
        override: Lines of the contract that may differ, by name.

    Raises:
        RefusedError: If a file is missing or changed, or the pair is not the one that the Fusers were trained for.
    """
    folder = hub.resolve(fuser)
    if is_released(folder):
        components = load_released(fuser, receiver=pair.receiver, sharers=[pair.sharer], override=override)
        return PairFusers(components, released_alignment(folder))
    models = [(loaded.model, loaded.description) for loaded in (pair.receiver, pair.sharer)]
    components = load_components([folder], models, override=override)
    (about,) = components.about
    zeroed = about.get("sharer_cache") == "zeroed"
    return PairFusers(components, about.get("alignment", "span"), zeroed, about.get("seed") or 0)
