"""Methods of one model alone, and methods of trained Fusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.readers.load import fused_reader, group_reader
from c2c.evaluation.readers.reader import SingleReader
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair


class OneModel(Method):
    """One model alone; as the Sharer it reads what is private, too. Options as in `Method`."""

    def __init__(self, model: LoadedModel, name: str = "receiver", **options: Any) -> None:
        super().__init__(name, SingleReader(model, private=name == "sharer"), **options)


class _FusedMethod(Method):
    """A method of a fuser; arguments as in `fused_reader`, options as in `Method`."""

    method: ClassVar[str]
    sharer_cache: ClassVar[str]

    def __init__(
        self,
        pair: Pair,
        fuser: str,
        accept: Sequence[str] = (),
        memory: SharerMemory | None = None,
        **options: Any,
    ) -> None:
        super().__init__(self.method, fused_reader(pair, fuser, self.sharer_cache, accept, memory), **options)


class C2C(_FusedMethod):
    """The prefix is fused with the Sharer's cache of it."""

    method, sharer_cache = "c2c", "matched"


class C2CDeranged(_FusedMethod):
    """The Sharer reads another question."""

    method, sharer_cache = "c2c_deranged", "deranged"


class C2CZeroed(_FusedMethod):
    """The Sharer's cache is zeros."""

    method, sharer_cache = "c2c_zeroed", "zeroed"


def build_single(name: str, inputs: MethodInputs) -> OneModel:
    """The Receiver or the Sharer alone."""
    model = inputs.receiver if name == "receiver" else inputs.pair.sharer
    return OneModel(model, name, **inputs.options)


def build_fused(name: str, inputs: MethodInputs) -> Method:
    """A method of the Fusers of a pair or of a group."""
    caches = DECLARATIONS[name].sharer_caches(len(inputs.sharers))
    if len(inputs.sharers) == 1:
        reader = fused_reader(inputs.pair, inputs.fusers[0], caches[0], inputs.accept, inputs.memories[0])
    else:
        reader = group_reader(
            inputs.receiver,
            inputs.sharers,
            inputs.fusers,
            caches,
            fusion=inputs.fusion,
            accept=inputs.accept,
            memories=inputs.memories,
        )
    return Method(name, reader, **inputs.options)
