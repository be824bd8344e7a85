"""Fusers that start from a closed form: what a ridge regression predicts of the Receiver's states, layer by layer.

A row is a fused token. X holds the keys and values of the Sharer's layer that a Receiver layer is linked with, as its
Fuser reads them, and Y the Receiver's own. The predictions take the place of the Receiver's states before the Fusers
read and change them. With standardised X and λ as a share of the mean eigenvalue of X'X, the penalty is the one with
the least generalised cross-validation error (Golub, Heath and Wahba 1979, Technometrics 21), which approximates that of
leaving one row out. At least `ROWS_A_FEATURE` tokens a feature are fitted, so that predictions of tokens that were
fitted are close to those of others, and the Fusers may learn from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from c2c.errors import RefusedError
from c2c.fuser.stack import FuserStack
from c2c.types import CacheShape, KeyValue

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of which one is chosen for each layer, as shares of the mean eigenvalue."""
ROWS_A_FEATURE = 4
"""Tokens that are fitted at least, for each number of a Sharer layer's keys and values."""


class BaseMap(nn.Module):
    """An affine map for each Receiver layer; its numbers are buffers, which no training changes.

    Attributes:
        tokens: On how many tokens it was fitted; 0 before.

    Args:
        sharer: Cache sizes of the Sharer.
        receiver: Cache sizes of the Receiver, T layers.
        tokens: See above.
    """

    weight: Tensor
    """``(T, 2 * Cs, 2 * Ct)`` with ``C = H * D``: keys, then values."""
    bias: Tensor
    """``(T, 2 * Ct)``."""

    def __init__(self, sharer: CacheShape, receiver: CacheShape, tokens: int = 0) -> None:
        super().__init__()
        self.receiver, self.tokens = receiver, tokens
        widths = [2 * shape.heads * shape.head_dim for shape in (sharer, receiver)]
        self.register_buffer("weight", torch.zeros(receiver.layers, *widths))
        self.register_buffer("bias", torch.zeros(receiver.layers, widths[1]))

    def predict(self, layer: int, source: KeyValue) -> KeyValue:
        """Keys and values ``(B, Ht, N, Dt)`` of a Receiver layer from those ``(B, Hs, N, Ds)`` of its Sharer layer."""
        rows = flatten_halves(source).to(self.weight.dtype) @ self.weight[layer] + self.bias[layer]
        # (B, N, 2 * Ht * Dt) -> (B, N, 2, Ht, Dt) -> (2, B, Ht, N, Dt)
        halves = rows.unflatten(-1, (2, self.receiver.heads, self.receiver.head_dim)).permute(2, 0, 3, 1, 4)
        return halves[0], halves[1]


class RidgeStack(FuserStack):
    """Fusers on top of a closed form: linked layers get its predictions first, which the Fusers then read and change.

    Layers that `only_layers` leaves out, and tokens without a Sharer token, keep the Receiver's states. Closed gates
    leave the predictions as they are.

    Attributes:
        base: The closed form.
        fit: Counts the tokens that are fused, which then keep the Receiver's states; None outside of a fit.

    Args:
        stack: The Fusers with their links.
        tokens: On how many tokens the closed form was fitted, if its numbers are loaded.
    """

    fit: RidgeFit | None = None

    def __init__(self, stack: FuserStack, tokens: int = 0) -> None:
        super().__init__(stack.sharer, stack.receiver)
        # The same modules, not copies
        self.fusers, self.links = stack.fusers, stack.links
        self.base = BaseMap(stack.sharer, stack.receiver, tokens)

    def forward(
        self,
        sharer: Sequence[KeyValue],
        receiver: Sequence[KeyValue],
        matched: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> list[KeyValue]:
        """Fuse every linked layer as `FuserStack.forward`, from the predictions."""
        states = list(receiver)
        for layer in filter(self.is_active, self.links):
            source = sharer[self.links[layer].sharer_layer]
            states[layer] = self.replaced(layer, source, receiver[layer], matched)
        return super().forward(sharer, states, matched, dtype)

    def fuse_layer(self, layer: int, source: KeyValue, target: KeyValue, matched: Tensor | None = None) -> KeyValue:
        """Fuse one linked layer as `FuserStack.fuse_layer`, from the predictions."""
        return super().fuse_layer(layer, source, self.replaced(layer, source, target, matched), matched)

    def replaced(self, layer: int, source: KeyValue, target: KeyValue, matched: Tensor | None) -> KeyValue:
        """The predictions of a layer in the place of its states ``(B, Ht, N, Dt)``, in their precision."""
        self.fuser_of(layer).check(source, target)
        if self.fit is not None:
            self.fit.add(layer, source, target, matched)
            return target
        # (B, N) -> (B, 1, N, 1), over heads and dimensions
        mask = None if matched is None else matched.to(target[0].device)[:, None, :, None]
        keys, values = (
            new.to(old.dtype) if mask is None else torch.where(mask, new.to(old.dtype), old)
            for new, old in zip(self.base.predict(layer, source), target, strict=True)
        )
        return keys, values


class RidgeFit:
    """Sums over the tokens that a stack fuses, layer by layer, from which its base map follows.

    Used as a context, in which everything that the stack fuses is counted. Sums are float64: ``X'X`` takes
    ``T * (2 Cs)^2`` numbers.

    Args:
        stack: Whose base map is fitted.
    """

    def __init__(self, stack: RidgeStack) -> None:
        self.stack = stack
        self.tokens = dict.fromkeys(stack.links, 0)
        self._sums: dict[int, list[Tensor]] = {}

    def __enter__(self) -> RidgeFit:
        self.stack.fit = self
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.fit = None

    @torch.no_grad()
    def add(self, layer: int, source: KeyValue, target: KeyValue, matched: Tensor | None) -> None:
        """Count the tokens of a layer; arguments as of `FuserStack.fuse_layer`."""
        inputs, outputs = flatten_halves(source), flatten_halves(target)
        # (B, N, C) -> (n, C): the tokens that are fused
        fused = torch.ones(inputs.shape[:2], dtype=torch.bool) if matched is None else matched
        rows, targets = (part[fused.to(part.device)].double() for part in (inputs, outputs))
        sums = [rows.sum(0), targets.sum(0), rows.T @ rows, rows.T @ targets, targets.square().sum()]
        before = self._sums.get(layer)
        self._sums[layer] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]
        self.tokens[layer] += len(rows)

    @torch.no_grad()
    def solve(self) -> dict[str, Any]:
        """Set the stack's closed form.

        Returns:
            For provenance: `tokens`, the penalty of each layer, and `explained`, the share of the Receiver's variance
            that predictions of rows left out explain, by the error that chose the penalty; a mean over layers.

        Raises:
            RefusedError: If too few tokens were counted.
        """
        base, features = self.stack.base, self.stack.base.weight.shape[1]
        count = min(self.tokens.values(), default=0)
        if count < ROWS_A_FEATURE * features:
            raise RefusedError(
                f"A ridge start must be fitted on {ROWS_A_FEATURE} tokens or more for each of {features} features",
                f"{count} tokens",
                "Raise ridge_examples, or take a larger training set",
            )
        penalties, shares = {}, []
        for layer in sorted(self._sums):
            weight, bias, penalties[str(layer)], explained = solve_ridge(self.tokens[layer], *self._sums[layer])
            base.weight[layer], base.bias[layer] = weight, bias
            shares.append(explained)
        base.tokens = count
        return {"tokens": count, "penalties": penalties, "explained": sum(shares) / len(shares)}


def solve_ridge(
    count: int, row_sum: Tensor, target_sum: Tensor, squares: Tensor, products: Tensor, target_squares: Tensor
) -> tuple[Tensor, Tensor, float, float]:
    """The regression of N rows with the penalty of `PENALTIES` that generalised cross-validation prefers.

    Args:
        count: N.
        row_sum: Sum of the rows of X ``(F,)``.
        target_sum: Sum of the rows of Y ``(G,)``.
        squares: ``X'X (F, F)``.
        products: ``X'Y (F, G)``.
        target_squares: Sum of squares of Y ``()``.

    Returns:
        Weight ``(F, G)`` and bias ``(G,)`` for rows as they are, the penalty, and the share of the variance of Y that
        it explains by the same error.
    """
    # 1. Centred and standardised; a feature that never changes is divided by a small number.
    mean, offset = row_sum / count, target_sum / count
    spread = (squares.diagonal() / count - mean.square()).clamp(min=0).sqrt()
    scale = spread + 1e-3 * spread.square().mean().sqrt() + 1e-12
    gram = (squares - count * mean[:, None] * mean) / scale[:, None] / scale
    cross = (products - count * mean[:, None] * offset) / scale[:, None]
    total = float(target_squares - count * offset.square().sum())
    # 2. One decomposition serves every penalty: with X'X = V S V', B = V (S + λ)^-1 V'X'Y.
    values, vectors = torch.linalg.eigh(gram)
    values, rotated = values.clamp(min=0), vectors.T @ cross
    size, power = float(values.mean()) or 1.0, rotated.square().sum(1)

    def error(penalty: float) -> float:
        """Mean squared error of a row that is left out, approximately."""
        weights = 1 / (values + penalty * size)
        residual = total - float((2 * weights * power - values * weights.square() * power).sum())
        freedom = 1 + float((values * weights).sum())
        return count * residual / (count - freedom) ** 2

    penalty = min(PENALTIES, key=error)
    weight = (vectors @ (rotated / (values + penalty * size)[:, None])) / scale[:, None]
    explained = 1 - error(penalty) * count / total if total > 0 else 0.0
    return weight, offset - mean @ weight, penalty, explained


def flatten_halves(states: KeyValue) -> Tensor:
    """Keys and values ``(B, H, N, D)`` as one row a token, keys first: ``(B, N, 2 * H * D)``."""
    # (B, H, N, D) -> (B, N, H, D) -> (B, N, H * D)
    return torch.cat([half.transpose(1, 2).flatten(2) for half in states], dim=-1)
