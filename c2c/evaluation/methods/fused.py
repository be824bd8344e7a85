"""Methods that answer from caches fused by the Fusers of a pair or of a group."""

from __future__ import annotations

from c2c.evaluation.methods.declarations import DECLARATIONS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.readers.load import fused_reader, group_reader
from c2c.evaluation.readers.prompt_memory import PromptMemory


def build(name: str, inputs: MethodInputs) -> Method:
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
    reader.memory = PromptMemory(inputs.receiver, limit=0, starts_alone=True)
    return Method(name, reader, **inputs.options)
