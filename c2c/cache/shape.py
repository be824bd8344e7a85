"""Which models can be fused: those whose cache is keys and values, per token and head, in every layer."""

from __future__ import annotations

from typing import Any

from transformers.models.auto import configuration_auto, modeling_auto

from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.types import CacheShape

REMEDY = "Use a decoder-only model with attention in every layer, such as Llama, Qwen3 or Gemma-3"

WRITING = {
    *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    *modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    *modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
}
"""Model types that transformers can let write."""

OTHER_MEMORIES = {
    "xlnet": "it keeps the hidden states of a text and reads in permuted orders",
    "reformer": "it keeps hidden states and buckets of them",
    "openai-gpt": "it keeps nothing of a text",
    "cpmant": "it reads tokens of its own before each text, and keeps them in the same cache",
    "git": "it counts an image's patches before each text that it continues, whether there is one or not",
    "moshi": "it reads with full attention and writes with the sliding window of its config",
}
"""Model types with attention and a language head, but without a cache of keys and values of the text alone."""


CAUSAL_ANYWAY = {"gpt_neox", "gpt_neox_japanese"}
"""Model types whose configs say ``is_decoder: False``, which their attention, always causal, does not read."""


def cache_shape(config: Any) -> CacheShape:
    """The sizes of a model's cache, after a check that it is one that can be fused.

    Args:
        config: A Hugging Face config; of a multimodal model the part that writes text counts.

    Raises:
        RefusedError: If the model is an encoder, or one with a decoder; its cache is recurrent states, a latent vector
            or shared between layers; keys and values differ in size; or layers do. The message names the model's type.
    """
    decoder = config.get_text_config(decoder=True)
    # 1. The kind of model
    if getattr(config, "is_encoder_decoder", False):
        raise _refused("A model must read and write with one and the same decoder", config, "it has an encoder")
    _check_writes(config)
    if not getattr(decoder, "num_hidden_layers", None):
        raise _refused("A model's cache must be a list of layers", config, "its config names no number of layers")
    # 2. What each layer's cache holds: one config a layer, since some families change sizes within a model
    # Configs of older versions of transformers know no layers of their own.
    layers = getattr(decoder, "per_layer_config", None) or [decoder]
    for layer in layers:
        _check_layer(layer)
    _check_kinds(decoder)
    # 3. One size for all layers, as the Fusers of a pair have
    shapes = sorted({CacheShape.of(layer) for layer in layers})
    if len(shapes) > 1:
        sizes = " and ".join(f"{shape.heads} heads of {shape.head_dim}" for shape in shapes)
        raise _refused("All layers of a cache must have the same number and size of heads", config, sizes)
    return shapes[0]


def _check_writes(config: Any) -> None:
    """Refuse a model that transformers knows, and that is no decoder with a cache of keys and values."""
    kind = getattr(config, "model_type", "")
    if kind in OTHER_MEMORIES:
        raise _refused("Each cache layer must hold keys and values", config, OTHER_MEMORIES[kind])
    # A config without `is_decoder` is a decoder unless its type is one of masked language models (BERT).
    masked = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    both = not getattr(config, "is_decoder", not masked) and kind not in CAUSAL_ANYWAY
    # The text part of a multimodal model has a type of its own: gemma3_text of gemma3.
    whole = kind.removesuffix("_model").removesuffix("_text")
    writes = not WRITING.isdisjoint((kind, whole, whole.replace("_", "-")))
    if both or (kind in configuration_auto.CONFIG_MAPPING_NAMES and not writes):
        raise _refused(
            "A model must be a decoder, whose tokens read those before them alone",
            config,
            "it is an encoder, whose tokens read those after them too" if both else "it has no head that writes",
        )


def _check_layer(layer: Any) -> None:
    # Multi-head latent attention (DeepSeek) caches one vector a token for all heads.
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
    except ValueError as error:
        raise _refused("The kinds of a model's layers must fit together", config, str(error)) from error
    if kinds:
        number, kind = next(iter(kinds.items()))
        raise _refused(
            "Each cache layer must hold keys and values of its own",
            config,
            f"{len(kinds)} layers do not, the first of them layer {number}: {kind}",
        )


def _refused(rule: str, config: Any, received: str) -> RefusedError:
    return RefusedError(rule, f"{config.model_type}: {received}", REMEDY)
