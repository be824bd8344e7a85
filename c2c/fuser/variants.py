"""The variants of the Fuser: ablations of the paper's, its C2C-C, and one bottleneck for keys and values together.

A variant is a class here and a row of `c2c.fuser.config.VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from c2c.fuser.config import VARIANTS, FuserConfig
from c2c.fuser.layer import BlockChain, Fuser
from c2c.types import HALVES, Half, KeyValue


class UnweightedFuser(Fuser):
    """``out = receiver + gate · projection``: no dynamic weights."""

    weighted = False


class UngatedFuser(Fuser):
    """``out = receiver + weight · projection``: every half is fused."""

    gated = False


class UngatedUnweightedFuser(Fuser):
    """``out = receiver + projection`` (the paper's row "+ Fuse")."""

    weighted = gated = False


class ProjectionFuser(Fuser):
    """``out = projection`` of the Sharer's states alone (the paper's row "Project")."""

    weighted = gated = reads_receiver = False


class ProjectedFuser(Fuser):
    """C2C-C: the Sharer's states pass a three-layer MLP of their own before they meet the Receiver's (paper, Table 9).

    The paper says no more than that this MLP has three layers and leads to the Receiver's width; ours, one for each
    half, is ``Cs -> hidden_dim -> hidden_dim -> Ct`` with biases, and RMSNorm and exact GELU between the layers. What
    follows is the released Fuser, which now reads 2 · Ct states a token.
    """

    @property
    def input_widths(self) -> tuple[int, int]:
        """Both have the Receiver's width."""
        return self.config.receiver_width, self.config.receiver_width

    def add_layers(self) -> None:
        """Add the Fuser's modules, then the Sharer's MLPs."""
        super().add_layers()
        widths = (self.config.sharer_width, self.config.hidden_dim, self.config.receiver_width)
        self.add_halves("sharer_mlp", lambda: three_layers(*widths))

    def inputs(self, half: Half, sharer: Tensor, receiver: Tensor) -> Tensor:
        """``z = [sharer_mlp(sharer), receiver]``, ``(B, N, 2 · Ct)``."""
        # (B, Hs, N, Ds) -> (B, N, Cs) -> (B, N, Ct)
        projected = self.layer(half, "sharer_mlp")(self.flatten_heads(sharer))
        return torch.cat([projected, self.flatten_heads(receiver)], dim=-1)


class LowRankFuser(Fuser):
    """One bottleneck of width `rank` over keys and values of Sharer and Receiver together, as in arXiv 2605.22863.

    ``[Ks, Vs, Kr, Vr] -> rank -> num_layers - 1 residual blocks``; from there each half has a linear map to the
    Receiver's heads and one to its dynamic weights. Gates and sum are those of the released Fuser. At the paper's
    sizes it has more than ten times fewer parameters; blocks and heads are our reading, the idea is theirs.
    """

    def add_layers(self) -> None:
        """Add the shared bottleneck, then the linear maps of each half."""
        # Keys and values of both models: the bottleneck reads 2 * (Cs + Ct) states a token.
        config, rank = self.config, self.config.rank
        self.down = nn.Linear(len(HALVES) * sum(self.input_widths), rank)
        self.blocks = BlockChain(config.num_layers - 1, rank, rank, config.dropout)
        self.add_halves("scalar_head", lambda: nn.Linear(rank, config.receiver_heads))
        self.add_halves("proj_out", lambda: nn.Linear(rank, config.receiver_width))

    def hidden_states(self, halves: Sequence[Half], sharer: KeyValue, receiver: KeyValue) -> dict[Half, Tensor]:
        """The same states ``(B, N, rank)`` for each of `halves`."""
        if not halves:
            return {}
        # (B, N, 2 * (Cs + Ct)) -> (B, N, rank), computed once for both halves
        states = [self.flatten_heads(half_states) for half_states in (*sharer, *receiver)]
        return dict.fromkeys(halves, self.blocks(self.down(torch.cat(states, dim=-1))))

    def projection(self, half: Half, hidden: Tensor) -> Tensor:
        """``p = proj_out(h)``, cut into heads."""
        return self.output_heads(half, hidden)

    def weights(self, half: Half, hidden: Tensor) -> Tensor:
        """``w = sigmoid(scalar_head(h))``."""
        return self.head_weights(half, hidden)


def three_layers(width: int, inner: int, output: int) -> nn.Sequential:
    """``(..., width)`` to ``(..., output)``: three linear layers, RMSNorm and exact GELU between them."""
    return nn.Sequential(
        nn.Linear(width, inner),
        nn.RMSNorm(inner, eps=1e-6),
        nn.GELU(),
        nn.Linear(inner, inner),
        nn.RMSNorm(inner, eps=1e-6),
        nn.GELU(),
        nn.Linear(inner, output),
    )


# By name, since c2c.fuser.config lists the variants without importing torch.
FUSERS: dict[str, type[Fuser]] = {variant: globals()[name] for variant, name in VARIANTS.items()}
"""The class of each variant."""


def create_fuser(config: FuserConfig) -> Fuser:
    """A new Fuser of the class of `config.variant`."""
    return FUSERS[config.variant](config)
