"""Methods of one model alone, and methods of trained Fusers."""

from __future__ import annotations

from typing import Any

from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.readers.load import fused_reader, group_reader
from c2c.evaluation.readers.reader import SingleReader
from c2c.models.loading import LoadedModel


class OneModel(Method):
    """One model alone; as the Sharer it reads what is private, too. Options as in `Method`."""

    def __init__(self, model: LoadedModel, name: str = "receiver", **options: Any) -> None:
        super().__init__(name, SingleReader(model, private=name == "sharer"), **options)


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
