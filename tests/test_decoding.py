"""Generation: a batch equals one by one at every step, seeds repeat, and nothing steers but what was asked for."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from c2c import RosettaModel, generate_kv_cache_index
from c2c.alignment.tokens import AlignedPrompt, batch_readings, left_pad
from c2c.generation.decoding import continue_text

SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.9}


class Recorder(LogitsProcessor):
    """Keeps the logits of each step."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []

    def __call__(self, input_ids, scores):
        self.logits.append(scores)
        return scores


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    return [torch.randint(2, 97, (tokens,), generator=draw).tolist() for tokens in (5, 11, 2, 8)]


def readings(rows: list[list[int]]) -> list[AlignedPrompt]:
    """A Sharer that reads other tokens, twice as many, and a last Receiver token that has no match."""
    found = []
    for row in rows:
        theirs = [(token * 7 + copy) % 90 + 2 for token in row[:-1] for copy in range(2)]
        token_map = [2 * place + 1 for place in range(len(row) - 1)]
        found.append(AlignedPrompt(row, theirs, [*token_map[:-1], -1] if len(row) > 2 else token_map))
    return found


def run(model: RosettaModel, rows: list[list[int]], own_tokens: bool, **options):
    """What is written after each row, ``(B, 12)``, and the logits of each step, ``(B, 12, V)``."""
    recorder = Recorder()
    batch, mask = left_pad(rows, pad=0)
    given = [batch_readings(readings(rows), pad=0)] if own_tokens else None
    index = generate_kv_cache_index(batch.shape[1] - 1, 1)
    processors = LogitsProcessorList([recorder])
    written = model.generate(
        index, batch, mask, max_new_tokens=12, sharer_inputs=given, processors=processors, **options
    )
    return written[:, batch.shape[1] :], torch.stack(recorder.logits, dim=1)


@pytest.mark.parametrize("own_tokens", [False, True])
def test_a_left_padded_batch_equals_one_by_one_token_for_token_and_logit_for_logit(
    open_model, rows, own_tokens
) -> None:
    batched, logits = run(open_model, rows, own_tokens)
    for number, row in enumerate(rows):
        single, single_logits = run(open_model, [row], own_tokens)
        steps = single.shape[1]
        assert steps >= 8
        assert torch.equal(batched[number, :steps], single[0])
        torch.testing.assert_close(logits[number, :steps], single_logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_row_that_is_all_pads_in_the_fused_section_is_the_receivers_own(open_model, rows, attention) -> None:
    for model in open_model.model_list:
        model.set_attn_implementation(attention)
    batched, logits = run(open_model, [rows[1], [5]], own_tokens=False)
    alone = open_model.receiver.generate(
        torch.tensor([[5]]), attention_mask=torch.ones(1, 1, dtype=torch.long), max_new_tokens=12
    )
    assert torch.equal(batched[1, : alone.shape[1] - 1], alone[0, 1:])
    assert torch.isfinite(logits).all()


def test_a_row_that_ends_early_is_padded_and_the_others_go_on(open_model, rows) -> None:
    batched, _ = run(open_model, rows, own_tokens=False)
    open_model.receiver.generation_config.eos_token_id = int(batched[0, 2])
    ended, _ = run(open_model, rows, own_tokens=False)
    stop = batched[0].tolist().index(int(batched[0, 2])) + 1
    assert torch.equal(ended[0, :stop], batched[0, :stop])
    assert (ended[0, stop:] == 0).all()
    for row in (1, 2, 3):
        if int(batched[0, 2]) not in batched[row]:
            assert torch.equal(ended[row], batched[row])


def test_sampling_repeats_with_its_seed_and_differs_from_greedy(open_model, rows) -> None:
    texts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        texts.append(run(open_model, rows, True, **SAMPLING)[0])
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert not torch.equal(texts[0], run(open_model, rows, True)[0])


def test_sampling_in_a_batch_sees_the_logits_of_one_by_one(open_model, rows) -> None:
    torch.manual_seed(0)
    written, logits = run(open_model, rows, True, **SAMPLING)
    for number, row in enumerate(rows):
        _, first = run(open_model, [row], True, **SAMPLING)
        torch.testing.assert_close(logits[number, 0], first[0, 0], atol=1e-5, rtol=1e-5)
        # Forced along the text that the batch sampled, one row alone sees the same logits at every step.
        cache_free, _ = teacher_forced(open_model, row, written[number])
        torch.testing.assert_close(logits[number], cache_free, atol=1e-5, rtol=1e-5)


def teacher_forced(model: RosettaModel, row: list[int], text: torch.Tensor):
    """Logits of one row at each step of `text`, all steps read at once."""
    ids = torch.tensor([row + text.tolist()])
    sections = [torch.tensor([mask, 0]).expand(1, n, 2) for mask, n in ((1, len(row) - 1), (-1, len(text) + 1))]
    output = model(sections, ids, sharer_inputs=[batch_readings(readings([row]), pad=0)])
    return output.logits[0, :-1], output


@pytest.mark.parametrize(
    "default", [{"repetition_penalty": 5.0}, {"suppress_tokens": list(range(2, 80))}, {"min_length": 40}, {"top_k": 1}]
)
@pytest.mark.parametrize("options", [{}, SAMPLING])
def test_a_models_own_generation_defaults_do_not_apply(open_model, rows, default, options) -> None:
    torch.manual_seed(0)
    plain = run(open_model, rows, True, **options)[0]
    own = open_model.receiver.generation_config
    own.update(**default)
    torch.manual_seed(0)
    assert torch.equal(run(open_model, rows, True, **options)[0], plain)
    assert open_model.receiver.generation_config is own


def test_sampling_without_a_cut_reaches_every_token(open_model, rows) -> None:
    """The library alone would keep the 50 most likely tokens of 97."""
    torch.manual_seed(0)
    batch = torch.tensor([rows[0]]).expand(2000, -1)
    index = generate_kv_cache_index(4, 1)
    drawn = open_model.generate(index, batch, max_new_tokens=1, do_sample=True, temperature=20.0)[:, -1]
    assert drawn.unique().numel() > 90
    few = open_model.generate(index, batch, max_new_tokens=1, do_sample=True, temperature=20.0, top_k=3)[:, -1]
    assert few.unique().numel() == 3


def test_a_penalty_that_is_asked_for_applies(open_model, rows) -> None:
    plain, penalised = (run(open_model, rows, True, repetition_penalty=value)[0] for value in (1.0, 5.0))
    assert not torch.equal(plain, penalised)


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_the_head_never_multiplies_a_slice_of_the_prompt(tiny_model, monkeypatch, family) -> None:
    model = tiny_model(family)
    handed: list[bool] = []
    linear = torch.nn.functional.linear

    def watched(hidden, weight, *bias):
        if weight is model.get_output_embeddings().weight:
            handed.append(hidden.is_contiguous())
        return linear(hidden, weight, *bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    prompt = torch.arange(2, 14).reshape(2, 6)
    continue_text(model, prompt, torch.ones_like(prompt), max_new_tokens=3)
    assert handed == [True] * 3
