"""Shape letters, and the types and names of choices that all of the package shares. Imports no torch.

Letters, fixed here for the whole package (design §2): ``B`` batch, ``N`` tokens, ``T``/``S`` Receiver/Sharer
layers, ``Ht``/``Hs`` their KV heads, ``Dt``/``Ds`` their head dimensions, ``V`` vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from c2c.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

KeyValue: TypeAlias = "tuple[Tensor, Tensor]"
"""Keys and values of one layer, each ``(B, H, N, D)``, as the model's cache holds them: after k-norm and RoPE."""

Half = Literal["key", "value"]
HALVES: tuple[Half, Half] = ("key", "value")

Fusion = Literal["sequential", "parallel"]
FUSIONS = ("sequential", "parallel")

LAYER_ALIGNMENTS = ("terminal", "nearest")
TOKEN_ALIGNMENTS = ("span", "first", "longest")

DTYPES = ("float32", "bfloat16", "float16")
"""Precisions in which a model can be loaded."""
PROMPTS = ("plain", "chat")
"""How a question is put: as plain text, or as messages in each model's own chat template."""

RECURRENT = ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")
"""Model types whose layers have no attention."""


class CacheShape(NamedTuple):
    """Sizes of a model's KV-cache: ``layers`` (T or S), ``heads`` (Ht or Hs), ``head_dim`` (Dt or Ds)."""

    layers: int
    heads: int
    head_dim: int

    @classmethod
    def of(cls, config: Any) -> CacheShape:
        """Read the sizes from a Hugging Face config of a text model; `c2c.cache.shape.cache_shape` checks the rest.

        Raises:
            RefusedError: If the config has no attention heads, so its cache is not keys and values.
        """
        heads = getattr(config, "num_attention_heads", None)
        if not heads:
            raise RefusedError(
                "A model's cache must hold keys and values per attention head",
                f"{getattr(config, 'model_type', type(config).__name__)}: {_instead(config)}",
                "Use a decoder model with attention in every layer",
            )
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(config.num_hidden_layers, _cached_heads(config, heads), head_dim)


def _cached_heads(config: Any, heads: int) -> int:
    """KV heads, by their name; Falcon says in two switches whether all its heads share one."""
    named = getattr(config, "num_key_value_heads", None)
    if named:
        return int(named)
    shared = getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False)
    return 1 if shared else heads


def _instead(config: Any) -> str:
    """What a model without attention heads keeps of a text."""
    if getattr(config, "model_type", "") in RECURRENT or getattr(config, "state_size", None):
        return "it keeps a recurrent state instead of keys and values"
    return "its config names no attention heads"
