"""Fusers beyond the published ones: the paper's C2C-C, and one bottleneck for keys and values together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from c2c.fuser.config import FuserConfig
from c2c.fuser.layer import BlockChain, Fuser
from c2c.types import HALVES, Half, KeyValue


class ProjectedFuser(Fuser):
    """C2C-C: the Sharer's states pass a three-layer MLP of their own before they meet the Receiver's (paper, Table 9).

    The paper says no more than that this MLP has three layers and leads to the Receiver's width; ours, one for each
    half, is ``Cs -> hidden_dim -> hidden_dim -> Ct`` with biases, and RMSNorm and exact GELU between the layers. What
    follows is the published Fuser, which now reads 2 · Ct states a token.
    """

    def _add_parts(self) -> None:
        super()._add_parts()
        config = self.config
        self._add_halves(
            "sharer_mlp", lambda: three_layers(config.sharer_width, config.hidden_dim, config.receiver_width)
        )

    def _join(self, half: Half, sharer: Tensor, receiver: Tensor) -> Tensor:
        projected = self._part(half, "sharer_mlp")(self._flat(sharer))
        return torch.cat([projected, self._flat(receiver)], dim=-1) if self.config.reads_receiver else projected


class LowRankFuser(Fuser):
    """One bottleneck of width `rank` over keys and values of Sharer and Receiver together, as in arXiv 2605.22863.

    ``[Ks, Vs, Kr, Vr] -> rank -> num_layers - 1 residual blocks``; from there each half has a linear map to the
    Receiver's heads and one to its dynamic weights. Gates and sum are those of the published Fuser. At the paper's
    sizes it has more than ten times fewer parameters; blocks and heads are our reading, the idea is theirs.
    """

    def _add_parts(self) -> None:
        config = self.config
        rank = config.rank
        self.down = nn.Linear(len(HALVES) * config.joined_width, rank)
        self.blocks = BlockChain(config.num_layers - 1, rank, rank, config.dropout)
        if config.weighted:
            self._add_halves("scalar_head", lambda: nn.Linear(rank, config.receiver_heads))
        self._add_halves("proj_out", lambda: nn.Linear(rank, config.receiver_width))

    def _hidden(self, halves: Sequence[Half], sharer: KeyValue, receiver: KeyValue) -> dict[Half, Tensor]:
        if not halves:
            return {}
        read = [*sharer, *receiver] if self.config.reads_receiver else list(sharer)
        shared = self.blocks(self.down(torch.cat([self._flat(states) for states in read], dim=-1)))
        return dict.fromkeys(halves, shared)

    def _project(self, half: Half, hidden: Tensor) -> Tensor:
        return self._to_heads(half, hidden)

    def _weight(self, half: Half, hidden: Tensor) -> Tensor:
        return self._score(half, hidden)


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


def create_fuser(config: FuserConfig) -> Fuser:
    """A new Fuser of the class that `config` asks for."""
    if config.joint:
        return LowRankFuser(config)
    return ProjectedFuser(config) if config.projects_sharer else Fuser(config)
