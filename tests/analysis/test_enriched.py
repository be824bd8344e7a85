"""The enriched cache: what the question's tokens saw, at the positions that they have alone, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2c.analysis.enriched import Enrichment, FewShot, Oracle, Shot, Shots, enriched_prompt
from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.evaluation.answers.likelihood import option_tokens
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.models.loading import LoadedModel
from tests.evaluation.conftest import ask


@pytest.fixture
def shots(questions) -> Shots:
    known = [
        Shot(replace(question, doc={**question.doc, "id": f"shot{n}"}, prompt=f"what {question.prompt}"), question.gold)
        for n, question in enumerate(questions["choice"])
    ]
    return Shots(known, 2, between=" ")


@pytest.fixture
def enrichment(pair, shots) -> Enrichment:
    return Enrichment(pair.receiver, shots)


def scores(method: Method, questions, budget: int = 10_000) -> torch.Tensor:
    return torch.tensor([answer.choice_scores for answer in ask(method, questions, budget)])


def oracle(enrichment: Enrichment, layers: list[int] | None = None) -> Method:
    return Method("oracle", Oracle(enrichment, None if layers is None else lambda question: layers))


def dropped_by_hand(enrichment: Enrichment, question: Question) -> list[float]:
    """First tokens' log-probabilities after one text with the examples, which the last token alone cannot see."""
    prompt, model = enrichment.prompt(question), enrichment.loaded.model
    ids = torch.tensor([prompt.whole])
    mask = torch.ones_like(ids)
    positions = torch.arange(ids.shape[1])[None]
    cache = kv_cache.prefill(model, ids[:, :-1], mask[:, :-1], positions[:, :-1])
    hidden = mask.clone()
    hidden[:, : prompt.examples] = 0
    output = model(ids[:, -1:], attention_mask=hidden, position_ids=positions[:, -1:], cache=cache, use_cache=True)
    log = output.logits[0, -1].log_softmax(-1)
    tokens = option_tokens(enrichment.loaded.tokenizer, question.prompt, question.options, special=True)
    return [float(log[ids[0]]) for ids in tokens]


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt_neox"])
def test_the_oracle_is_one_text_whose_examples_are_hidden_at_the_end(
    tiny_model, word_tokenizer, shots, questions, family
) -> None:
    loaded = LoadedModel(family, tiny_model(family, vocab=len(word_tokenizer)), word_tokenizer)
    enrichment = Enrichment(loaded, shots)
    expected = [dropped_by_hand(enrichment, question) for question in questions["choice"]]
    found = scores(oracle(enrichment), questions["choice"])
    assert torch.allclose(found, torch.tensor(expected), atol=2e-4)
    assert not torch.allclose(found, scores(SingleModel(loaded), questions["choice"]), atol=1e-2)


def test_without_enriched_layers_and_with_the_first_alone_it_is_the_direct_answer(enrichment, pair, questions) -> None:
    direct = scores(SingleModel(pair.receiver), questions["choice"])
    assert torch.allclose(scores(oracle(enrichment, []), questions["choice"]), direct, atol=1e-4)
    assert torch.allclose(scores(oracle(enrichment, [0]), questions["choice"]), direct, atol=1e-4)
    assert not torch.allclose(scores(oracle(enrichment, [1]), questions["choice"]), direct, atol=1e-3)


def test_all_layers_named_one_by_one_are_the_oracle(enrichment, questions) -> None:
    everything = scores(oracle(enrichment, [0, 1, 2]), questions["choice"])
    assert torch.equal(everything, scores(oracle(enrichment), questions["choice"]))


def dropped_as_released(enrichment: Enrichment, question: Question) -> list[float]:
    """First tokens' log-probabilities as in the released script: positions of the whole text, examples cut out."""
    loaded, shots = enrichment.loaded, enrichment.shots
    whole, sinks = enrichment.prompt(question).whole, shots.sink_tokens
    start = len(whole) - enrichment.prompt(question).enriched
    ids, reply = torch.tensor([whole]), torch.tensor([prompting.prompt_ids(loaded, shots.reply, chat=True)])
    end = ids.shape[1]
    read = kv_cache.layers_of(kv_cache.prefill(loaded.model, ids, torch.ones_like(ids), torch.arange(end)[None]))
    # (1, H, N, D): the first positions, and all from the question's first on
    short = [
        tuple(torch.cat([states[:, :, :sinks], states[:, :, start:]], dim=2) for states in layer) for layer in read
    ]
    cache = kv_cache.cache_of_layers(short, loaded.model.config)
    positions = torch.arange(end, end + reply.shape[1])[None]
    mask = torch.ones(1, sinks + end - start + reply.shape[1], dtype=torch.int64)
    output = loaded.model(reply, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True)
    log = output.logits[0, -1].log_softmax(-1)
    return [float(log[ids[0]]) for ids in option_tokens(loaded.tokenizer, shots.reply, question.options, special=False)]


@pytest.mark.parametrize("reply", ["blue red green", "blue"])
def test_with_sink_tokens_and_a_reply_the_oracle_is_the_released_scripts(pair, shots, questions, reply) -> None:
    released = replace(shots, sink_tokens=3, reply=reply, in_order=True)
    enrichment = Enrichment(pair.receiver, released)
    expected = torch.tensor([dropped_as_released(enrichment, question) for question in questions["choice"]])
    found = ask(oracle(enrichment), questions["choice"], 10_000)
    assert torch.allclose(torch.tensor([answer.choice_scores for answer in found]), expected, atol=2e-4)
    # The sink tokens count: without them the scores are others.
    without = Enrichment(pair.receiver, replace(released, sink_tokens=0))
    assert not torch.allclose(scores(oracle(without), questions["choice"]), expected, atol=1e-3)
    for answer, question in zip(found, questions["choice"], strict=True):
        prompt = enrichment.prompt(question)
        assert prompt.alone[:3] == prompt.whole[:3] and len(prompt.alone) == prompt.enriched + 3
        assert answer.prompt_read.endswith(question.prompt + reply)
        assert answer.tokens_in == len(prompt.whole) + len(prompt.reply)


def test_with_sink_tokens_a_layer_that_is_not_enriched_has_read_them_and_the_question_alone(
    pair, shots, questions
) -> None:
    enrichment = Enrichment(pair.receiver, replace(shots, sink_tokens=3, reply="blue red"))
    (question,) = questions["choice"][:1]
    prompt = enrichment.prompt(question)
    positions = torch.arange(len(prompt.alone))[None]
    positions[:, :3] -= prompt.examples
    ids = torch.tensor([prompt.alone])
    expected = kv_cache.layers_of(kv_cache.prefill(pair.receiver.model, ids, torch.ones_like(ids), positions))
    for layer, layer_there in zip(enrichment.caches([question]).alone, expected, strict=True):
        assert torch.allclose(layer[0], layer_there[0], atol=1e-4)


def test_examples_in_order_are_the_first_of_the_questions_subset(shots, questions) -> None:
    first = {
        subset: [shot for shot in shots.examples if shot.question.doc["subset"] == subset][:2]
        for subset in ("even", "odd")
    }
    for question in questions["choice"]:
        assert replace(shots, in_order=True).of(question) == first[question.doc["subset"]]


def test_a_chat_with_sink_tokens_and_a_negative_number_of_them_are_refused(chat_pair, shots, questions) -> None:
    chat = replace(questions["free"][0], messages=({"role": "user", "content": "what is red"},))
    with pytest.raises(RefusedError, match="must be asked in plain prompts"):
        enriched_prompt(chat_pair.receiver, chat, replace(shots, sink_tokens=15))
    with pytest.raises(RefusedError, match="must be at least 0"):
        replace(shots, sink_tokens=-1)


def test_a_batch_equals_one_by_one_and_each_row_has_its_own_layers(enrichment, questions) -> None:
    asked = questions["choice"]
    mixed = Method("oracle", Oracle(enrichment, lambda question: [1, 2] if question.number % 2 else []))
    batched = scores(mixed, asked)
    enrichment.forget()
    assert torch.allclose(batched, scores(mixed, asked, 1), atol=1e-4)
    odd, even = scores(oracle(enrichment, [1, 2]), asked), scores(oracle(enrichment, []), asked)
    expected = torch.where(torch.tensor([question.number % 2 == 1 for question in asked])[:, None], odd, even)
    assert torch.allclose(batched, expected, atol=1e-4)


def test_few_shot_reads_the_text_that_it_says_it_read(enrichment, pair, questions) -> None:
    method = Method("few_shot", FewShot(enrichment))
    found = ask(method, questions["choice"], 10_000)
    written = [
        replace(question, prompt=answer.prompt_read)
        for question, answer in zip(questions["choice"], found, strict=True)
    ]
    expected = scores(SingleModel(pair.receiver), written)
    assert torch.allclose(torch.tensor([answer.choice_scores for answer in found]), expected, atol=1e-4)
    assert all(
        answer.prompt_read.endswith(question.prompt)
        for answer, question in zip(found, questions["choice"], strict=True)
    )


def test_examples_are_of_the_questions_subset_and_never_the_question_itself(shots, questions) -> None:
    asked = questions["choice"]
    for question in asked:
        assert {shot.question.doc["subset"] for shot in shots.of(question)} == {question.doc["subset"]}
    own = Shots([Shot(question, question.gold) for question in asked], 7)
    assert all(question.doc["id"] not in {shot.question.doc["id"] for shot in own.of(question)} for question in asked)
    assert len({tuple(shot.question.doc["id"] for shot in shots.of(question)) for question in asked}) > 2


@pytest.mark.parametrize("count", [0, 8])
def test_more_examples_than_there_are_and_none_are_refused(shots, count) -> None:
    with pytest.raises(RefusedError, match=r"at least 1 example .*, and fewer than the 8"):
        Shots(shots.examples, count)


def test_in_a_chat_the_examples_are_earlier_turns_behind_the_system_prompt(chat_pair, questions) -> None:
    def chat(question: Question, text: str) -> Question:
        return replace(question, messages=({"role": "user", "content": text},))

    known = [
        Shot(chat(replace(each, doc={"id": f"s{n}"}), "what is red"), "blue")
        for n, each in enumerate(questions["free"])
    ]
    question = chat(questions["free"][0], "what is the color")
    for loaded in (chat_pair.receiver, chat_pair.sharer):
        prompt = enriched_prompt(loaded, question, Shots(known, 2))
        lead = len(prompt.alone) - prompt.enriched
        assert prompt.whole[:lead] == prompt.alone[:lead] and prompt.whole[-prompt.enriched :] == prompt.alone[lead:]
        assert prompt.text.count("what is red") == 2 and prompt.text.count("blue") == 2
        assert prompt.text.index("blue") < prompt.text.index("what is the color")
    assert prompt.text.startswith("[system]") and lead > 0
    assert torch.isfinite(scores_of_one(Enrichment(chat_pair.sharer, Shots(known, 2)), question)).all()


def scores_of_one(enrichment: Enrichment, question: Question) -> torch.Tensor:
    both = enrichment.caches([question])
    return torch.stack([states for layer in both.enriched for states in layer]).flatten()


def test_a_model_without_rotary_positions_is_refused(pair, shots, monkeypatch) -> None:
    monkeypatch.setattr(pair.receiver.model.config, "rope_parameters", None)
    with pytest.raises(RefusedError, match="rotary"):
        Enrichment(pair.receiver, shots)
