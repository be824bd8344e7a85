"""What a model computes with its weights, as its config says: activation, norm epsilon, multipliers, soft caps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

NO_COMPUTATION = frozenset(
    (
        # lines of their own, or what these follow from
        "model_type",
        "num_hidden_layers",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "rope_parameters",
        "rope_theta",
        "rope_scaling",
        "partial_rotary_factor",
        "rotary_pct",
        "rotary_emb_base",
        "rope_local_base_freq",
        "layer_types",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "sliding_window_pattern",
        "tie_word_embeddings",
        "dtype",
        "torch_dtype",
        # where it comes from
        "name_or_path",
        "architectures",
        "transformers_version",
        "unsloth_version",
        "unsloth_fixed",
        "tokenizer_class",
        "vocab_file",
        # training alone
        "initializer_range",
        "initializer_factor",
        "attention_dropout",
        "attn_pdrop",
        "hidden_dropout",
        "embd_pdrop",
        "resid_pdrop",
        "gradient_checkpointing",
        "router_aux_loss_coef",
        "output_router_logits",
        # heads of other tasks
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "classifier_dropout",
        "finetuning_task",
        "task_specific_params",
        "prefix",
        # how a call computes and what it returns, not what
        "attn_implementation",
        "use_cache",
        "cache_implementation",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "torchscript",
        "chunk_size_feed_forward",
        "pretraining_tp",
        "is_decoder",
        "is_encoder_decoder",
        "add_cross_attention",
        # generation, which the caller decides
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "sep_token_id",
        "decoder_start_token_id",
        "max_length",
        "min_length",
        "max_new_tokens",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "num_beams",
        "num_return_sequences",
        "repetition_penalty",
        "length_penalty",
        "no_repeat_ngram_size",
        "early_stopping",
    )
)
"""Settings of a config that change no state of a model, or that have a line of their own in a contract."""
SCALED_ROPE_ONLY = frozenset({"max_position_embeddings", "original_max_position_embeddings"})
"""Settings on which rotations depend where they are scaled, and nothing else does."""


def describe_computation(config: PreTrainedConfig) -> dict[str, Any]:
    """The settings of a text config but for those of `NO_COMPUTATION` and private ones.

    They are those of `to_dict`, since `to_diff_dict` leaves out defaults of the version that runs: then a setting at
    its default looks like one that the version does not know. None is kept for the same reason.

    Returns:
        Numbers, texts, booleans, None, and lists of them, by name.
    """
    rope = rope_of(config)
    kinds = [parts for parts in (rope, *(rope or {}).values()) if isinstance(parts, Mapping)]
    scaled = any(parts.get("rope_type", "default") != "default" for parts in kinds)
    # The greatest length of a text changes rotations only where they are scaled by it.
    without = NO_COMPUTATION if scaled else NO_COMPUTATION | SCALED_ROPE_ONLY
    settings = config.to_dict().items()
    return {key: value for key, value in settings if key not in without and key[:1] != "_" and _is_plain(value)}


def shared_settings(expected: Any, actual: Any) -> tuple[Any, Any]:
    """Two descriptions without the settings that only one has: versions of transformers add some and drop some.

    Both are None if one is missing.
    """
    if expected is None or actual is None:
        return None, None
    if not isinstance(expected, Mapping) or not isinstance(actual, Mapping):
        return expected, actual
    keys = [key for key in expected if key in actual]
    return {key: expected[key] for key in keys}, {key: actual[key] for key in keys}


def rope_of(config: PreTrainedConfig) -> Any:
    """The rope settings of a text config, in the words of the version of transformers that wrote it; None if none."""
    parameters = getattr(config, "rope_parameters", None)
    if parameters is not None:
        return parameters
    # transformers before version 5 had two settings where it has one now.
    theta = getattr(config, "rope_theta", None)
    return None if theta is None else {"rope_theta": theta, "rope_scaling": getattr(config, "rope_scaling", None)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(not isinstance(element, list | tuple) and _is_plain(element) for element in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
