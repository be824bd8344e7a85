"""Compiled steps write what the plain loop writes, and are compiled once for each shape."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from c2c import RefusedError, generate_kv_cache_index
from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.writing import decode_answers
from c2c.evaluation.questions.question import Question
from c2c.generation import compiled
from c2c.generation.compiled import check_compilable, columns_for, compiled_decoding, rows_for
from c2c.generation.decoding import continue_text
from tests.conftest import FAMILIES, build_model

MASK = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1, 1, 1, 1], [1] * 9])
"""Pads at the left, pads between tokens, and none."""
NEW = 24


@pytest.fixture(autouse=True)
def backend(monkeypatch) -> Iterator[None]:
    """Steps are compiled by a backend that needs no C++ compiler, and forgotten afterwards."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiled, "FEWEST_COLUMNS", 16)
    compiled._compilers.clear()
    torch._dynamo.reset()
    counters.clear()
    yield
    compiled._compilers.clear()
    torch._dynamo.reset()


def prompts(vocabulary: int) -> Tensor:
    return torch.randint(3, vocabulary, MASK.shape, generator=torch.Generator().manual_seed(0))


def answers_of(model: PreTrainedModel, tokenizer, ids: Tensor, mask: Tensor, prefix: int, **options) -> list[Answer]:
    options = {"stops": (), **options}
    questions = [
        Question("b", row, {"id": "q"}, "", "", max_new_tokens=NEW - 7 * row, **options) for row in range(len(ids))
    ]
    part = mask[:, :prefix]
    cache = kv_cache.prefill(model, ids[:, :prefix], part, kv_cache.positions_of(part)) if prefix else None
    return decode_answers(DecodingState(model, tokenizer, ids, mask, cache, [Answer() for _ in questions]), questions)


@pytest.mark.parametrize("prefix", [0, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_writes_the_same_tokens_by_compiled_steps(tiny_model, word_tokenizer, family, prefix) -> None:
    model = tiny_model(family, vocab=len(word_tokenizer))
    model.set_attn_implementation("sdpa")
    ids = prompts(len(word_tokenizer))
    plain = answers_of(model, word_tokenizer, ids, MASK, prefix)
    with compiled_decoding([model]):
        fast = answers_of(model, word_tokenizer, ids, MASK, prefix)
    for one, other in zip(fast, plain, strict=True):
        assert one.output_ids == other.output_ids
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("backend_name", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_other_backends_write_the_same_tokens(open_model, prompt_ids, backend_name, monkeypatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", backend_name)
    if backend_name == "inductor" and not compiled._has_compiler(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    index = generate_kv_cache_index(10, 1)
    plain = open_model.generate(index, prompt_ids, max_new_tokens=NEW)
    assert torch.equal(open_model.generate(index, prompt_ids, max_new_tokens=NEW, compile=True), plain)
    assert graphs() == 1


def test_steps_are_compiled_once_for_each_shape(open_model, word_tokenizer) -> None:
    rows = [torch.randint(2, 97, (tokens,), generator=torch.Generator().manual_seed(tokens)).tolist() for tokens in (
        5, 11, 2, 8, 7,
    )]  # fmt: skip

    def write(count: int, new: int) -> None:
        ids, mask = left_pad(rows[:count], 0)
        index = generate_kv_cache_index(ids.shape[1] - 1, 1)
        open_model.generate(index, ids, mask, max_new_tokens=new, compile=True)

    write(3, 4)
    assert graphs() == 1  # 4 rows of 16 columns
    for count, new in ((3, 4), (3, 2), (4, 5), (3, 3)):
        write(count, new)
    assert graphs() == 1
    write(3, 8)
    assert graphs() == 2  # 4 rows of 24
    write(5, 5)
    assert graphs() == 3  # 8 rows of 16
    write(4, 9)
    write(5, 2)
    # An evaluation reads by the same steps
    model = open_model.receiver
    with compiled_decoding([model]):
        continue_text(model, *left_pad(rows[:3], 0), max_new_tokens=4)
    assert graphs() == 3


def test_a_batch_equals_one_by_one_and_rows_that_fill_it_change_nothing(open_model) -> None:
    draw = torch.Generator().manual_seed(2)
    rows = [torch.randint(2, 97, (tokens,), generator=draw).tolist() for tokens in (5, 11, 2, 8, 1)]
    ids, mask = left_pad(rows, 0)
    together = open_model.generate(
        generate_kv_cache_index(ids.shape[1] - 1, 1), ids, mask, max_new_tokens=NEW, compile=True
    )
    for row, text in zip(rows[:-1], together[:, ids.shape[1] :], strict=False):
        index = generate_kv_cache_index(len(row) - 1, 1)
        for compiles in (False, True):
            alone = open_model.generate(index, torch.tensor([row]), max_new_tokens=NEW, compile=compiles)[0, len(row) :]
            assert torch.equal(alone, text[: len(alone)])


@pytest.mark.parametrize("length", [1, 2])
def test_a_prompt_of_one_token_or_two_is_continued(tiny_model, length) -> None:
    model, ids = tiny_model("llama"), torch.tensor([[5, 7]])[:, :length]
    plain = continue_text(model, ids, torch.ones_like(ids), max_new_tokens=NEW)
    with compiled_decoding([model]):
        assert torch.equal(continue_text(model, ids, torch.ones_like(ids), max_new_tokens=NEW), plain)


def test_stop_strings_end_tokens_and_limits_end_the_same_rows(tiny_model, word_tokenizer) -> None:
    model, ids = tiny_model("qwen3", vocab=len(word_tokenizer)), prompts(len(word_tokenizer))
    texts = [answer.output_text.split() for answer in answers_of(model, word_tokenizer, ids, MASK, 8)]
    stops = [(texts[0][3],), (texts[1][2], texts[2][5]), ("nowhere",), ()]
    for stop in stops:
        plain = answers_of(model, word_tokenizer, ids, MASK, 8, stops=stop)
        with compiled_decoding([model]):
            fast = answers_of(model, word_tokenizer, ids, MASK, 8, stops=stop)
        assert [answer.output_ids for answer in fast] == [answer.output_ids for answer in plain]
        assert [answer.output_text for answer in fast] == [answer.output_text for answer in plain]
    assert graphs() == 1


OPTIONS = [
    {"eos_token_id": [7, 20, 33, 41, 55]},
    {"repetition_penalty": 1.7},
    {"frequency_penalty": 1.5, "min_new_tokens": 5},
    {"do_sample": True, "temperature": 2.0},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_of_generation_has_the_same_effect(open_model, prompt_ids, options) -> None:
    texts = []
    for compiles in (False, True):
        torch.manual_seed(5)
        index = generate_kv_cache_index(10, 1)
        texts.append(open_model.generate(index, prompt_ids, max_new_tokens=NEW, compile=compiles, **options))
    assert torch.equal(*texts)


def test_the_callers_cache_grows_as_by_the_plain_loop(tiny_model) -> None:
    model, ids = tiny_model("gemma3"), prompts(97)
    positions = kv_cache.positions_of(MASK)[:, :8]
    caches = [kv_cache.prefill(model, ids[:, :8], MASK[:, :8], positions) for _ in range(2)]
    continue_text(model, ids, MASK, caches[0], max_new_tokens=5)
    with compiled_decoding([model]):
        continue_text(model, ids, MASK, caches[1], max_new_tokens=5)
    for plain, fast in zip(*map(kv_cache.layers_of, caches), strict=True):
        for states, others in zip(plain, fast, strict=True):
            # Those of tokens: what pads hold is never attended to
            tokens = torch.nn.functional.pad(MASK, (0, states.shape[2] - 9), value=1)[:, None, :, None]
            torch.testing.assert_close(states * tokens, others * tokens, atol=1e-5, rtol=1e-5)


def test_a_batch_that_begins_before_another_ends_has_a_cache_of_its_own(tiny_model) -> None:
    model, ids = tiny_model("llama"), prompts(97)
    with compiled_decoding([model]):
        caches = [kv_cache.empty_cache(model.config) for _ in range(2)]
        with compiled.begin_batch(model, caches[0], ids, MASK, 4) as outer:
            before = outer.cache.layers[0].keys.clone()
            with compiled.begin_batch(model, caches[1], ids + 1, MASK, 4) as inner:
                assert inner.cache is not outer.cache
            assert torch.equal(outer.cache.layers[0].keys, before)
        with compiled.begin_batch(model, kv_cache.empty_cache(model.config), ids, MASK, 4) as later:
            assert later.cache is outer.cache


def test_what_is_no_number_in_one_batch_does_not_reach_the_next(tiny_model) -> None:
    model, ids = tiny_model("llama"), prompts(97)
    plain = continue_text(model, ids, MASK, max_new_tokens=NEW)
    with compiled_decoding([model]):
        continue_text(model, ids, MASK, max_new_tokens=NEW)
        (batch,) = compiled._compilers[model].idle.values()
        for layer in batch.cache.layers:
            layer.keys.fill_(torch.nan), layer.values.fill_(torch.inf)
        assert torch.equal(continue_text(model, ids, MASK, max_new_tokens=NEW), plain)


def test_a_compiled_model_is_let_go_with_its_caches(tiny_model) -> None:
    model = build_model("llama")
    with compiled_decoding([model]):
        continue_text(model, prompts(97), MASK, max_new_tokens=3)
    assert "forward" not in vars(model) and not compiled.decodes_compiled(model)
    watch = weakref.ref(next(model.parameters()))
    del model
    torch._dynamo.reset()
    gc.collect()
    assert watch() is None


def test_shapes_are_rounded_up_to_few_sizes(monkeypatch) -> None:
    assert [rows_for(rows) for rows in (1, 2, 3, 4, 5, 33)] == [1, 2, 4, 4, 8, 64]
    monkeypatch.setattr(compiled, "FEWEST_COLUMNS", 256)
    assert [columns_for(n) for n in (1, 256, 257, 385, 513, 769, 1025)] == [256, 256, 384, 512, 768, 1024, 1536]
    assert all(n <= columns_for(n) <= max(256, 1.5 * n) for n in range(1, 5000))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"_attn_implementation": "eager"}, "take positions and masks, in the form of sdpa"),
        ({"layer_types": ["linear_attention"] * 3}, "have layers with full, sliding or chunked attention alone"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "have rotary positions that do not change"),
        ({"attn_temperature_tuning": 4}, "scale no queries by their columns"),
    ],
)
def test_a_model_whose_steps_would_differ_is_refused(change, rule) -> None:
    model = build_model("llama")
    for name, value in change.items():
        object.__setattr__(model.config, name, value)
    with pytest.raises(RefusedError, match=f"A model whose steps are compiled must {rule}"):
        check_compilable(model)


def test_a_model_with_branches_on_values_and_a_machine_without_a_compiler_are_refused(tiny_model, monkeypatch) -> None:
    model = build_model("llama")
    model._can_compile_fullgraph = False
    with pytest.raises(RefusedError, match="must run without branches on values"):
        check_compilable(model)
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    monkeypatch.setattr(compiled, "_has_compiler", lambda device: False)
    with pytest.raises(RefusedError, match=r"torch.compile on a cpu must have a C\+\+ compiler"):
        check_compilable(tiny_model("llama"))


def test_compiled_steps_must_follow_a_dynamic_cache_of_a_prompt_that_alone_is_fused(open_model, prompt_ids) -> None:
    with pytest.raises(RefusedError, match="Compiled steps must follow a prompt"):
        open_model.generate(generate_kv_cache_index(10, 1), prompt_ids, cache="static", compile=True)
    open_model.include_response = True
    sections = [torch.tensor([[1, 0]]).expand(1, n, 2) for n in (10, 1)]
    with pytest.raises(RefusedError, match=r"Compiled steps must follow a prompt.*a fused response"):
        open_model.generate(sections, prompt_ids, compile=True)
