"""A small world and its two tokenizers."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from benchmarks.world import vocabulary
from benchmarks.world.world import World, generate


@pytest.fixture(scope="session")
def world() -> World:
    """32 entities with 4 attributes of 16 values."""
    return generate(entities=32)


@pytest.fixture(scope="session")
def tokenizers(world: World) -> dict[str, PreTrainedTokenizerFast]:
    """Each tokenizer of the world by its name."""
    return {name: vocabulary.build(name, world) for name in vocabulary.TOKENIZERS}


@pytest.fixture(params=sorted(vocabulary.TOKENIZERS))
def tokenizer(
    request: pytest.FixtureRequest, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> PreTrainedTokenizerFast:
    """One after the other."""
    return tokenizers[request.param]
