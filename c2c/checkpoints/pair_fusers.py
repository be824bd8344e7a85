"""The Fusers of a pair from a folder, own or released, with what answering with them depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from c2c.alignment.chat import ChatAligner, UnalignedChats
from c2c.checkpoints.checkpoint import load_components
from c2c.checkpoints.components import Components
from c2c.checkpoints.released import load_released
from c2c.checkpoints.released_folder import is_released, released_alignment
from c2c.errors import RefusedError
from c2c.models import hub
from c2c.models.pair import Pair
from c2c.types import UNALIGNED


class PairFusers(NamedTuple):
    """Models and Fusers of a pair, and how the Fusers were trained.

    Args:
        components: Of the pair's RosettaModel.
        alignment: Token alignment of the training: ``span``, ``first``, ``longest`` or ``none``.
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


def aligner_of(pair: Pair, alignment: str) -> ChatAligner | UnalignedChats:
    """What aligns the prompts of a pair, for the alignment with which its Fusers were trained.

    Raises:
        RefusedError: If the Sharer would read the Receiver's tokens and lacks some; padded rows of its embeddings count
            as known.
    """
    if alignment != UNALIGNED:
        return ChatAligner(pair.receiver.tokenizer, pair.sharer.tokenizer, alignment)
    tokens, vocabulary = len(pair.receiver.tokenizer), pair.sharer.model.config.get_text_config().vocab_size
    if vocabulary < tokens:
        raise RefusedError(
            f"Without alignment the Sharer must know all {tokens} tokens of the Receiver",
            f"{vocabulary} tokens",
            "Choose the alignment span, first or longest, or for released Fusers the models that they were trained for",
        )
    return UnalignedChats(pair.receiver.tokenizer)
