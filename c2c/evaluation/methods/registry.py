"""Methods of one model alone, and methods of trained Fusers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from c2c.alignment.chat import ChatAligner
from c2c.checkpoints.checkpoint import load_components
from c2c.checkpoints.released_folder import is_released
from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.readers.fused import Fused
from c2c.evaluation.readers.reader import Alone, Reader
from c2c.evaluation.readers.released import published_reader
from c2c.evaluation.readers.several import several_reader
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel


def fused_reader(
    pair: Pair, fuser: str, sharer_reads: str, accept: Sequence[str] = (), memory: SharerMemory | None = None
) -> Fused:
    """The reader of a trained fuser; one that was trained on zeroed caches gets zeroed ones.

    Args:
        pair: The models.
        fuser: Folder of the fuser, or published ones: their folder, or the manifest of ``c2c fetch-fuser``.
        sharer_reads: As in `Fused`.
        accept: Lines of the fuser's contract that may differ, by name.
        memory: See `Fused`.

    Raises:
        RefusedError: If the pair is not the one that the fuser was trained for.
    """
    if is_released(fuser):
        return published_reader(pair, fuser, sharer_reads, accept, memory)
    described = [(loaded.model, loaded.description) for loaded in (pair.receiver, pair.sharer)]
    components = load_components([Path(fuser)], described, override=accept)
    (about,), model = components.about, RosettaModel.of_components(components)
    if about.get("sharer_cache") == "zeroed":
        sharer_reads = "zeroed"
    aligner = ChatAligner(pair.receiver.tokenizer, pair.sharer.tokenizer, about.get("alignment", "span"))
    return Fused(pair, model, aligner, sharer_reads, memory=memory)


class OneModel(Method):
    """One model alone; as the Sharer it reads what is private, too. Options as in `Method`."""

    def __init__(self, model: LoadedModel, name: str = "receiver", **options: Any) -> None:
        super().__init__(name, Alone(model, private=name == "sharer"), **options)


class _FusedMethod(Method):
    """A method of a fuser; arguments as in `fused_reader`, options as in `Method`."""

    method: ClassVar[str]
    sharer_reads: ClassVar[str]

    def __init__(
        self,
        pair: Pair,
        fuser: str,
        accept: Sequence[str] = (),
        memory: SharerMemory | None = None,
        **options: Any,
    ) -> None:
        super().__init__(self.method, fused_reader(pair, fuser, self.sharer_reads, accept, memory), **options)


class C2C(_FusedMethod):
    """Fused prefix."""

    method, sharer_reads = "c2c", "matched"


class C2CDeranged(_FusedMethod):
    """The Sharer reads another question."""

    method, sharer_reads = "c2c_deranged", "deranged"


class C2CZeroed(_FusedMethod):
    """The Sharer's cache is zeros."""

    method, sharer_reads = "c2c_zeroed", "zeroed"


def build_single(name: str, inputs: MethodInputs) -> OneModel:
    """The Receiver or the Sharer alone."""
    model = inputs.receiver if name == "receiver" else inputs.pair.sharer
    return OneModel(model, name, **inputs.options)


def build_fused(name: str, inputs: MethodInputs) -> Method:
    """A method of the Fusers of a pair or of a group."""
    caches = DECLARATIONS[name].sharer_caches(len(inputs.sharers))
    if len(inputs.sharers) == 1:
        reader: Reader = fused_reader(inputs.pair, inputs.fusers[0], caches[0], inputs.accept, inputs.memories[0])
    else:
        reader = several_reader(
            inputs.receiver,
            inputs.sharers,
            inputs.fusers,
            caches,
            fusion=inputs.fusion,
            accept=inputs.accept,
            memories=inputs.memories,
        )
    return Method(name, reader, **inputs.options)
