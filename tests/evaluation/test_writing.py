"""Greedy answers equal those of transformers' own loop, with masks that are built once and caches that have room."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.cache_utils import DynamicLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from c2c.cache import kv_cache
from c2c.cache.rows import mask_of_steps
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.writing import decode_answers
from c2c.evaluation.questions.question import Question
from c2c.generation.decoding import continue_text
from tests.conftest import FAMILIES
from tests.test_model_types import FEWEST, outcome, tiny_config
from tests.test_model_types import tiny_model as model_of_type

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


@pytest.mark.slow
def test_every_type_of_model_writes_in_a_batch_what_generate_writes_for_each_row_alone(word_tokenizer) -> None:
    ids = torch.randint(3, 20, MASK.shape, generator=torch.Generator().manual_seed(0))
    types, wrong = 0, {}
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if not outcome(kind).startswith("right"):
            continue
        model = model_of_type(tiny_config(kind))
        questions = [Question("b", row, {"id": "q"}, "", "", max_new_tokens=6) for row in range(3)]
        state = DecodingState(model, word_tokenizer, ids, MASK, None, [Answer() for _ in questions])
        answers = [answer.output_ids for answer in decode_answers(state, questions)]
        alone = [ids[row][MASK[row] > 0][None] for row in range(3)]
        plain = [
            continue_text(model, row, torch.ones_like(row), max_new_tokens=6)[0, row.shape[1] :].tolist()
            for row in alone
        ]
        types += 1
        if answers != plain:
            wrong[kind] = (answers, plain)
    assert types >= FEWEST and not wrong


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


CHANGES = {
    "reset": lambda layer: layer.reset(),
    "crop": lambda layer: layer.crop(-3),
    "batch_select_indices": lambda layer: layer.batch_select_indices(torch.tensor([1])),
    "batch_repeat_interleave": lambda layer: layer.batch_repeat_interleave(2),
    "reorder_cache": lambda layer: layer.reorder_cache(torch.tensor([1, 0])),
    "offload": lambda layer: (layer.offload(), layer.prefetch()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_growing_layer_is_changed_as_transformers_own_is_and_grows_on(name: str) -> None:
    torch.manual_seed(0)
    growing, plain = kv_cache.GrowingLayer(), DynamicLayer()
    with torch.no_grad():
        for tokens in (5, 1, 1):
            new = torch.randn(2, 3, tokens, 4), torch.randn(2, 3, tokens, 4)
            views = growing.update(*new)
            plain.update(*new)
        copies = [states.clone() for states in views]
        for layer in (growing, plain):
            CHANGES[name](layer)
        rows = 2 if plain.keys is None else len(plain.keys)
        for tokens in (1, 2, 1):
            new = torch.randn(rows, 3, tokens, 4), torch.randn(rows, 3, tokens, 4)
            pairs = zip(growing.update(*new), plain.update(*new), strict=True)
            assert all(torch.equal(here, there) for here, there in pairs)
    assert growing.get_seq_length() == plain.get_seq_length()
    # What was handed out before the change is as it was.
    assert all(torch.equal(here, there) for here, there in zip(views, copies, strict=True))


@pytest.mark.parametrize("name", ["reset", "offload"])
def test_a_growing_layer_keeps_no_memory_when_it_is_emptied_or_moved(name: str) -> None:
    layer = kv_cache.GrowingLayer()
    with torch.no_grad():
        for tokens in (5, 1):
            layer.update(torch.randn(2, 3, tokens, 4), torch.randn(2, 3, tokens, 4))
    assert layer._buffers
    CHANGES[name](layer)
    assert not layer._buffers and not layer._views


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_growing_layer_grows_apart_from_it(duplicate) -> None:
    layer = kv_cache.GrowingLayer()
    with torch.no_grad():
        for tokens in (5, 1):
            layer.update(torch.randn(2, 3, tokens, 4), torch.randn(2, 3, tokens, 4))
        other, (first, second) = duplicate(layer), (torch.ones(2, 3, 1, 4), torch.zeros(2, 3, 1, 4))
        keys, _ = layer.update(first, first)
        other_keys, _ = other.update(second, second)
    assert torch.equal(keys[:, :, -1:], first) and torch.equal(other_keys[:, :, -1:], second)


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
