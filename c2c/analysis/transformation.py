"""The transformation oracle: can a small network turn a Sharer's cache into the Receiver's? (paper §3.1, Figure 3)

A three-layer MLP maps keys and values of one token of the Sharer's last layer, side by side, to those of the Receiver's
last layer, and is trained by mean squared error alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from c2c.errors import RefusedError


class TransformationTraining(NamedTuple):
    """How the MLP is trained: AdamW's settings are torch's own but for the rate.

    Args:
        hidden: Width of its two hidden layers.
        steps: Of AdamW.
        batch_size: Tokens a step, drawn with replacement.
        learning_rate: The reference trains its mappers at 3e-4.
        seed: Of weights and batches.
    """

    hidden: int = 1024
    steps: int = 1000
    batch_size: int = 1024
    learning_rate: float = 3e-4
    seed: int = 0


class Transformation(nn.Module):
    """Linear, LayerNorm, GELU, twice, and a last Linear, between centred and scaled states.

    Centre and scale come from the training tokens; each side has one scale for all its numbers, so that the error that
    is trained on is the mean squared error of the caches, but for a factor.

    Args:
        sharer: ``(m, width)`` training tokens of the Sharer.
        receiver: ``(m, width)`` the same tokens of the Receiver.
        hidden: Width of the hidden layers.
    """

    def __init__(self, sharer: Tensor, receiver: Tensor, hidden: int) -> None:
        super().__init__()
        for name, states in (("sharer", sharer), ("receiver", receiver)):
            centre = states.mean(0)
            self.register_buffer(f"{name}_centre", centre)
            self.register_buffer(f"{name}_scale", (states - centre).square().mean().sqrt().clamp(min=1e-12))
        self.layers = nn.Sequential(
            *(nn.Linear(sharer.shape[1], hidden), nn.LayerNorm(hidden), nn.GELU()),
            *(nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU()),
            nn.Linear(hidden, receiver.shape[1]),
        )

    def forward(self, sharer: Tensor) -> Tensor:
        """Predicted states of the Receiver, ``(m, width)``."""
        # (m, width): centred and scaled, through the MLP, and back to the size of the states
        states = (sharer - self.get_buffer("sharer_centre")) / self.get_buffer("sharer_scale")
        output: Tensor = self.layers(states)
        return output * self.get_buffer("receiver_scale") + self.get_buffer("receiver_centre")


def train_transformation(sharer: Tensor, receiver: Tensor, training: TransformationTraining) -> Transformation:
    """Train the MLP; the same tokens and settings give the same weights, whatever the state of torch's generator.

    Args:
        sharer: ``(m, width)`` float32 states of the Sharer, keys and values side by side.
        receiver: ``(m, width)`` float32 states of the Receiver at the same tokens.
        training: Its settings.

    Raises:
        RefusedError: If the two hold different numbers of tokens, or none.
    """
    if len(sharer) != len(receiver) or not len(sharer):
        raise RefusedError(
            "A transformation must be trained on the same tokens of both models",
            (len(sharer), len(receiver)),
            "Align them",
        )
    # A generator of its own: weights and batches depend on the seed alone.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(training.seed)
        model = Transformation(sharer, receiver, training.hidden).to(sharer.device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=training.learning_rate)
        scale = model.get_buffer("receiver_scale")
        for _ in range(training.steps):
            rows = torch.randint(len(sharer), (min(training.batch_size, len(sharer)),)).to(sharer.device)
            # Mean squared error in units of the Receiver's scale, so that one learning rate fits models of any scale.
            loss = ((model(sharer[rows]) - receiver[rows]) / scale).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval().requires_grad_(False)


def explained_variance(predicted: Tensor, true: Tensor) -> float:
    """1 minus the squared error over the variance of `true` around its mean, both ``(m, width)``: 1 is perfect."""
    # R² over all numbers of a token together
    spread = (true - true.mean(0)).square().sum()
    return float(1 - (predicted - true).square().sum() / spread)
