"""Concept vectors: a few vectors pooled from the Sharer's hidden states, which the Receiver reads as soft tokens.

Pooling is attention with one learned query a vector; the map to the Receiver's embeddings is an MLP. Soft tokens are
those of prompt tuning (Lester et al. 2021, arXiv 2104.08691), made anew for each item. No place is used: the vectors
stand before the whole prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from c2c.settings import setting
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext, TrainingItem, TrainingResult
from c2c.testbed.channels.hidden import hidden_size, layer_at, read_hidden, read_prompts
from c2c.testbed.channels.training import StepSettings, train, value_loss
from c2c.testbed.models import Models, Prefixes


@dataclass(frozen=True, kw_only=True)
class ConceptSettings(StepSettings):
    """Of pooled vectors and their training.

    A step costs more than one of other channels, since the Receiver reads whole prompts, with gradients; so there are
    fewer and smaller ones, and fewer items in the curve.

    Args:
        concepts: Vectors of a message.
        sharer_layer: Share of the Sharer's layers that have been computed.
        width: Hidden width of the MLP.
    """

    steps: int = setting(60, "optimiser steps", least=1, most=10**6)
    batch_size: int = setting(16, "items of a step", least=1, most=10**5)
    curve_items: int = setting(30, "validation items of a point of the curve", least=0, most=10**6)
    concepts: int = setting(8, "vectors of a message", least=1, most=10**6)
    sharer_layer: float = setting(0.5, "layer of the Sharer, as a share of its depth", least=0, most=1)
    width: int = setting(256, "hidden width", least=1, most=10**6)


class ConceptWeights(nn.Module):
    """Queries of the Sharer and the map to the Receiver's embeddings.

    Args:
        sharer: Hidden size of the Sharer.
        receiver: Hidden size of the Receiver.
        concepts: Vectors of a message.
        width: Hidden width of the map.
        scale: Root mean square of the Receiver's embeddings, which soft tokens have at first.
    """

    def __init__(self, sharer: int, receiver: int, concepts: int, width: int, scale: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(concepts, sharer) / sharer**0.5)
        self.map = nn.Sequential(
            nn.Linear(sharer, width), nn.GELU(), nn.Linear(width, receiver), nn.LayerNorm(receiver)
        )
        self.scale = scale

    def pool(self, hidden_states: Tensor) -> Tensor:
        """Concepts ``(k, sharer)`` of hidden states ``(N, sharer)``, each token normalised first."""
        tokens = functional.layer_norm(hidden_states, hidden_states.shape[-1:])
        # (k, sharer) @ (sharer, N) -> (k, N)
        return (self.queries @ tokens.T).softmax(-1) @ tokens

    def embed(self, concepts: Tensor) -> Tensor:
        """Soft tokens ``(..., k, receiver)`` of concepts ``(..., k, sharer)``."""
        soft_tokens: Tensor = self.scale * self.map(concepts)
        return soft_tokens


class Concept:
    """A message holds ``k`` pooled vectors ``(1, k, hidden)`` of the Sharer's texts, whatever their length."""

    settings = ConceptSettings()
    weights: ConceptWeights

    def __init__(self, models: Models) -> None:
        self.models = models

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Train pooling and map on the loss of the value's tokens after soft tokens and prompt."""
        settings, receiver, sharer = self.settings, self.models.receiver, self.models.sharer
        embeddings = receiver.model.get_input_embeddings()
        sizes = (hidden_size(sharer), hidden_size(receiver))
        with torch.no_grad():
            rows = embeddings(torch.tensor([training[0].prompt.tokens], device=receiver.device)).float()
        torch.manual_seed(seed)
        self.weights = ConceptWeights(*sizes, settings.concepts, settings.width, float(rows.square().mean().sqrt()))
        self.weights.to(receiver.device)
        states = self._hidden([example.context for example in training])

        def loss(numbers: Sequence[int]) -> Tensor:
            prompts = [training[number].prompt for number in numbers]
            concepts = torch.stack([self.weights.pool(states[number]) for number in numbers])
            return value_loss(receiver, prompts, self._prefixes(prompts, concepts))

        result = train(self, self.weights, settings, loss, len(training), validation, seed)
        self.weights.eval()
        return result

    @torch.no_grad()
    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Pooled vectors in the Sharer's precision."""
        dtype = self.models.sharer.model.dtype
        return [Message({"concepts": self.weights.pool(states)[None].to(dtype)}) for states in self._hidden(contexts)]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers to prompts that begin with the soft tokens."""

        @torch.no_grad()
        def receive(batch: Sequence[Prompt], numbers: Sequence[int]) -> list[ReceiverAnswer]:
            concepts = torch.cat([messages[number].tensors["concepts"] for number in numbers]).float()
            return self.models.receiver.answer(batch, self._prefixes(batch, concepts))

        return self.models.in_batches(receive, prompts)

    def _hidden(self, contexts: Sequence[SharerContext]) -> list[Tensor]:
        """Hidden states of all tokens of each context's texts, ``(N, hidden)``."""
        sharer = self.models.sharer
        rows = [[sharer.tokenise(text)[0] for text in context.texts] for context in contexts]
        layer = layer_at(sharer, self.settings.sharer_layer)
        states = iter(read_hidden(sharer, [ids for its_rows in rows for ids in its_rows], layer))
        return [torch.cat([next(states) for _ in its_rows]) for its_rows in rows]

    def _prefixes(self, prompts: Sequence[Prompt], concepts: Tensor) -> Prefixes:
        """Prefixes of B prompts after their soft tokens, of concepts ``(B, k, hidden)``."""
        receiver = self.models.receiver
        soft_tokens = self.weights.embed(concepts).to(receiver.model.dtype)
        # A token that begins every text stays the first.
        has_bos = {prompt.tokens[0] for prompt in prompts} == {receiver.tokenizer.bos_token_id}
        return read_prompts(receiver, prompts, soft_tokens=soft_tokens, front=int(has_bos))
