"""Greedy answers equal those of transformers' own loop, with masks that are built once and caches that have room."""

from __future__ import annotations

import sys

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.cache_utils import DynamicLayer

from c2c.cache import kv_cache
from c2c.cache.rows import mask_of_steps
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.writing import decode_answers
from c2c.evaluation.questions.question import Question
from c2c.generation.decoding import continue_text
from tests.conftest import FAMILIES

MASK = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1, 1, 1, 1], [1] * 9])
"""Pads at the left, pads between tokens, and none."""
NEW = 40


def other_models(vocabulary: int) -> dict[str, torch.nn.Module]:
    """Models that make their positions or masks in a way of their own."""
    torch.manual_seed(0)
    sizes = {"vocab_size": vocabulary, "initializer_range": 0.3, "eos_token_id": 1, "pad_token_id": 0}
    return {
        "gpt2": GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, **sizes)),
        "bloom": BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **sizes)),
        "falcon": FalconForCausalLM(FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **sizes)),
        "falcon_alibi": FalconForCausalLM(
            FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, **sizes)
        ),
    }


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("prefix", [0, 8])
@pytest.mark.parametrize("family", [*FAMILIES, "gpt2", "bloom", "falcon", "falcon_alibi"])
def test_every_family_writes_what_generate_writes(tiny_model, word_tokenizer, family, prefix, attention) -> None:
    vocabulary = len(word_tokenizer)
    model = tiny_model(family, vocab=vocabulary) if family in FAMILIES else other_models(vocabulary)[family].eval()
    try:
        model.set_attn_implementation(attention)
    except ValueError:
        pytest.skip(f"{family} has no {attention}")
    ids = torch.randint(3, vocabulary, MASK.shape, generator=torch.Generator().manual_seed(0))
    questions = [Question("b", row, {"id": str(row)}, "", "", max_new_tokens=NEW - 7 * row) for row in range(3)]

    def cache() -> kv_cache.Cache | None:
        mask = MASK[:, :prefix]
        return kv_cache.prefill(model, ids[:, :prefix], mask, kv_cache.positions_of(mask)) if prefix else None

    state = DecodingState(model, word_tokenizer, ids, MASK, cache(), [Answer() for _ in questions])
    answers = decode_answers(state, questions)
    plain = continue_text(model, ids, MASK, cache(), max_new_tokens=NEW)[:, MASK.shape[1] :].tolist()
    for answer, question, expected in zip(answers, questions, plain, strict=True):
        end = expected.index(1) + 1 if 1 in expected else NEW
        assert answer.output_ids == expected[: min(end, question.max_new_tokens)]


def test_no_mask_is_built_after_the_prompt(tiny_model, word_tokenizer, monkeypatch) -> None:
    model = tiny_model("llama", vocab=len(word_tokenizer))
    code = sys.modules[type(model.model).__module__]
    masks: list[int] = []
    create = code.create_causal_mask

    def note(*arguments, **named):
        mask = named["attention_mask"]
        masks.append(mask.dim())
        return create(*arguments, **named)

    monkeypatch.setattr(code, "create_causal_mask", note)
    state = DecodingState(model, word_tokenizer, MASK + 3, MASK, None, [Answer() for _ in MASK])
    decode_answers(state, [Question("b", row, {"id": "q"}, "", "", max_new_tokens=5) for row in range(3)])
    # transformers returns a mask of four axes as it is
    assert masks == [2, 4, 4, 4, 4]


@pytest.mark.parametrize("family", ["gemma3", "mistral"])
def test_a_model_with_windows_builds_its_own_masks(tiny_model, family) -> None:
    assert mask_of_steps(tiny_model(family), MASK, 4) is None


def test_a_growing_layer_holds_what_transformers_own_holds_also_after_it_was_cut_or_replaced() -> None:
    torch.manual_seed(0)
    growing, plain = kv_cache.GrowingLayer(), DynamicLayer()

    def states(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(2, 3, tokens, 4), torch.randn(2, 3, tokens, 4)

    with torch.no_grad():
        for step in range(3 * kv_cache.ROOM):
            new = states(7 if step == 0 else 1 + step % 2)
            before = (growing.keys, None if growing.keys is None else growing.keys.clone())
            one, other = growing.update(*new), plain.update(*new)
            assert all(torch.equal(here, there) for here, there in zip(one, other, strict=True))
            # What was handed out before is as it was
            assert before[0] is None or torch.equal(*before)
            if step % 11 == 5:
                growing.crop(-2), plain.crop(-2)
            if step % 13 == 6:
                growing.keys = plain.keys = plain.keys + 1
    assert growing.get_seq_length() == plain.get_seq_length()


def test_two_caches_of_the_same_layers_grow_apart(tiny_model) -> None:
    model = tiny_model("llama")
    mask = torch.ones((1, 4), dtype=torch.long)
    with torch.no_grad():
        cache = kv_cache.prefill(model, mask, mask, kv_cache.positions_of(mask))
        other = kv_cache.cache_of_layers(kv_cache.layers_of(cache), model.config)
        for branch, token in ((cache, 5), (other, 6)):
            longer = torch.ones((1, 5), dtype=torch.long)
            kv_cache.prefill(model, mask[:, :1] * token, longer, torch.tensor([[4]]), branch)
    for (keys, values), (other_keys, other_values) in zip(
        kv_cache.layers_of(cache), kv_cache.layers_of(other), strict=True
    ):
        assert torch.equal(keys[:, :, :4], other_keys[:, :, :4]) and torch.equal(
            values[:, :, :4], other_values[:, :, :4]
        )
        assert not torch.equal(keys[:, :, 4], other_keys[:, :, 4])
