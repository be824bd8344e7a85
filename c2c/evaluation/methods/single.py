"""Methods of one model without Fusers: the Receiver or the Sharer alone."""

from __future__ import annotations

from typing import Any

from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.evaluation.readers.reader import SingleReader
from c2c.models.loading import LoadedModel


class SingleModel(Method):
    """One model alone; only as the Sharer it reads private lines. Options as in `Method`."""

    def __init__(self, model: LoadedModel, name: str = "receiver", **options: Any) -> None:
        memory = PromptMemory(model, limit=0, starts_alone=True)
        super().__init__(name, SingleReader(model, private=name == "sharer", memory=memory), **options)


def build(name: str, inputs: MethodInputs) -> SingleModel:
    """The Receiver or the Sharer alone."""
    model = inputs.receiver if name == "receiver" else inputs.pair.sharer
    return SingleModel(model, name, **inputs.options)
