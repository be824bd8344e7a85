"""Which models can be fused: those whose cache is keys and values, per token and head, in every layer."""

from __future__ import annotations

from typing import Any

from c2c import kv_cache
from c2c.errors import RefusedError
from c2c.types import CacheShape

REMEDY = "Use a decoder-only model with attention in every layer, such as Llama, Qwen3 or Gemma-3"


def cache_shape(config: Any) -> CacheShape:
    """The sizes of a model's cache, after a check that it is one that can be fused.

    Args:
        config: A Hugging Face config; of a multimodal model the part that writes text counts.

    Raises:
        RefusedError: If the model is an encoder with a decoder; its cache is recurrent states, a latent vector or
            shared between layers; keys and values differ in size; or layers do. The message names the model's type.
    """
    decoder = config.get_text_config(decoder=True)
    if getattr(config, "is_encoder_decoder", False):
        raise _refused("A model must read and write with one and the same decoder", config, "it has an encoder")
    if not getattr(decoder, "num_hidden_layers", None):
        raise _refused("A model's cache must be a list of layers", config, "its config names no number of layers")
    for layer in decoder.per_layer_config:
        _check_layer(layer)
    _check_kinds(decoder)
    shapes = sorted({CacheShape.of(layer) for layer in decoder.per_layer_config})
    if len(shapes) > 1:
        found = " and ".join(f"{shape.heads} heads of {shape.head_dim}" for shape in shapes)
        raise _refused("All layers of a cache must have the same number and size of heads", config, found)
    return shapes[0]


def _check_layer(layer: Any) -> None:
    rank = getattr(layer, "kv_lora_rank", None)
    if rank:
        rule = "A model's cache must hold keys and values per attention head"
        raise _refused(rule, layer, f"it holds one latent of {rank} numbers")
    shape, values = CacheShape.of(layer), getattr(layer, "v_head_dim", None)
    if values and values != shape.head_dim:
        raise _refused("Keys and values must have the same size", layer, f"{shape.head_dim} and {values} a head")


def _check_kinds(config: Any) -> None:
    """Refuse a model with a layer whose cache is anything but keys and values of its own."""
    try:
        kinds = kv_cache.other_layers(config)
    except KeyError as error:
        raise _refused("Each cache layer must hold keys and values", config, f"a layer of kind {error}") from error
    if kinds:
        number, kind = next(iter(kinds.items()))
        raise _refused(
            "Each cache layer must hold keys and values of its own",
            config,
            f"{len(kinds)} layers do not, the first of them layer {number}: {kind}",
        )


def _refused(rule: str, config: Any, found: str) -> RefusedError:
    return RefusedError(rule, f"{config.model_type}: {found}", REMEDY)
