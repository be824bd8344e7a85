"""An agent: a language model with a name, and with facts that it alone reads."""

from __future__ import annotations

import re

import torch
from transformers import PreTrainedConfig

from c2c.agents.chat_pipeline import Model, check_model, open_model
from c2c.errors import RefusedError, check_choice
from c2c.models.loading import LoadedModel, check_device
from c2c.types import DTYPES

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


class Agent:
    """A language model with a name, and with facts that it alone reads.

    Args:
        name: Letters, digits, ``-`` and ``_``; messages and their folders carry it.
        model: A folder, model manifest or hub id; or a model with its tokenizer, as a `LoadedModel` or as
            ``(model, tokenizer)``. Agents that share a model are given the same `LoadedModel`. Of an agent that runs in
            another process it is ``LoadedModel(name, config, tokenizer)``, with a config in place of the model.
        facts: What this agent knows and no other one reads; empty if its knowledge is in its weights alone.
        dtype: Of a model that is loaded here.
        device: Where the model runs; it stays where it is if None.

    Raises:
        RefusedError: If the name cannot be one of a folder, or the model is not found.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        facts: str = "",
        *,
        dtype: str = "float32",
        device: str | torch.device | None = None,
    ) -> None:
        if not re.fullmatch(NAME, name):
            rule = "The name of an agent must be up to 64 letters, digits, - and _"
            raise RefusedError(rule, name, "Shorten it, or leave out other characters")
        check_choice("The precision of models", dtype, DTYPES)
        check_model("model of an agent", model)
        self.name, self.facts = name, facts
        self.model: LoadedModel = open_model(model, dtype, None if device is None else check_device(device))

    @property
    def is_here(self) -> bool:
        """Whether its model can run in this process."""
        return not isinstance(self.model.model, PreTrainedConfig)
