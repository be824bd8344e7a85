"""Tiny models and tokenizers that are built in code: no test needs a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from c2c import FuserStack, RosettaModel
from c2c.storage.file_hashes import CACHE
from c2c.types import HALVES

VOCABULARY, SMALL = 97, {"hidden_dim": 16, "intermediate_dim": 16}
WORDS = ["zorvex", "mubilo", "color", "home", "is", "the", "red", "blue", "athens", "oslo", "what"]
FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
    "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM),
    "granite": (GraniteConfig, GraniteForCausalLM),
    "olmo2": (Olmo2Config, Olmo2ForCausalLM),
}
WINDOWS = {"gemma3": 4, "mistral": 5}
"""Sliding windows, in tokens; shorter than the prompts of the tests."""


def build_model(
    family: str,
    *,
    layers: int = 3,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    hidden: int = 32,
    vocab: int = VOCABULARY,
    seed: int = 0,
) -> PreTrainedModel:
    """A frozen random model in eval mode whose logits differ clearly between tokens.

    GPT-NeoX has as many KV heads as heads, of hidden / heads numbers: there `kv_heads` and `head_dim` do not count.
    """
    config_class, model_class = FAMILIES[family]
    grouped = {} if family == "gpt_neox" else {"num_key_value_heads": kv_heads, "head_dim": head_dim}
    torch.manual_seed(seed)
    config = config_class(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **grouped,
        **_peculiar(family, layers, head_dim),
    )
    return model_class(config).eval().requires_grad_(False)


def _peculiar(family: str, layers: int, head_dim: int) -> dict[str, Any]:
    """What only the config of one family has; Gemma-3 alternates between sliding and full attention."""
    if family == "gemma3":
        kinds = [("sliding_attention", "full_attention")[layer % 2] for layer in range(layers)]
        return {"sliding_window": WINDOWS[family], "layer_types": kinds, "query_pre_attn_scalar": head_dim}
    if family == "granite":
        return {"attention_multiplier": head_dim**-0.5, "embedding_multiplier": 2.0, "residual_multiplier": 0.5}
    return {"sliding_window": WINDOWS[family]} if family in WINDOWS else {}


@pytest.fixture(scope="session", autouse=True)
def hashes_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hashes of files that tests make are kept in a folder of the session, for sub-processes too."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(CACHE, str(tmp_path_factory.mktemp("hashes")))
        yield


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PreTrainedModel]:
    """`build_model`: a factory of frozen random models."""
    return build_model


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


@pytest.fixture(scope="session")
def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(tokenizer)


@pytest.fixture(scope="session")
def split_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs whose merges know neither of the names zorvex and mubilo."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<pad>", "<eos>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        vocab_size=400,
        show_progress=False,
    )
    tokenizer.train_from_iterator([" " + " ".join(WORDS[2:])] * 20, trainer)
    return _fast(tokenizer)


@pytest.fixture(scope="session")
def model_folder(tiny_model, word_tokenizer, tmp_path_factory) -> Path:
    """A model folder that loads; to be copied where files of it change."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    tiny_model("qwen3").save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)
    return folder


def byte_level(texts: list[str], vocab: int) -> PreTrainedTokenizerFast:
    """Byte-level pairs learned from `texts`: a character that they lack is split into its bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<pad>", "<eos>", "<unk>", "<|open|>", "<|close|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        vocab_size=vocab,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts * 20, trainer)
    return _fast(tokenizer)


PLAIN_TEMPLATE = (
    "{% for turn in messages %}<|open|>{{ turn.role }}\n{{ turn.content }}<|close|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|open|>assistant\n{% endif %}"
)
TRIMMING_TEMPLATE = (
    "{% if messages[0].role != 'system' %}[system] the user is home [/system]{% endif %}"
    "{% for turn in messages %}{% if turn.role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('no such role: ' ~ turn.role) }}{% endif %}"
    "[{{ turn.role }}] {{ turn.content | trim }} [/{{ turn.role }}]{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="session")
def chat_receiver() -> PreTrainedTokenizerFast:
    """Byte-level pairs of English words, and a template that shows contents as they are."""
    tokenizer = byte_level(["what is the color of home? user assistant red blue athens oslo"], 330)
    tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def chat_sharer() -> PreTrainedTokenizerFast:
    """Other byte-level pairs, some of emoji, and a template with a system prompt of its own that trims contents."""
    tokenizer = byte_level(["zorvex mubilo the usual color says 你好 system", "😀"], 350)
    tokenizer.chat_template = TRIMMING_TEMPLATE
    return tokenizer


def sections(*parts: tuple[int, int]) -> list[torch.Tensor]:
    """A kv_cache_index of (mask, tokens) parts."""
    return [torch.tensor([mask, 0]).expand(1, tokens, 2) for mask, tokens in parts]


@pytest.fixture(scope="session", name="sections")
def sections_fixture() -> Callable[..., list[torch.Tensor]]:
    """`sections`: a factory of kv_cache_index."""
    return sections


def open_gates(model: RosettaModel) -> RosettaModel:
    """Open every gate and make what the Fusers add large enough to change answers."""
    torch.manual_seed(5)
    for stack in model.stacks:
        for layer in stack.links:
            fuser = stack.fuser_of(layer)
            for half in HALVES:
                fuser.gate_logit(half).data.fill_(1.0)
                fuser.get_submodule(f"{half}_proj_out").weight.data.normal_(std=0.5)
    return model


@pytest.fixture(scope="session", name="open_gates")
def open_gates_fixture() -> Callable[[RosettaModel], RosettaModel]:
    """`open_gates`, to be called on a model."""
    return open_gates


@pytest.fixture
def closed_model() -> RosettaModel:
    """A Receiver and a Sharer of another family, depth and cache size; no gate is open."""
    torch.manual_seed(3)
    receiver, sharer = build_model("qwen3"), build_model("llama", layers=4, kv_heads=1, head_dim=12, seed=1)
    return RosettaModel.of_stacks(receiver, [sharer], [FuserStack.between(sharer.config, receiver.config, **SMALL)])


@pytest.fixture
def open_model(closed_model: RosettaModel) -> RosettaModel:
    """The same with all gates open."""
    return open_gates(closed_model)


@pytest.fixture
def two_sharers() -> RosettaModel:
    """A Receiver and two Sharers with open gates, fused one after the other."""
    torch.manual_seed(4)
    receiver, sharers = build_model("qwen3"), [build_model("qwen2", seed=1), build_model("llama", layers=4, seed=2)]
    stacks = [FuserStack.between(sharer.config, receiver.config, **SMALL) for sharer in sharers]
    return open_gates(RosettaModel.of_stacks(receiver, sharers, stacks))


@pytest.fixture
def prompt_ids() -> torch.Tensor:
    """Two prompts of 11 tokens, ``(2, 11)``."""
    return torch.randint(2, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(0))
