"""Cache-to-Cache: one language model reads another's KV-cache. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from c2c.errors import missing_package

if TYPE_CHECKING:
    from c2c.agents.agent import Agent
    from c2c.agents.chat_pipeline import ChatPipeline, pipeline
    from c2c.agents.hand_over import HandOver
    from c2c.agents.message import AgentMessage
    from c2c.alignment.chat import ChatAligner
    from c2c.alignment.tokens import SharerInput, TokenAligner
    from c2c.checkpoints.sharer_cache import SharerCache
    from c2c.errors import RefusedError
    from c2c.fuser.config import FuserConfig
    from c2c.fuser.layer import Fuser
    from c2c.fuser.stack import FuserStack
    from c2c.fusion.prompt import generate_kv_cache_index
    from c2c.models.loading import LoadedModel
    from c2c.rosetta import RosettaModel, create_c2c_projector

__version__ = "0.1.0"
_HOMES = {
    "Agent": "c2c.agents.agent",
    "AgentMessage": "c2c.agents.message",
    "ChatAligner": "c2c.alignment.chat",
    "ChatPipeline": "c2c.agents.chat_pipeline",
    "Fuser": "c2c.fuser.layer",
    "FuserConfig": "c2c.fuser.config",
    "FuserStack": "c2c.fuser.stack",
    "HandOver": "c2c.agents.hand_over",
    "LoadedModel": "c2c.models.loading",
    "RefusedError": "c2c.errors",
    "RosettaModel": "c2c.rosetta",
    "SharerCache": "c2c.checkpoints.sharer_cache",
    "SharerInput": "c2c.alignment.tokens",
    "TokenAligner": "c2c.alignment.tokens",
    "create_c2c_projector": "c2c.rosetta",
    "generate_kv_cache_index": "c2c.fusion.prompt",
    "pipeline": "c2c.agents.chat_pipeline",
}
__all__ = [
    "Agent",
    "AgentMessage",
    "ChatAligner",
    "ChatPipeline",
    "Fuser",
    "FuserConfig",
    "FuserStack",
    "HandOver",
    "LoadedModel",
    "RefusedError",
    "RosettaModel",
    "SharerCache",
    "SharerInput",
    "TokenAligner",
    "__version__",
    "create_c2c_projector",
    "generate_kv_cache_index",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    # `c2c.stats` and `make verify` must not pay for torch, nor need it.
    if name not in _HOMES:
        raise AttributeError(f"module 'c2c' has no attribute {name!r}; it has: {', '.join(__all__)}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ImportError as error:
        # A package of an extra: the refusal names the extra.
        if refusal := missing_package(error):
            raise refusal from error
        raise
