"""Letters of tensor shapes, the types that the whole package shares, and the choices that a user can name.

Letters: ``B`` batch, ``N`` tokens, ``T``/``S`` Receiver/Sharer layers, ``Ht``/``Hs`` their KV heads, ``Dt``/``Ds``
their head dimensions, ``V`` vocabulary.

Nothing here imports torch, so that the command line and the workflow know all choices at once.
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

FUSIONS = ("sequential", "parallel")
"""How the caches of several Sharers are fused: one after the other, or all into the Receiver's own, added up."""
LAYER_ALIGNMENTS = ("terminal", "nearest")
"""Which Sharer layer each Receiver layer reads; see `c2c.alignment.layers`."""
UNALIGNED = "unaligned"
"""The token alignment under which the Sharer reads the Receiver's token ids, chat template included."""
TOKEN_ALIGNMENTS = ("span", "first", "longest", UNALIGNED)
"""Which Sharer tokens each Receiver token reads; see `c2c.alignment.tokens`."""
PROMPTS = ("plain", "chat")
"""Plain text, or messages in each model's own chat template."""
DTYPES = ("float32", "bfloat16", "float16")
"""Precisions in which models are loaded."""
GATE_NOISES = ("gumbel", "logistic")
"""Noise on a gate in training: one Gumbel sample, as the reference draws it, or the difference of two."""
GROUPINGS = ("auto", "grouped", "loop")
"""Whether Fusers of equal size are computed together or one after the other; see `c2c.fuser.stack.FuserStack`."""
COMPILED_STAGES = ("none", "decoding")
"""What is compiled while answers are written; see `c2c.generation.compiled`."""
CACHE_FORMS = ("dynamic", "sliding", "static", "int8", "int4")
"""Forms of a cache that a continuation can be written into; see `c2c.cache.kv_cache`."""

LETTERS = "ABCDEFGHIJ"
"""Letters of the options of a question, which has up to ten."""

IGNORED = -100
"""Label of a token without loss, as in transformers."""

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
            recurrent = getattr(config, "model_type", "") in RECURRENT or getattr(config, "state_size", None)
            memory = "it keeps a recurrent state instead of keys and values"
            raise RefusedError(
                "A model's cache must hold keys and values per attention head",
                f"{getattr(config, 'model_type', type(config).__name__)}: "
                f"{memory if recurrent else 'its config names no attention heads'}",
                "Use a decoder model with attention in every layer",
            )
        kv_heads = getattr(config, "num_key_value_heads", None)
        if not kv_heads:
            # Falcon has two switches instead of a number: all its heads share one, or none do.
            shared = getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False)
            kv_heads = 1 if shared else heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(config.num_hidden_layers, int(kv_heads), head_dim)
