"""Rotary positions that change with the length of a text (longrope): below, at and above the limit, in batches too."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import (
    LogitsProcessor,
    Phi3Config,
    Phi3ForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    PreTrainedModel,
)

from c2c import FuserStack, RosettaModel
from c2c.alignment.tokens import SharerInput, left_pad
from c2c.cache import kv_cache
from c2c.cache.kv_cache import positions_of
from c2c.cache.rows import rotation_limit
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.generation.decoding import continue_text
from c2c.models.loading import LoadedModel
from tests.bad_inputs.refusals import refused
from tests.conftest import SMALL, VOCABULARY, build_model, open_gates

LIMIT, NEW = 32, 5
LENGTHS = [LIMIT - NEW + 1, LIMIT + 1, LIMIT + 2, LIMIT + 9]
"""Of prompts: the longest whose answer stays within the limit, and those whose prefix is at it and above it."""
FAMILIES = ("phi3", "phimoe")


@functools.cache
def rope_model(family: str = "phi3", layers: int = 3) -> PreTrainedModel:
    """A model whose rotations beyond `LIMIT` tokens are four times as slow."""
    torch.manual_seed(0)
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": LIMIT,
    }
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "original_max_position_embeddings": LIMIT,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "eos_token_id": None,
        "bos_token_id": None,
    }
    if family == "phi3":
        config, kind = Phi3Config(**sizes, rope_parameters=rope), Phi3ForCausalLM
    else:
        scales = {"long_mscale": 1.5, "short_mscale": 1.0}
        config = PhimoeConfig(**sizes, rope_parameters=rope | scales, num_local_experts=4, num_experts_per_tok=2)
        kind = PhimoeForCausalLM
    return kind(config).eval().requires_grad_(False)


def fused_model(receiver: PreTrainedModel, sharer: PreTrainedModel, *, closed: bool = False, **options) -> RosettaModel:
    torch.manual_seed(3)
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    model = RosettaModel.of_stacks(receiver, [sharer], [stack], **options)
    return model if closed else open_gates(model)


def text(length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_with_closed_gates_the_receiver_reads_sections_of_every_length_as_it_does_by_itself(
    family, length, sections
) -> None:
    model, ids = fused_model(rope_model(family), build_model("llama"), closed=True), text(length)
    alone = model.receiver(ids).logits[0, -1]
    for parts in ([(1, length - 1), (-1, 1)], [(-1, 10), (1, 10), (-1, length - 20)]):
        torch.testing.assert_close(model(sections(*parts), ids).logits[0, -1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_with_closed_gates_the_receiver_writes_what_it_writes_by_itself(family, length, cache, sections) -> None:
    model, ids = fused_model(rope_model(family), build_model("llama"), closed=True), text(length)
    own = model.receiver.generate(ids, max_new_tokens=NEW, do_sample=False)
    written = model.generate(sections((1, length - 1), (-1, 1)), ids, max_new_tokens=NEW, cache=cache)
    assert torch.equal(written, own)
    assert "prepare_inputs_for_generation" not in vars(model.receiver)


class Logits(LogitsProcessor):
    """Keeps what is written after each text."""

    def __init__(self) -> None:
        self.steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append((ids.clone(), scores.clone()))
        return scores


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_fused_is_read_at_every_step(length, cache, sections) -> None:
    """transformers drops a cache of at most `LIMIT` tokens once the text is longer, and reads the text anew."""
    model, ids, logits = fused_model(rope_model(), build_model("llama")), text(length), Logits()
    model.generate(sections((1, length - 1), (-1, 1)), ids, max_new_tokens=NEW, cache=cache, processors=[logits])
    assert len(logits.steps) == NEW
    for seen, scores in logits.steps:
        assert (scores - model.receiver(seen).logits[:, -1]).abs().max() > 0.1


def test_an_answer_that_could_cross_the_limit_is_refused_before_it_is_written_and_a_shorter_one_is_given(
    sections,
) -> None:
    model = fused_model(rope_model(), build_model("llama"))
    for length in (LIMIT - NEW + 2, LIMIT):
        index, ids = sections((1, length - 1), (-1, 1)), text(length)
        with refused(f"{LIMIT} tokens", f"{length} tokens that grow to {length + NEW - 1}", "fewer new tokens"):
            model.generate(index, ids, max_new_tokens=NEW)
        room = LIMIT - length + 1
        assert model.generate(index, ids, max_new_tokens=room).shape == (1, length + room)


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("role", ["receiver", "sharer", "both"])
def test_rows_on_both_sides_of_the_limit_are_answered_as_alone(role, response, sections) -> None:
    receiver = build_model("qwen3") if role == "sharer" else rope_model()
    sharer = build_model("llama") if role == "receiver" else rope_model(layers=4)
    model = fused_model(receiver, sharer, include_response=response)
    rows = [text(length, seed)[0].tolist() for seed, length in enumerate((20, 40))]
    ids, mask = left_pad(rows, 0)
    last, width = 1 if response else -1, ids.shape[1]
    index = sections((1, width - 1), (last, 1))
    logits = model(index, ids, mask).logits
    exactly = {"max_new_tokens": NEW, "min_new_tokens": NEW}
    written = model.generate(index, ids, mask, **exactly)[:, width:]
    for row, each in enumerate(rows):
        single, alone = torch.tensor([each]), sections((1, len(each) - 1), (last, 1))
        torch.testing.assert_close(model(alone, single).logits[0], logits[row], atol=1e-4, rtol=1e-4)
        assert torch.equal(model.generate(alone, single, **exactly)[0, len(each) :], written[row])


def test_a_model_without_a_cache_answers_rows_on_both_sides_as_alone() -> None:
    model, rows = rope_model(), [text(length, seed)[0].tolist() for seed, length in enumerate((20, 40))]
    ids, mask = left_pad(rows, 0)
    written = continue_text(model, ids, mask, max_new_tokens=NEW)[:, ids.shape[1] :]
    for row, each in enumerate(rows):
        single = torch.tensor([each])
        own = model.generate(single, max_new_tokens=NEW, do_sample=False)
        assert torch.equal(written[row], own[0, len(each) :])
    crossing = text(LIMIT - 1)
    alone = continue_text(model, crossing, torch.ones_like(crossing), max_new_tokens=NEW)
    assert torch.equal(alone, model.generate(crossing, max_new_tokens=NEW, do_sample=False))
    with refused("longrope"):
        continue_text(model, crossing.expand(2, -1), torch.ones(2, LIMIT - 1).long(), max_new_tokens=NEW)


def test_a_row_with_pads_between_its_sections_that_fits_the_limit_in_tokens_keeps_its_cache(sections) -> None:
    """Columns are more than the limit, tokens are fewer."""
    model = fused_model(rope_model(), build_model("llama"))
    single, gap = text(LIMIT - NEW), 8
    ids = torch.cat([single[:, :10], single.new_zeros((1, gap)), single[:, 10:]], dim=1)
    mask = (ids > 0).long()
    batch = sections((-1, 10), (1, gap + 8), (-1, single.shape[1] - 18))
    alone = sections((-1, 10), (1, 8), (-1, single.shape[1] - 18))
    written = model.generate(batch, ids, mask, max_new_tokens=NEW)[:, ids.shape[1] :]
    assert torch.equal(written, model.generate(alone, single, max_new_tokens=NEW)[:, single.shape[1] :])


@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2])
def test_a_prompt_whose_last_token_is_beyond_the_limit_is_not_read_without_it(word_tokenizer, length: int) -> None:
    model = rope_model()
    ids = torch.cat([text(length, seed) for seed in (1, 2)])
    ids[:, :9] = ids[0, :9]
    memory = PromptMemory(LoadedModel("receiver", model, word_tokenizer))
    memory.plan([ids[:, :-1].tolist()])
    mask = torch.ones_like(ids)
    prefix = memory.prefix(ids, mask)
    assert (prefix is None) == (length == LIMIT + 1)
    positions = kv_cache.positions_of(mask)[:, :-1]
    whole = kv_cache.prefill(model, ids[:, :-1], mask[:, :-1], positions, lengths=mask.sum(-1))
    torch.testing.assert_close(prefix or kv_cache.layers_of(whole), kv_cache.layers_of(whole))


def test_a_sharer_that_would_cross_the_limit_while_it_reads_the_response_is_refused(sections) -> None:
    model = fused_model(build_model("qwen3"), rope_model(layers=4), include_response=True)
    ids = text(LIMIT - 1)
    index = sections((1, LIMIT - 2), (1, 1))
    with refused("Sharer 1", "longrope"):
        model.generate(index, ids, max_new_tokens=NEW)
    given = SharerInput.of_receiver(ids[:, :-1], torch.ones_like(ids[:, :-1]))
    with refused("Sharer 1", "longrope"):
        model.generate(index, ids, max_new_tokens=NEW, sharer_inputs=[given])


def test_positions_that_are_given_count_as_the_length(sections) -> None:
    model, ids = fused_model(rope_model(), build_model("llama"), closed=True), text(20)
    positions = positions_of(torch.ones_like(ids)) + LIMIT
    alone = model.receiver(ids, position_ids=positions).logits[0, -1]
    logits = model(sections((1, 19), (-1, 1)), ids, position_ids=positions).logits[0, -1]
    torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("rope", "limit"),
    [
        ({"rope_type": "default"}, None),
        ({"rope_type": "linear", "factor": 2.0}, None),
        ({"rope_type": "dynamic", "factor": 2.0}, None),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}, None),
        ({"rope_type": "longrope", "original_max_position_embeddings": 32}, 32),
    ],
)
def test_only_rotations_that_change_within_the_models_positions_have_a_limit(rope, limit) -> None:
    config = build_model("llama").config
    config.rope_parameters = rope | {"rope_theta": 10000.0}
    assert rotation_limit(config) == limit


def test_dynamic_rotations_change_only_where_no_text_is_read(sections) -> None:
    torch.manual_seed(0)
    config = build_model("llama").config
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    config.max_position_embeddings = LIMIT
    model = fused_model(type(build_model("llama"))(config).eval(), build_model("qwen3"), closed=True)
    ids = text(LIMIT)
    logits = model(sections((-1, 9), (1, 20), (-1, LIMIT - 29)), ids).logits[0, -1]
    torch.testing.assert_close(logits, model.receiver(ids).logits[0, -1], atol=1e-5, rtol=1e-5)
    with refused(f"{LIMIT} positions"):
        model.generate(sections((1, LIMIT - 1), (-1, 1)), ids, max_new_tokens=1)
