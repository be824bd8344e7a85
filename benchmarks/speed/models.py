"""Models of real shapes with random weights: time depends on shapes alone, and nothing has to be downloaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from c2c.errors import check_choice
from c2c.models.loading import LoadedModel

SHAPES: dict[str, dict[str, Any]] = {
    # The sizes of HuggingFaceTB/SmolLM2-135M-Instruct (config.json)
    "smollm2_135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    # The sizes of Qwen/Qwen2.5-0.5B-Instruct (config.json)
    "qwen2_5_0_5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    # The sizes of Qwen/Qwen3-0.6B (config.json), the Receiver of the paper's main pair
    "qwen3_0_6b": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    # The sizes of the smoke scale's Receiver and Sharer
    "tiny_receiver": {
        "model_type": "qwen3",
        "vocab_size": 700,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
    "tiny_sharer": {
        "model_type": "qwen3",
        "vocab_size": 700,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
    },
}


def shape_config(name: str, layers: int | None = None) -> PreTrainedConfig:
    """The config of a shape, perhaps with another number of layers.

    Raises:
        RefusedError: If there is no such shape.
    """
    sizes = dict(SHAPES[check_choice("The shape of a model", name, SHAPES)])
    sizes["num_hidden_layers"] = layers or sizes["num_hidden_layers"]
    # No token ends an answer, so that every answer has the length that is asked for.
    special = {"pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}
    return AutoConfig.for_model(**sizes, max_position_embeddings=8192, tie_word_embeddings=True, **special)


def build_model(name: str, device: torch.device, dtype: torch.dtype, layers: int | None = None) -> LoadedModel:
    """A frozen model of this shape in eval mode, with random weights of a fixed seed."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shape_config(name, layers), dtype=dtype, trust_remote_code=False)
    model = model.to(device).eval().requires_grad_(False)
    tokenizer: Any = SimpleNamespace(pad_token_id=0)  # all that is read of a tokenizer here
    return LoadedModel(name, model, tokenizer)
