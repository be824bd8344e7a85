"""What the methods of a run are built from, and the building of a method by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.answers.batches import TOKEN_BUDGET
from c2c.evaluation.answers.store import AnswerStore
from c2c.evaluation.methods.declarations import DECLARATIONS, Declaration
from c2c.evaluation.methods.method import Method
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.evaluation.readers.reader import SingleReader
from c2c.generation.compiled import compiled_decoding
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair


@dataclass
class MethodInputs:
    """Models, Fusers and settings that the methods of a run share.

    Args:
        receiver: The Receiver.
        sharers: The Sharers.
        fusers: Folder of the Fusers of each Sharer, or of released ones their manifest.
        fusion: How the Fusers of several Sharers work together: ``sequential`` or ``parallel``.
        accept: Lines of the Fusers' contracts that may differ, by name.
        router: Folder of a trained router.
        token_budget: Tokens of a batch.
        store: Keeps answers, so that an interrupted run resumes; None keeps nothing.
        progress: Whether bars are shown.
        panel: The models of a comparison; see `Method`.
    """

    receiver: LoadedModel
    sharers: Sequence[LoadedModel]
    fusers: Sequence[str] = ()
    fusion: str = "sequential"
    accept: Sequence[str] = ()
    router: str = ""
    token_budget: int = TOKEN_BUDGET
    store: AnswerStore | None = None
    progress: bool = True
    panel: Sequence[LoadedModel] = ()
    methods: dict[str, Method] = field(default_factory=dict, init=False)

    @property
    def pair(self) -> Pair:
        """The Receiver and its only Sharer."""
        (sharer,) = self.sharers
        return Pair(self.receiver, sharer)

    @property
    def options(self) -> dict[str, Any]:
        """Options that every `Method` takes."""
        return {"token_budget": self.token_budget, "store": self.store, "progress": self.progress}

    @cached_property
    def memories(self) -> list[PromptMemory]:
        """What each Sharer has read; methods that read the same questions share it."""
        return [PromptMemory(sharer) for sharer in self.sharers]

    @cached_property
    def receiver_memory(self) -> PromptMemory:
        """The Receiver's un-fused caches; methods that answer the same questions share them."""
        return PromptMemory(self.receiver)

    def build_together(self, names: Sequence[str]) -> dict[str, Method]:
        """The methods of these names; those that begin with the Receiver's un-fused cache answer batch by batch.

        Raises:
            RefusedError: As `build`.
        """
        methods = {name: self.build(name) for name in names}
        # Two agents are asked with other questions than all others
        fused = {name for name, method in methods.items() if type(method) is Method}
        users = [method for name, method in methods.items() if name in fused or name == "receiver"]
        if fused and len(users) > 1:
            users[0].companions = users[1:]
            for reader in (method.reader for method in users):
                assert isinstance(reader, FusedReader | SingleReader)
                reader.memory = self.receiver_memory
        return methods

    def build(self, name: str) -> Method:
        """The method of this name; built once, since one method may use the answers of another.

        Raises:
            RefusedError: If no method has this name, or its Fusers or router do not fit the models.
        """
        if name not in self.methods:
            module, _, function = declaration(name).builder.partition(":")
            build = getattr(import_module(f"c2c.evaluation.methods.{module}"), function)
            method: Method = build(name, self)
            method.panel = self.panel
            self.methods[name] = method
        return self.methods[name]


def declaration(name: str) -> Declaration:
    """The declaration of a method.

    Raises:
        RefusedError: If no method has this name.
    """
    return DECLARATIONS[check_choice("A method", name, DECLARATIONS)]


@contextmanager
def compiled_writing(methods: Sequence[Method], stage: str) -> Iterator[None]:
    """Inside, the models by which these methods write decode by compiled steps, if `stage` is ``decoding``.

    Raises:
        RefusedError: If a method fuses what it writes, or a model is refused by
            `c2c.generation.compiled.check_compilable`.
    """
    if stage != "decoding":
        yield
        return
    for method in methods:
        if isinstance(method.reader, FusedReader) and method.reader.model.include_response:
            rule = "A method whose decoding is compiled must leave its response unfused"
            raise RefusedError(rule, method.name, "Pass --compile none, or Fusers of prompts alone")
    with compiled_decoding([loaded.model for method in methods for loaded in method.writers]):
        yield
