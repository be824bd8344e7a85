"""Batches hold to their budget; what the Sharer read is remembered within its limit and is the same read anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import GPTNeoConfig, GPTNeoForCausalLM, MptConfig, MptForCausalLM, PreTrainedModel

from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.batches import batches_of, in_parts
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.prompt_memory import BYTES, PromptMemory, common_start, default_limit
from c2c.models.loading import LoadedModel
from c2c.models.memory_meter import is_out_of_memory
from tests.evaluation.conftest import ask, fused_method


@contextmanager
def tokens_read(loaded: LoadedModel, least: int = 1) -> Iterator[list[int]]:
    """The tokens, pads included, of each run of a model inside that has at least so many columns."""
    counts: list[int] = []

    def note(module, arguments, named) -> None:
        if named["input_ids"].shape[1] >= least:
            counts.append(named["input_ids"].numel())

    handle = loaded.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    yield counts
    handle.remove()


LENGTHS = [3, 50, 7, 7, 12, 1, 30, 29, 8]


def test_rows_times_the_longest_stay_within_the_budget_and_nothing_is_lost() -> None:
    for budget in (1, 20, 40, 64, 1000):
        batches = batches_of(range(len(LENGTHS)), LENGTHS, budget)
        assert sorted(place for batch in batches for place in batch) == list(range(len(LENGTHS)))
        for batch in batches:
            longest = max(LENGTHS[place] for place in batch)
            assert len(batch) * longest <= budget or len(batch) == 1
        assert [LENGTHS[place] for batch in batches for place in batch] == sorted(LENGTHS, reverse=True)


def test_options_count_as_rows() -> None:
    batches = batches_of(range(4), [10, 10, 10, 10], 100, rows=[4, 4, 4, 4])
    assert batches == [[0, 1], [2, 3]]


def test_the_batches_that_remain_after_some_are_done_are_the_same() -> None:
    whole = batches_of(range(len(LENGTHS)), LENGTHS, 64)
    rest = [place for batch in whole[2:] for place in batch]
    assert batches_of(rest, [LENGTHS[place] for place in rest], 64) == whole[2:]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match="token budget"):
        batches_of([1], [1], 0)


def test_a_question_that_the_sharer_has_read_is_not_read_again(pair, fuser, questions, monkeypatch) -> None:
    memory = PromptMemory(pair.sharer)
    matched, deranged = (fused_method(name, pair, fuser, memory) for name in ("c2c", "c2c_deranged"))
    ask(matched, questions["free"], 60)

    def refuse(*_, **__):
        raise AssertionError("the Sharer ran")

    monkeypatch.setattr(pair.sharer.model.base_model, "forward", refuse)
    ask(deranged, questions["free"], 60)


def test_an_accelerator_keeps_a_tenth_of_its_memory_and_no_less_than_a_computer(monkeypatch) -> None:
    for total, expected in ((80 * 10**9, 8 * 10**9), (2 * 10**9, BYTES)):
        device = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, device=device: device)
        assert default_limit(torch.device("cuda")) == expected
    assert default_limit(torch.device("cpu")) == BYTES


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("limit", [0, 2**30])
def test_answers_do_not_depend_on_what_is_remembered(pair, fuser, questions, kind, limit) -> None:
    for name in ("c2c", "c2c_deranged"):
        plain = ask(fused_method(name, pair, fuser), questions[kind], 60)
        kept = ask(fused_method(name, pair, fuser, PromptMemory(pair.sharer, limit)), questions[kind], 60)
        assert [answer.output_ids for answer in plain] == [answer.output_ids for answer in kept]
        for one, other in zip(plain, kept, strict=True):
            assert (one.choice_scores or []) == pytest.approx(other.choice_scores or [], abs=1e-5)


def test_a_reading_has_the_same_bits_in_whatever_order_questions_are_asked_for(pair) -> None:
    texts = [tuple(range(3 + 7 - n, 3 + 7 + 2)) for n in range(7)]
    first, second = PromptMemory(pair.sharer), PromptMemory(pair.sharer, limit=0)
    for memory in (first, second):
        memory.plan(batches_of(texts, [len(text) for text in texts], 12))
    one = {text: first.layers([text], 9) for text in texts}
    other = {text: second.layers([text], 9) for text in reversed(texts)}
    for text in texts:
        for here, there in zip(one[text], other[text], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert not second._caches


def test_what_all_texts_begin_with_is_read_once_and_gives_the_same_readings(pair) -> None:
    start = [3, 4, 5, 6, 7, 8, 9, 10, 11]
    texts = [[*start, *range(3, 4 + 2 * n)] for n in range(4)]
    together, alone = PromptMemory(pair.sharer), PromptMemory(pair.sharer)
    together.plan([texts])
    for text in texts:
        alone.plan([[text]])
    with tokens_read(pair.sharer) as counts:
        one, other = (memory.layers(texts, 20) for memory in (together, alone))
    assert counts[:2] == [len(start), 4 * 7]
    for here, there in zip(one, other, strict=True):
        for states, expected in zip(here, there, strict=True):
            torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)


def test_what_all_texts_of_a_benchmark_begin_with_is_read_once_for_all_batches(pair) -> None:
    start = tuple(range(3, 13))
    texts = [(*start, *range(3, 4 + n)) for n in range(6)]
    memory, plain = PromptMemory(pair.sharer), PromptMemory(pair.sharer)
    memory.plan([texts[:2], texts[2:4], texts[4:5], texts[5:]])
    for text in texts:
        plain.plan([[text]])
    with tokens_read(pair.sharer) as counts:
        states = [memory.layers([text], 20) for text in texts]
    assert counts == [len(start), 2 * 2, 2 * 4, 5, 6]
    for text, layers in zip(texts, states, strict=True):
        for layer, expected in zip(layers, plain.layers([text], 20), strict=True):
            for one, other in zip(layer, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@contextmanager
def little_memory(loaded: LoadedModel, rows: int) -> Iterator[list[int]]:
    """Inside, memory runs out in each run of a model with more rows; the rows of the runs that were tried."""
    tried: list[int] = []

    def fail(module, arguments, named) -> None:
        tried.append(len(named["input_ids"]))
        if tried[-1] > rows:
            raise torch.OutOfMemoryError("out of memory")

    handle = loaded.model.base_model.register_forward_pre_hook(fail, with_kwargs=True)
    yield tried
    handle.remove()


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("name", ["receiver", "c2c", "c2c_deranged"])
def test_where_memory_runs_out_halves_are_answered_and_later_batches_are_halved_at_once(
    pair, fuser, questions, name, kind
) -> None:
    def build() -> Method:
        return MethodInputs(pair.receiver, [pair.sharer], [fuser]).build(name)

    whole = ask(build(), questions[kind], 10_000)
    method = build()
    with little_memory(pair.receiver, 2) as tried, little_memory(pair.sharer, 2):
        in_halves = ask(method, questions[kind], 10_000)
        failures = sum(rows > 2 for rows in tried)
        # The same questions under other numbers
        ask(method, [replace(question, number=question.number + 8) for question in questions[kind]], 10_000)
    assert failures == sum(rows > 2 for rows in tried) > 0
    for one, other in zip(whole, in_halves, strict=True):
        assert (one.output_ids, one.sharer_question_id) == (other.output_ids, other.sharer_question_id)
        assert (one.choice_scores or []) == pytest.approx(other.choice_scores or [], abs=1e-4)


def test_a_question_for_which_there_is_no_memory_ends_the_run_and_says_where(pair, questions) -> None:
    method = SingleModel(pair.receiver)
    with little_memory(pair.receiver, 0), pytest.raises(torch.OutOfMemoryError) as error:
        method.answer(questions["free"])
    assert "lower the token budget" in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_only_want_of_memory_halves_a_batch(error, expected) -> None:
    def run(items):
        if len(items) > 1:
            raise error
        return list(items)

    assert is_out_of_memory(error) == expected
    if expected:
        assert in_parts(run, range(5)) == list(range(5))
    else:
        with pytest.raises(RuntimeError, match="multiplied"):
            in_parts(run, range(5))


@pytest.mark.parametrize("name", ["receiver", "sharer", "c2c", "c2c_deranged"])
def test_a_method_alone_reads_the_start_of_all_prompts_once_and_answers_as_without(
    pair, fuser, questions, words, name
) -> None:
    start = " ".join(words[3:15])
    asked = [replace(question, prompt=f"{start} {question.prompt}") for question in questions["free"]]
    method = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60).build(name)
    plain = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60).build(name)
    plain.reader.memory = None
    model = method.models[0]
    with tokens_read(model, least=2) as counts:
        answers = ask(method, asked, 60)
    with tokens_read(model, least=2) as plain_counts:
        expected = ask(plain, asked, 60)
    assert sum(counts) < sum(plain_counts)
    assert counts[0] == len(start.split()) and counts.count(counts[0]) == 1
    assert [answer.output_ids for answer in answers] == [answer.output_ids for answer in expected]


CONTROLS = ("c2c", "c2c_deranged", "c2c_zeroed")


@pytest.mark.parametrize("kind", ["free", "choice"])
def test_methods_that_answer_together_read_each_prompt_once_and_answer_as_each_alone(
    pair, fuser, questions, kind
) -> None:
    inputs = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60)
    methods = inputs.build_together(["receiver", *CONTROLS])
    # One read of each prefix: the Receiver's tokens but the last of every question, pads included
    batches = methods["receiver"]._batches(questions[kind])
    longest = [max(methods["receiver"].reader.length(question) for question in batch) - 1 for batch in batches]
    with tokens_read(pair.receiver, least=2) as counts:
        methods["receiver"].answer(questions[kind])
    assert counts == [len(batch) * width for batch, width in zip(batches, longest, strict=True)]
    for name in ("receiver", *CONTROLS):
        alone = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60).build(name)
        for one, other in zip(ask(alone, questions[kind], 60), methods[name].answer(questions[kind]), strict=True):
            assert (one.output_ids, one.sharer_question_id) == (other.output_ids, other.sharer_question_id)
            assert (one.choice_scores or []) == pytest.approx(other.choice_scores or [], abs=1e-5)


def test_controls_have_the_same_bits_together_as_alone(pair, fuser, questions) -> None:
    methods = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60).build_together(CONTROLS)
    methods["c2c"].answer(questions["choice"])
    for name, method in methods.items():
        by_itself = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60).build(name)
        alone = ask(by_itself, questions["choice"], 60)
        scores = [answer.choice_scores for answer in method.answer(questions["choice"])]
        assert scores == [answer.choice_scores for answer in alone]


def test_a_batch_is_answered_by_all_methods_before_the_next_also_where_one_resumes(
    pair, fuser, questions, monkeypatch
) -> None:
    methods = MethodInputs(pair.receiver, [pair.sharer], [fuser], token_budget=60).build_together(CONTROLS)
    batches = methods["c2c"]._batches(questions["free"])
    for question in batches[0]:
        methods["c2c_deranged"]._add_answer(question, Answer(output_text="as before"))
    order: list[tuple[str, int]] = []
    answer_batch = Method._answer_batch

    def note(method, batch):
        order.append((method.name, batch[0].number))
        return answer_batch(method, batch)

    monkeypatch.setattr(Method, "_answer_batch", note)
    methods["c2c"].answer(questions["free"])
    firsts = [batch[0].number for batch in batches]
    assert order == [
        (name, first) for first in firsts for name in CONTROLS if (name, first) != (CONTROLS[1], firsts[0])
    ]


@pytest.mark.parametrize(
    ("texts", "shared"),
    [([[1] * 12, [1] * 10], 9), ([[1] * 12, [1] * 7 + [2] * 5], 0), ([[1] * 9 + [2], [1] * 9 + [3]], 9)],
)
def test_a_start_is_shared_if_it_is_long_enough_and_leaves_each_text_a_token(texts, shared) -> None:
    assert common_start(texts) == shared


def model_that_counts_columns(family: str, vocabulary: int) -> PreTrainedModel:
    """A model whose positions (MPT) or windows (GPT-Neo) are columns."""
    sizes = {"vocab_size": vocabulary, "eos_token_id": None, "bos_token_id": None}
    torch.manual_seed(0)
    if family == "mpt":
        model = MptForCausalLM(MptConfig(d_model=32, n_heads=4, n_layers=2, max_seq_len=128, **sizes))
    else:
        kinds = {"attention_types": [[["global", "local"], 1]], "window_size": 4}
        model = GPTNeoForCausalLM(GPTNeoConfig(hidden_size=32, num_layers=2, num_heads=4, **kinds, **sizes))
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.data.normal_(std=0.4)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("family", ["mpt", "gpt_neo"])
def test_prompts_with_a_common_start_are_answered_by_a_model_that_counts_columns(word_tokenizer, words, family) -> None:
    model = model_that_counts_columns(family, len(word_tokenizer))
    texts = [" ".join([*(words * 3)[:12], *(words * 3)[15 + row : 17 + 2 * row]]) for row in range(3)]
    questions = [Question("b", row, {"id": str(row)}, text, "", max_new_tokens=3) for row, text in enumerate(texts)]
    methods = [SingleModel(LoadedModel("receiver", model, word_tokenizer), progress=False) for _ in range(2)]
    methods[1].reader.memory = None
    answers, plain = ([(item.error, item.output_ids) for item in method.answer(questions)] for method in methods)
    assert answers == plain and not any(error for error, _ in answers)
