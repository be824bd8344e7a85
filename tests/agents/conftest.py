"""Three agents on tiny models: carol answers; alice and bob have facts, and models of two other families."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from c2c import FuserStack, RosettaModel
from c2c.agents import Agent, HandOver
from c2c.checkpoints.checkpoint import save_stack
from c2c.models.loading import LoadedModel
from tests.conftest import build_model, open_gates

QUESTION = "what is the color of home?"
FACTS = {"alice": "home is red", "bob": "oslo is blue"}


class Trio(NamedTuple):
    """The agents, and a folder of fusers for each sender."""

    carol: Agent
    alice: Agent
    bob: Agent
    fusers: dict[str, Path]

    def hand_over(self, **options) -> HandOver:
        """Carol answers with both."""
        return HandOver(self.carol, [self.alice, self.bob], self.fusers, **options)


def save_fusers(receiver: LoadedModel, sharer: LoadedModel, folder: Path, seed: int = 3, **about) -> Path:
    """Fusers with open gates, saved with the contract of both models."""
    torch.manual_seed(seed)
    shapes = (sharer.model.config, receiver.model.config)
    stack = FuserStack.between(*shapes, hidden_dim=16, intermediate_dim=16)
    open_gates(RosettaModel.of_stacks(receiver.model, [sharer.model], [stack]))
    lines = {"receiver": receiver.description, "sharer": sharer.description}
    save_stack(stack, folder, **lines, about={"alignment": "span", "sharer_cache": "own", **about})
    return folder


@pytest.fixture(scope="session")
def trio(chat_receiver, chat_sharer, tmp_path_factory) -> Trio:
    folder = tmp_path_factory.mktemp("trio")
    receiver = LoadedModel("receiver", build_model("qwen3", vocab=len(chat_receiver)), chat_receiver)
    models = {
        "alice": build_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1),
        "bob": build_model("qwen2", vocab=len(chat_sharer), seed=2),
    }
    sharers = {name: LoadedModel(f"model_of_{name}", model, chat_sharer) for name, model in models.items()}
    fusers = {name: save_fusers(receiver, sharer, folder / name) for name, sharer in sharers.items()}
    return Trio(
        Agent("carol", receiver),
        Agent("alice", sharers["alice"], FACTS["alice"]),
        Agent("bob", sharers["bob"], FACTS["bob"]),
        fusers,
    )
