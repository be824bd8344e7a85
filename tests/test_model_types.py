"""Every type of causal model that transformers knows is answered right, or is refused; tiny ones are built of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from c2c import FuserStack, RefusedError, RosettaModel
from c2c.alignment.chat import AlignedChat, ChatSection
from c2c.cache.shape import cache_shape
from c2c.fusion.batch import collate_chats
from c2c.generation.decoding import continue_text
from tests.bad_inputs.refusals import refused
from tests.conftest import SMALL, VOCABULARY, build_model, open_gates

NEAR = 1e-4
"""Largest difference of logits that rounding explains."""
CONVERSATIONS, NEW = ((6, 11, 5), (3, 5, 2)), 3
"""Tokens of the sections of two conversations: beside the first one, the second has pads before each section."""
WINDOW, CHUNK = 6, 8
"""Shorter than the conversations; the pads before the last section of the second are within the reach of its tokens."""

FEWEST = 100
"""Of all types, those that are answered right; the others are refused or cannot be built."""
LARGEST = 8_000_000
"""Parameters of a model that is still tiny."""

SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embed_dim"), 32),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "mlp_hidden_size"), 48),
    **dict.fromkeys(("intermediate_size_mlp", "ffn_dim_multiplier_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "v_head_dim", "query_pre_attn_scalar", "dim_head"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "num_key_value_heads", "expansion_ratio"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace", "moe_layer_interval"), 1),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "hidden_size_per_layer_input", "mamba_d_state"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "mamba_n_heads"), 4),
    **{"mamba_d_head": 16, "mamba_n_groups": 1, "num_global_layers": 1},
    **{"sliding_window": WINDOW, "attention_chunk_size": CHUNK, "initializer_range": 0.3},
    **{"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1},
    **dict.fromkeys(("dropout", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    **dict.fromkeys(("hidden_dropout", "activation_dropout", "layerdrop", "classifier_dropout"), 0.0),
}
"""Of a model, by all the names that configs have for a size."""

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
PECULIAR: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "dory": {
        **{"num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        **{"n_input_layers": 1, "n_recurrent_layers": 1, "n_output_layers": 1},
    },
    "gpt_bigcode": {"num_key_value_heads": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW, "num_layers": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "hrm_text": {"initializer_range": 0.1},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "mamba2": {"hidden_size": 32, "expand": 2, "num_heads": 8, "head_dim": 8},
    "mimo_v2_flash": {"head_dim": 12},
    "zaya": {"num_experts_per_tok": 1},
}
"""What single types need beside that."""

UNBUILT: dict[str, str] = {
    "dots3_note": "its text part checks sizes of latent attention that differ between its layers",
    "dots3_note_text": "it checks sizes of latent attention that differ between its layers",
    "gemma4_assistant": "its config is refused by transformers without a Gemma-4 model beside it",
}
"""Types of which no tiny model can be built here, and why."""


def tiny_config(kind: str) -> PreTrainedConfig:
    """A config of two layers; where a type has several kinds of layers, of as many of those."""
    return _tiny(CONFIG_MAPPING[kind], PECULIAR.get(kind, {}))


def _tiny(config_class: type[PreTrainedConfig], peculiar: dict[str, Any]) -> PreTrainedConfig:
    usual = config_class()
    known = {*usual.to_dict(), *getattr(config_class, "attribute_map", {})}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    # Some configs want the whole number 0 for a share.
    sizes |= {name: int(value) for name, value in sizes.items() if value == 0 and type(getattr(usual, name)) is int}
    computed = isinstance(
        getattr(config_class, config_class.attribute_map.get("layer_types", "layer_types"), None), property
    )
    if kinds := getattr(usual, "layer_types", None) if "layer_types" in known and not computed else None:
        distinct = list(dict.fromkeys(kinds))
        count = max(len(distinct), 2)
        sizes |= {"num_hidden_layers": count, "layer_types": [distinct[at % len(distinct)] for at in range(count)]}
    parts = {name: getattr(usual, name, None) for name in config_class.sub_configs}
    sizes |= {name: _tiny(type(part), {}) for name, part in parts.items() if isinstance(part, PreTrainedConfig)}
    return config_class(**(sizes | peculiar))


def tiny_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A frozen random model of `config` whose logits differ clearly between tokens."""
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False).float()
    for parameter in model.parameters():
        if parameter.dim() > 1 and parameter.numel() and float(parameter.std()) < 0.05:
            parameter.data.normal_(std=0.3)
    return model


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Configs of sizes that no real model has make transformers warn."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.set_verbosity(level)


def conversation(first: int, message: int, last: int, seed: int) -> AlignedChat:
    """A template's words, a message, and the tokens that are continued."""
    length, end = first + message + last, first + message
    ids = torch.randint(2, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = ((0, first, "template"), (first, end, "message"), (end, length, "template"))
    token_map = [-1] * first + list(range(first, end)) + [-1] * (last - 1)
    return AlignedChat(ids, ids[:-1], token_map, tuple(ChatSection(*part) for part in parts))


def read(model: RosettaModel, *chats: AlignedChat) -> torch.Tensor:
    """Logits after each conversation, ``(B, V)``, of one batch."""
    batch = collate_chats(chats, 0, 0)
    given = {"sharer_inputs": batch.sharer_inputs}
    return model(batch.kv_cache_index, batch.input_ids, batch.attention_mask, **given).logits[:, -1]


def check(model: PreTrainedModel) -> None:
    """Assert that a model answers with closed gates as alone, and in a batch as one by one, in both roles.

    Raises:
        RefusedError: If the model or the batch is refused.
    """
    chats = [conversation(*sizes, seed) for seed, sizes in enumerate(CONVERSATIONS)]
    llama, qwen = build_model("llama", layers=2), build_model("qwen3", layers=2)
    pair = RosettaModel.of_stacks(model, [llama], [FuserStack.between(llama.config, model.config, **SMALL)])
    ids = torch.tensor([chats[0].receiver_ids])
    torch.testing.assert_close(read(pair, chats[0]), model(ids).logits[:, -1], atol=NEAR, rtol=0)
    batch = collate_chats(chats[:1], 0, 0)
    own = continue_text(model, ids, torch.ones_like(ids), max_new_tokens=NEW)
    given = {"sharer_inputs": batch.sharer_inputs, "max_new_tokens": NEW}
    assert torch.equal(pair.generate(batch.kv_cache_index, batch.input_ids, batch.attention_mask, **given), own)
    sharing = RosettaModel.of_stacks(qwen, [model], [FuserStack.between(model.config, qwen.config, **SMALL)])
    for each in (pair, sharing):
        open_gates(each)
        alone = torch.cat([read(each, chat) for chat in chats])
        torch.testing.assert_close(read(each, *chats), alone, atol=NEAR, rtol=0)


def outcome(kind: str) -> str:
    """Of a type: ``right``, ``refused: ...``, ``wrong: ...``, or ``unbuilt: ...``."""
    try:
        config = tiny_config(kind)
        cache_shape(config)
        model = tiny_model(config)
        model(torch.tensor([[5, 6, 7]]))
    except RefusedError as refusal:
        return f"refused: {refusal}"
    except Exception as error:
        return f"unbuilt: {error!r}"
    try:
        check(model)
    except RefusedError as refusal:
        return f"refused: {refusal}"
    except AssertionError as error:
        return f"wrong: {error}"
    return "right"


@pytest.mark.slow
def test_each_type_of_causal_model_is_answered_right_or_refused() -> None:
    outcomes = {kind: outcome(kind) for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert not {kind: each for kind, each in outcomes.items() if each.startswith("wrong")}
    unbuilt = {kind: each for kind, each in outcomes.items() if each.startswith("unbuilt")}
    assert unbuilt.keys() == UNBUILT.keys(), unbuilt
    right = [kind for kind, each in outcomes.items() if each == "right"]
    assert len(right) >= FEWEST, sorted(right)


@pytest.mark.parametrize("kind", ["llama4_text", "bloom", "gemma3_text", "phi3"])
def test_some_types_are_answered_right_in_every_run_of_the_tests(kind) -> None:
    assert outcome(kind) == "right"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mpt", ("no pads between its tokens", "counts pads as tokens", "one by one")),
        ("gpt_neo", ("no pads between its tokens beyond 6 columns", "one by one")),
        ("bert-generation", ("must be a decoder", "it is an encoder")),
        ("cpmant", ("reads tokens of its own before each text",)),
        ("git", ("an image's patches before each text",)),
        ("moshi", ("writes with the sliding window",)),
    ],
)
def test_a_type_that_would_be_answered_wrong_is_refused_with_the_reason(kind, words) -> None:
    config = tiny_config(kind)
    with refused(*words):
        cache_shape(config)
        check(tiny_model(config))


def test_a_row_with_pads_is_refused_where_llama4_scales_by_columns_and_taken_before() -> None:
    model = tiny_model(tiny_config("llama4_text"))
    model.config.floor_scale = 16
    mask = torch.tensor([[1] * 16, [0] * 4 + [1] * 12])
    with refused("16 columns", "llama4_text", "one by one"):
        continue_text(model, mask * 5, mask, max_new_tokens=1)
    assert continue_text(model, (mask * 5)[:1], mask[:1], max_new_tokens=1).shape == (1, 17)
    assert continue_text(model, (mask * 5)[:, :14], mask[:, :14], max_new_tokens=1).shape == (2, 15)


def test_a_decoder_of_a_type_that_is_an_encoder_by_default_is_taken() -> None:
    config = tiny_config("bert-generation")
    config.is_decoder = True
    check(tiny_model(config))
