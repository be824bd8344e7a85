"""A pair of tiny models, lines to learn from, and a trainer of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example, Examples
from c2c.training.fusers import FuserLearner

SMALL = {
    "steps": 6,
    "batch_size": 4,
    "hidden_dim": 8,
    "intermediate_dim": 8,
    "evaluate_every": 3,
    "checkpoint_every": 2,
}


def tokenise(rows, pair, alignment, max_length) -> list[Example]:
    tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
    return list(Examples(*tokenizers, alignment, "plain", max_length).of(rows))


@pytest.fixture
def pair(tiny_model, word_tokenizer) -> Pair:
    vocab = len(word_tokenizer)
    receiver = tiny_model("qwen3", vocab=vocab)
    sharer = tiny_model("qwen2", vocab=vocab, layers=4, seed=1)
    return Pair(LoadedModel("receiver", receiver, word_tokenizer), LoadedModel("sharer", sharer, word_tokenizer))


@pytest.fixture
def rows(word_tokenizer) -> list[dict[str, str]]:
    words = [word for word in word_tokenizer.get_vocab() if word.isalpha()][:6]
    return [
        {"id": str(n), "prompt": " ".join(words[n % 3 :] + words[: n % 4]), "response": words[n % len(words)]}
        for n in range(10)
    ]


@pytest.fixture
def trainer(pair, rows, tmp_path) -> Callable[..., FuserLearner]:
    examples = tokenise(rows, pair, "span", 64)

    def build(folder: str = "checkpoints", **changes) -> FuserLearner:
        return FuserLearner(pair, TrainingConfig(**{**SMALL, **changes}), examples, examples[:3], tmp_path / folder)

    return build


def weights(trainer_: FuserLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer_.stack.state_dict().items()}
