"""Which models can be fused: the sizes of their caches are read; the others are refused by name and reason."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import PreTrainedConfig

from c2c import FuserStack, RefusedError, RosettaModel, create_c2c_projector
from c2c.cache import kv_cache
from c2c.cache.shape import cache_shape
from c2c.fusion.prompt import generate_kv_cache_index
from c2c.types import CacheShape

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
MIXED = {"num_hidden_layers": 2, "per_layer_config": {1: {"num_key_value_heads": 1}}}
UNFIT = {
    "mamba": (
        "MambaConfig",
        {},
        r"per attention head; received 'mamba: it keeps a recurrent state instead of keys and values'",
    ),
    "mamba2": ("Mamba2Config", {}, r"received 'mamba2: it keeps a recurrent state instead of keys and values'"),
    "rwkv": (
        "RwkvConfig",
        {},
        r"per attention head; received 'rwkv: it keeps a recurrent state instead of keys and values'",
    ),
    "deepseek_v2": ("DeepseekV2Config", {}, r"per attention head; received 'deepseek_v2: it holds one latent of 512"),
    "deepseek_v3": ("DeepseekV3Config", {}, r"per attention head; received 'deepseek_v3: it holds one latent of 512"),
    "jamba": ("JambaConfig", {}, r"of its own; received 'jamba: 28 layers .* layer 0: LinearAttention"),
    "qwen3_next": ("Qwen3NextConfig", {}, r"of its own; received 'qwen3_next: 36 layers .* layer 0: LinearAttention"),
    "falcon_h1": ("FalconH1Config", {}, r"of its own; received 'falcon_h1: 32 layers .* LinearAttentionAndFull"),
    "windowed hybrid": (
        "LlamaConfig",
        {"num_hidden_layers": 2, "layer_types": ["hybrid_sliding"] * 2, "sliding_window": 4},
        r"of its own; received 'llama: 2 layers .* LinearAttentionAndSlidingWindow",
    ),
    "gemma3n": ("Gemma3nConfig", {}, r"of its own; received 'gemma3n_text: 15 layers .* layer 20: Dummy"),
    "deepseek_v4": ("DeepseekV4Config", {}, r"must hold keys and values; received .deepseek_v4: .*compressed"),
    "mimo_v2_flash": ("MiMoV2FlashConfig", {}, r"the same size; received 'mimo_v2_flash: 192 and 128 a head"),
    "gemma4": ("Gemma4TextConfig", {}, r"the same number and size of heads; received 'gemma4_text: 4 heads of 256 and"),
    "uneven heads": ("LlamaConfig", HEADS | MIXED, r"the same number and size of heads; received 'llama: 1 heads of 8"),
    "t5": ("T5Config", {}, r"one and the same decoder; received 't5: it has an encoder"),
    "bert": ("BertConfig", {}, r"must be a decoder, .*; received 'bert: it is an encoder"),
    "roberta": ("RobertaConfig", {}, r"must be a decoder, .*; received 'roberta: it is an encoder"),
    "modernbert": ("ModernBertConfig", {}, r"must be a decoder, .*; received 'modernbert: it is an encoder"),
    "vit": ("ViTConfig", {}, r"must be a decoder, .*; received 'vit: it has no head that writes"),
    "clip": ("CLIPTextConfig", {}, r"must be a decoder, .*; received 'clip_text_model: it has no head that writes"),
    "xlnet": ("XLNetConfig", {}, r"must hold keys and values; received 'xlnet: it keeps the hidden states"),
    "reformer": (
        "ReformerConfig",
        {"is_decoder": True},
        r"must hold keys and values; received 'reformer: it keeps hid",
    ),
    "blt": ("BltConfig", {}, r"must be a list of layers; received 'blt"),
}


def config_of(case: str) -> tuple[PreTrainedConfig, str]:
    name, options, message = UNFIT[case]
    return getattr(transformers, name)(**options), message


class Model(torch.nn.Module):
    """A model of which nothing but its config is known."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config


@pytest.mark.parametrize("case", UNFIT)
def test_a_model_whose_cache_is_not_keys_and_values_of_each_layer_is_refused_by_name_and_reason(case) -> None:
    config, message = config_of(case)
    with pytest.raises(RefusedError, match=message):
        cache_shape(config)


@pytest.mark.parametrize("case", ["mamba", "deepseek_v3", "jamba", "gemma3n", "t5", "bert", "xlnet"])
def test_such_a_model_is_refused_as_receiver_and_as_sharer_wherever_it_is_named(case, tiny_model) -> None:
    (config, message), good = config_of(case), tiny_model("qwen3")
    for build in (
        lambda: RosettaModel([Model(config), good]),
        lambda: RosettaModel([good, Model(config)]),
        lambda: FuserStack.between(good.config, config),
        lambda: create_c2c_projector(config, good.config),
    ):
        with pytest.raises(RefusedError, match=message):
            build()


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("LlamaConfig", HEADS | {"num_hidden_layers": 3}, (3, 2, 8)),
        ("LlamaConfig", HEADS | {"num_hidden_layers": 3, "head_dim": 12}, (3, 2, 12)),
        ("GPTNeoXConfig", {"num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 5}, (5, 4, 8)),
        ("MistralConfig", HEADS | {"num_hidden_layers": 2, "sliding_window": 5, "head_dim": None}, (2, 2, 8)),
        ("Gemma3TextConfig", {}, (26, 4, 256)),
    ],
)
def test_the_sizes_of_a_cache_are_those_of_the_config(name, options, shape) -> None:
    assert cache_shape(getattr(transformers, name)(**options)) == CacheShape(*shape)


def test_of_a_multimodal_model_the_part_that_writes_text_counts() -> None:
    text = transformers.Gemma3TextConfig(num_hidden_layers=7, num_key_value_heads=2, head_dim=16)
    assert cache_shape(transformers.Gemma3Config(text_config=text)) == CacheShape(7, 2, 16)


def test_the_text_part_of_a_multimodal_decoder_is_one_itself() -> None:
    """AutoModelForCausalLM loads such a part alone; transformers lists it under the whole model's name."""
    text = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
    assert cache_shape(transformers.Qwen2VLConfig(text_config=text).text_config) == CacheShape(2, 2, 8)


@pytest.mark.parametrize(
    ("options", "heads"),
    [
        ({"multi_query": True}, 1),
        ({"multi_query": False}, 4),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2}, 4),
    ],
)
def test_falcons_heads_that_share_keys_and_values_are_counted_as_its_cache_holds_them(
    tiny_model, open_gates, options, heads
) -> None:
    torch.manual_seed(0)
    config = transformers.FalconConfig(
        vocab_size=97, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, eos_token_id=1, **options
    )
    falcon = transformers.FalconForCausalLM(config).eval()
    ids = torch.arange(2, 12)[None]
    held = kv_cache.layers_of(kv_cache.prefill(falcon, ids, torch.ones_like(ids), torch.arange(10)[None]))
    shape = cache_shape(config)
    assert shape == CacheShape(2, heads, 8)
    assert {states.shape for layer in held for states in layer} == {(1, shape.heads, 10, shape.head_dim)}
    other = tiny_model("qwen3")
    for receiver, sharer in ((falcon, other), (other, falcon)):
        stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=16, intermediate_dim=16)
        model = open_gates(RosettaModel.of_stacks(receiver, [sharer], [stack]))
        written = model.generate(generate_kv_cache_index(9, 1), ids, max_new_tokens=3, min_new_tokens=3)
        assert written.shape == (1, 13)
