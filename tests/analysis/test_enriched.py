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
