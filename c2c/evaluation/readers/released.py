"""Published fusers asked like trained ones, with the alignment that they were published for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from c2c.alignment.chat import ChatAligner, UnalignedChats
from c2c.checkpoints.released_folder import released_alignment, resolve_released
from c2c.errors import RefusedError
from c2c.evaluation.readers.fused import Fused
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.types import UNALIGNED


def published_reader(
    pair: Pair, fuser: str | Path, sharer_reads: str, accept: Sequence[str] = (), memory: SharerMemory | None = None
) -> Fused:
    """The reader of published fusers; arguments as `c2c.evaluation.methods.registry.fused_reader` takes them.

    Raises:
        RefusedError: If files are missing or changed, the pair is not the one that the recipe names, or the fusers need
            the Receiver's tokens as they are and the Sharer lacks some.
    """
    folder = resolve_released(fuser)
    model = RosettaModel.from_released(fuser, receiver=pair.receiver, sharers=[pair.sharer], override=accept)
    alignment = released_alignment(folder)
    receiver, sharer = pair.receiver.tokenizer, pair.sharer.tokenizer
    if alignment != UNALIGNED:
        return Fused(pair, model, ChatAligner(receiver, sharer, alignment), sharer_reads, memory=memory)
    known = pair.sharer.model.config.get_text_config().vocab_size
    if known < len(receiver):
        raise RefusedError(
            f"The Sharer of Fusers that were published without alignment must know all {len(receiver)} tokens",
            f"{known} tokens",
            "Use the models that they were published for",
        )
    return Fused(pair, model, UnalignedChats(receiver), sharer_reads, memory=memory)
