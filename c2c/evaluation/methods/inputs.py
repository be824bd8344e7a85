"""What the methods of a run are built from, and the building of a method by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from c2c.errors import check_choice
from c2c.evaluation.answers.store import AnswerStore
from c2c.evaluation.methods.declarations import DECLARATIONS, Declaration
from c2c.evaluation.methods.method import TOKEN_BUDGET, Method
from c2c.evaluation.readers.sharer_memory import SharerMemory
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
    def memories(self) -> list[SharerMemory]:
        """What each Sharer has read; methods that read the same questions share it."""
        return [SharerMemory(sharer) for sharer in self.sharers]

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
