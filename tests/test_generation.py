"""What generation offers: penalties that ignore pads, stop strings, several end tokens, streams, no wasted forward."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessor, TextIteratorStreamer, TextStreamer

from c2c import RefusedError, generate_kv_cache_index
from c2c.alignment.tokens import left_pad
from c2c.generation.penalties import CountPenalty

NEW = 12


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    return [torch.randint(2, 97, (tokens,), generator=draw).tolist() for tokens in (5, 11, 2, 8)]


def write(model, rows, **options) -> torch.Tensor:
    batch, mask = left_pad(rows, pad=1)  # the end token pads, as in many released models
    index = generate_kv_cache_index(batch.shape[1] - 1, 1)
    return model.generate(index, batch, mask, max_new_tokens=NEW, **options)[:, batch.shape[1] :]


PENALTIES = [
    {"repetition_penalty": 1.7},
    {"presence_penalty": 2.0},
    {"frequency_penalty": 1.5},
    {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.7},
]


@pytest.mark.parametrize("options", PENALTIES)
def test_with_penalties_a_padded_batch_equals_one_by_one(open_model, rows, options) -> None:
    together = write(open_model, rows, **options)
    assert not torch.equal(together, write(open_model, rows))
    for row, text in zip(rows, together, strict=True):
        alone = write(open_model, [row], **options)[0]
        assert torch.equal(alone, text[: len(alone)])


def test_presence_counts_once_and_frequency_each_time_over_prompt_and_text_but_not_pads() -> None:
    mask = torch.tensor([[0, 1, 1, 1]])
    ids = torch.tensor([[3, 5, 5, 2, 5]])  # a pad, three tokens of the prompt, one new token
    scores = CountPenalty(mask, presence=10.0, frequency=1.0)(ids, torch.zeros(1, 7))
    assert scores.tolist() == [[0, 0, -11.0, 0, 0, -13.0, 0]]


def test_every_cut_of_sampling_applies(open_model, rows) -> None:
    batch = torch.tensor([rows[0]]).expand(500, -1)
    index = generate_kv_cache_index(4, 1)
    kinds = {}
    for name, options in {"none": {}, "k": {"top_k": 2}, "p": {"top_p": 0.05}, "min_p": {"min_p": 0.9}}.items():
        torch.manual_seed(0)
        drawn = open_model.generate(index, batch, max_new_tokens=1, do_sample=True, temperature=5.0, **options)
        kinds[name] = drawn[:, -1].unique().numel()
    assert kinds["none"] > 20
    assert kinds["k"] == 2
    assert kinds["p"] < kinds["none"]
    assert kinds["min_p"] < kinds["none"]


def test_a_row_ends_at_its_stop_string_and_the_others_go_on(open_model, rows, split_tokenizer) -> None:
    plain = write(open_model, rows, eos_token_id=96)
    stop = split_tokenizer.decode(plain[1, 2:4])
    stopped = write(open_model, rows, eos_token_id=96, stop_strings=[stop], tokenizer=split_tokenizer)
    text = split_tokenizer.decode(stopped[1, :4])
    assert stop in text
    assert torch.equal(stopped[1, :4], plain[1, :4])
    assert stopped[1, 4:].eq(open_model.receiver.config.pad_token_id).all()


def test_any_of_several_end_tokens_ends_a_row(open_model, rows) -> None:
    plain = write(open_model, rows, eos_token_id=96)
    ends = [int(plain[0, 3]), int(plain[3, 2]), 96]
    ended = write(open_model, rows, eos_token_id=ends)
    for row, text in zip(ended.tolist(), plain.tolist(), strict=True):
        first = next((place for place, token in enumerate(text) if token in ends), NEW - 1)
        assert row[: first + 1] == text[: first + 1]
        assert set(row[first + 1 :]) <= {open_model.receiver.config.pad_token_id}


def test_a_stream_carries_the_same_tokens_as_the_answer(open_model, rows, split_tokenizer) -> None:
    streamer = TextIteratorStreamer(split_tokenizer, skip_prompt=True)
    written = write(open_model, rows[:1], streamer=streamer)
    assert "".join(streamer) == split_tokenizer.decode(written[0])


def test_a_stream_of_a_fused_response_carries_the_same_tokens(open_model, rows, split_tokenizer) -> None:
    open_model.include_response = True
    streamer = TextIteratorStreamer(split_tokenizer, skip_prompt=True)
    written = write(open_model, rows[:1], streamer=streamer)
    assert "".join(streamer) == split_tokenizer.decode(written[0])


def test_no_forward_is_wasted_after_the_last_token(open_model, rows, monkeypatch) -> None:
    calls: list[int] = []
    original = open_model.receiver.base_model.forward

    def counted(*arguments, **named):
        calls.append(named["input_ids"].shape[1])
        return original(*arguments, **named)

    monkeypatch.setattr(open_model.receiver.base_model, "forward", counted)
    written = write(open_model, rows[:1], eos_token_id=96)
    assert calls == [len(rows[0]) - 1] + [1] * written.shape[1], "the prefix, then one forward a new token"


class Ban(LogitsProcessor):
    def __call__(self, input_ids, scores):
        scores[:, 2:90] = float("-inf")
        return scores


def test_processors_of_the_users_own_apply(open_model, rows) -> None:
    written = write(open_model, rows, processors=[Ban()], eos_token_id=96)
    assert not ((written >= 2) & (written < 90)).any()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"temprature": 0.5}, "'temprature'.*Did you mean 'temperature'"),
        ({"temperature": 0.5}, "temperature must be left out without sampling"),
        ({"do_sample": True, "temperature": 0.0}, "temperature must be above 0"),
        ({"do_sample": True, "top_p": 1.5}, r"top_p must be in \[0, 1\]"),
        ({"do_sample": True, "min_p": -0.1}, r"min_p must be in \[0, 1\]"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"stop_strings": ["x"]}, "Stop strings must come with the model's tokenizer"),
        ({"num_beams": 2}, "'num_beams'"),
        ({"cache": "paged"}, "'paged'.*dynamic, sliding, static, int8, int4"),
    ],
)
def test_an_option_that_is_unknown_or_without_effect_is_refused_before_any_model_runs(
    open_model, rows, options, rule, monkeypatch
) -> None:
    for model in open_model.model_list:
        monkeypatch.setattr(model.base_model, "forward", lambda **_: pytest.fail("a model ran"))
    with pytest.raises(RefusedError, match=rule):
        write(open_model, rows, **options)


def test_a_stream_of_several_rows_is_refused_before_any_model_runs(
    open_model, rows, split_tokenizer, monkeypatch
) -> None:
    for model in open_model.model_list:
        monkeypatch.setattr(model.base_model, "forward", lambda **_: pytest.fail("a model ran"))
    with pytest.raises(RefusedError, match="A batch with a streamer must have one row; received 'a batch of 4'"):
        write(open_model, rows, streamer=TextStreamer(split_tokenizer))
