"""Readers of the Fusers of a pair, trained here or released, and of trained Fusers of several Sharers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from c2c.checkpoints.checkpoint import load_components
from c2c.checkpoints.pair_fusers import load_pair_fusers
from c2c.errors import RefusedError
from c2c.evaluation.readers.fused import FusedReader, SharerPrompts
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel


def fused_reader(
    pair: Pair, fuser: str | Path, sharer_cache: str, accept: Sequence[str] = (), memory: PromptMemory | None = None
) -> FusedReader:
    """The reader of a pair's Fusers, trained or released; those that were trained on zeroed caches get zeroed ones.

    The seed of the training also draws whose question the Sharer reads in a control.

    Args:
        pair: The models.
        fuser: Folder of the Fusers; of released ones also the manifest of ``c2c fetch-fuser``.
        sharer_cache: As in `SharerPrompts`.
        accept: Lines of the Fusers' contract that may differ, by name.
        memory: As in `SharerPrompts`.

    Raises:
        RefusedError: As `load_pair_fusers` and `Pair.chat_aligner`.
    """
    fusers = load_pair_fusers(pair, fuser, accept)
    model, aligner = RosettaModel.of_components(fusers.components), pair.chat_aligner(fusers.alignment)
    cache = "zeroed" if fusers.zeroed else sharer_cache
    return FusedReader([SharerPrompts(pair, model, aligner, cache, fusers.seed, memory)])


def group_reader(
    receiver: LoadedModel,
    sharers: Sequence[LoadedModel],
    fusers: Sequence[str | Path],
    sharer_caches: Sequence[str],
    *,
    fusion: str | None = None,
    accept: Sequence[str] = (),
    memories: Sequence[PromptMemory | None] | None = None,
) -> FusedReader:
    """The reader of trained Fusers, one folder a Sharer; the Fusers of several Sharers were trained separately.

    The training seed of the first also draws whose question all Sharers read in a control.

    Args:
        receiver: The Receiver of all.
        sharers: The Sharers.
        fusers: Folder of the Fusers of each Sharer.
        sharer_caches: As in `SharerPrompts`, for each Sharer.
        fusion: ``sequential`` or ``parallel``; as the first folder names it if None.
        accept: Lines of the contracts that may differ, by name: ``receiver.rope``, ``sharer_1.rope``.
        memories: As in `SharerPrompts`, for each Sharer.

    Raises:
        RefusedError: If the models are not those of the Fusers' contracts, or the Fusers of several Sharers were
            trained with different token alignments, or with the response fused.
    """
    # 1. The model, if the Fusers were trained for these models
    described = [(loaded.model, loaded.description) for loaded in (receiver, *sharers)]
    components = load_components([Path(folder) for folder in fusers], described, fusion=fusion, override=accept)
    model = RosettaModel.of_components(components)
    # 2. Several Sharers fuse the same tokens of the Receiver
    alignments = sorted({about.get("alignment", "span") for about in components.about})
    if len(sharers) > 1 and (len(alignments) > 1 or model.include_response):
        raise RefusedError(
            "Fusers that are used together must have one token alignment, and fuse prompts alone",
            f"alignments {', '.join(alignments)}; response fused: {model.include_response}",
            "Train them with the same --alignment and --response plain",
        )
    # 3. The prompts of each Sharer
    return FusedReader(
        [
            SharerPrompts(
                Pair(receiver, sharer),
                model,
                Pair(receiver, sharer).chat_aligner(alignments[0]),
                "zeroed" if about.get("sharer_cache") == "zeroed" else cache,
                components.about[0].get("seed") or 0,
                memory,
            )
            for sharer, about, cache, memory in zip(
                sharers, components.about, sharer_caches, memories or [None] * len(sharers), strict=True
            )
        ]
    )
