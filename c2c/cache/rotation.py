"""Rotary positions of keys, taken off and put on: the same key at another position of a text.

A cache holds keys after their rotation. What a model makes of a token, apart from where it stands, is the key without
it. The rotation is the model's own: its rotary module gives cosines and sines, which are applied to the two halves of a
head as most families of transformers do. `check_rotation` finds out whether a model does, by reading two tokens twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache.kv_cache import layers_of, prefill
from c2c.errors import RefusedError
from c2c.types import KeyValue

SHIFT = 7
"""Positions by which the two tokens of the check are moved."""
TOLERANCE = 1e-2
"""Largest difference of a key from itself after the check, as a share of its norm: that of a cache in bfloat16."""


def rotate_layers(
    model: PreTrainedModel, layers: Sequence[KeyValue], positions: Tensor, *, inverse: bool = False
) -> list[KeyValue]:
    """Rotate the keys of each layer to their positions, or take the rotation off.

    Args:
        model: The causal model whose cache it is.
        layers: T layers of keys and values ``(B, H, n, D)``.
        positions: ``(B, n)`` int64.
        inverse: Whether the keys have the rotation, which is taken off.

    Returns:
        T layers; the values are the same tensors.
    """
    rotations: dict[str | None, tuple[Tensor, Tensor]] = {}
    kinds = _layer_kinds(model)
    rotated = []
    for number, (keys, values) in enumerate(layers):
        kind = kinds[number]
        if kind not in rotations:
            # (B, n, d) -> (B, 1, n, d), over heads
            cos, sin = (part[:, None].float() for part in _cos_sin(model, keys, positions, kind))
            # Scaled rotations (yarn, longrope) are longer than 1, so the inverse is divided by their square.
            length = cos.square() + sin.square()
            rotations[kind] = (cos / length, -sin / length) if inverse else (cos, sin)
        rotated.append((_rotate(keys, *rotations[kind]), values))
    return rotated


def _layer_kinds(model: PreTrainedModel) -> list[str | None]:
    """The kind of each layer where the rotary module has a rotation for each kind, such as Gemma 3's."""
    config = model.config.get_text_config()
    has_kinds = hasattr(_rotary(model), "full_attention_inv_freq")
    return list(config.layer_types) if has_kinds else [None] * config.num_hidden_layers


def _rotary(model: PreTrainedModel) -> Any:
    rotary = getattr(model.base_model, "rotary_emb", None)
    if rotary is None:
        raise _refused(model, "no rotary_emb in its body")
    return rotary


def _cos_sin(model: PreTrainedModel, like: Tensor, positions: Tensor, kind: str | None) -> tuple[Tensor, Tensor]:
    more = () if kind is None else (kind,)
    cos, sin = _rotary(model)(like, positions, *more)
    return cos, sin


def _rotate(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # Some families rotate the first d of D numbers of a head only.
    width = cos.shape[-1]
    turned, rest = keys[..., :width].float(), keys[..., width:]
    half = width // 2
    swapped = torch.cat((-turned[..., half:], turned[..., :half]), dim=-1)
    return torch.cat(((turned * cos + swapped * sin).to(keys.dtype), rest), dim=-1)


@torch.no_grad()
def check_rotation(model: PreTrainedModel) -> None:
    """Refuse a model whose keys at another position are not what `rotate_layers` makes of them.

    Raises:
        RefusedError: If so, or if the model has no rotary module.
    """
    # The first token attends to itself alone, so its keys at two positions differ by the rotation, in every layer.
    device = model.device
    ids, mask = torch.ones(1, 1, dtype=torch.long, device=device), torch.ones(1, 1, dtype=torch.long, device=device)
    unrotated = []
    for start in (0, SHIFT):
        positions = torch.full((1, 1), start, device=device)
        layers = layers_of(prefill(model, ids, mask, positions))
        unrotated.append([keys for keys, _ in rotate_layers(model, layers, positions, inverse=True)])
    for number, (keys, moved) in enumerate(zip(*unrotated, strict=True)):
        difference = float((keys - moved).float().norm() / keys.float().norm().clamp(min=1e-6))
        if not difference <= TOLERANCE:
            raise _refused(model, f"layer {number}: a key differs by {difference:.2f} of its norm when it is moved")


def _refused(model: PreTrainedModel, received: str) -> RefusedError:
    return RefusedError(
        "A model whose keys are moved to other positions must rotate the two halves of each head",
        f"{model.config.model_type}: {received}",
        "Use a model with such rotary positions (Llama, Qwen, Gemma, Mistral, Phi), or a channel that moves no keys",
    )
