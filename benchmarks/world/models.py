"""The architectures of the world's models: small configs with random weights."""

from __future__ import annotations

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from benchmarks.world.sizes import check_heads
from c2c.errors import check_choice

ARCHITECTURES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}

POSITIONS = 512


def build(
    architecture: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden: int,
    layers: int,
    heads: int,
    key_value_heads: int,
) -> PreTrainedModel:
    """A model with random weights for the words of `tokenizer`; uses torch's global random numbers.

    Raises:
        RefusedError: If the architecture is unknown or the sizes do not fit.
    """
    check_choice("An architecture", architecture, ARCHITECTURES)
    check_heads(hidden, heads, key_value_heads)
    config_class, model_class = ARCHITECTURES[architecture]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=hidden // heads,
        max_position_embeddings=POSITIONS,
        # At this width the usual 0.02 costs several times as many steps to learn the same facts.
        initializer_range=hidden**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model_class(config)
