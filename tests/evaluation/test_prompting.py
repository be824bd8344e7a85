"""Chats: each model reads its own template, the user's words alone are fused; private text is the Sharer's alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2c.errors import RefusedError
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.routing import ConfidenceRouting
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import SingleReader
from tests.evaluation.conftest import ask, fused_method

OPENING = "the answer is"
PRIVATE = "zorvex likes mubilo"


@pytest.fixture
def chat_methods(chat_pair, chat_fuser) -> dict[str, Method]:
    built = [
        SingleModel(chat_pair.receiver, "receiver"), SingleModel(chat_pair.sharer, "sharer"), TextToText(chat_pair),
        fused_method("c2c", chat_pair, chat_fuser), fused_method("c2c_deranged", chat_pair, chat_fuser),
        fused_method("c2c_zeroed", chat_pair, chat_fuser),
    ]  # fmt: skip
    return {method.name: method for method in built}


@pytest.fixture(autouse=True)
def short_messages(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)


def chats(kind: str, private: str = "", opening: str = OPENING) -> list[Question]:
    """Six questions of different lengths, with an opening of the answer if there is one."""
    words = ["what", "is", "the", "color", "of", "home", "oslo", "athens", "red"]
    found = []
    for number in range(6):
        asked = " ".join(words[(number + k) % len(words)] for k in range(3 + 2 * number)) + " ?"
        messages = [{"role": "user", "content": asked}]
        messages += [{"role": "assistant", "content": opening}] if opening else []
        found.append(
            Question(
                benchmark=kind, number=number, doc={"id": f"q{number}", "question": asked, "private": private},
                prompt=asked, gold=words[number], options=(" red", " blue athens", " the") if kind == "choice" else (),
                max_new_tokens=6, t2t_question="say something about {{question}}", t2t_prompt="{{prompt}}",
                messages=tuple(messages),
            )
        )  # fmt: skip
    return found


NAMES = ("receiver", "sharer", "t2t", "c2c", "c2c_deranged", "c2c_zeroed")


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_chats_is_answered_as_one_by_one(chat_methods, name, kind) -> None:
    batched, single = (ask(chat_methods[name], chats(kind), budget) for budget in (10_000, 1))
    for one, other in zip(batched, single, strict=True):
        assert (one.output_ids, one.message, one.sharer_question_id) == (
            other.output_ids, other.message, other.sharer_question_id
        )  # fmt: skip
        if kind == "choice":
            assert one.choice_scores == pytest.approx(other.choice_scores, abs=1e-4)


@pytest.mark.parametrize("kind", ["free", "choice"])
def test_routing_in_batches_is_routing_one_by_one(chat_methods, kind) -> None:
    def routed(budget: int) -> list[tuple]:
        for name in ("receiver", "sharer"):
            chat_methods[name].token_budget, chat_methods[name].answers = budget, {}
        answers = ask(ConfidenceRouting(chat_methods["receiver"], chat_methods["sharer"]), chats(kind), budget)
        return [(answer.routed_to, answer.output_ids) for answer in answers]

    assert routed(10_000) == routed(1)
    assert [where for where, _ in routed(1)].count("sharer") == 3


def test_each_model_reads_its_own_template_with_the_answer_opened(chat_methods, chat_pair) -> None:
    question = chats("free")[0]
    for name, start in (("receiver", "<|open|>user\n"), ("sharer", "[system] the user is home [/system][user] ")):
        (answer,) = ask(chat_methods[name], [question], 1)
        assert answer.prompt_read.startswith(start + question.prompt)
        assert answer.prompt_read.endswith(f"{OPENING}")
    (plain,) = ask(chat_methods["receiver"], [chats("free", opening="")[0]], 1)
    assert plain.prompt_read.endswith("<|open|>assistant\n")


@pytest.mark.parametrize("opening", ["", OPENING])
def test_only_the_users_words_are_fused(chat_methods, chat_pair, opening) -> None:
    for name in ("c2c", "c2c_deranged"):
        reader, questions = chat_methods[name].reader, chats("free", opening=opening)
        reader.prepare(questions, 1000)
        for question in questions:
            aligned, _ = reader.sharer.sharer_prompt(question)
            fused = [token for token, at in zip(aligned.receiver_ids, aligned.token_map, strict=False) if at >= 0]
            assert chat_pair.receiver.tokenizer.decode(fused) == question.prompt


def test_the_receiver_of_t2t_reads_request_message_and_question_as_a_conversation(chat_methods) -> None:
    for question, answer in zip(chats("free"), ask(chat_methods["t2t"], chats("free"), 10_000), strict=True):
        asked = f"say something about {question.prompt}"
        turns = [("user", asked), ("assistant", answer.message), ("user", question.prompt)]
        before = "".join(f"<|open|>{role}\n{content}<|close|>\n" for role, content in turns)
        assert answer.prompt_read == f"{before}<|open|>assistant\n{OPENING}"
        assert answer.sharer_tokens_out > 0


def test_a_message_in_plain_prompts_ends_at_the_first_blank_line_and_in_chats_at_the_models_end() -> None:
    question = chats("free")[0]
    assert prompting.message_question(replace(question, messages=())).stops == ("\n\n",)
    assert prompting.message_question(question).stops == ()


def test_a_likelihood_in_a_chat_is_the_models_own_log_probability(chat_methods, chat_pair) -> None:
    question = chats("choice")[3]
    (answer,) = ask(chat_methods["receiver"], [question], 1)
    tokenizer = chat_pair.receiver.tokenizer
    read = tokenizer(answer.prompt_read, add_special_tokens=False)["input_ids"]
    for option, score in zip(question.options, answer.choice_scores, strict=True):
        whole = tokenizer(answer.prompt_read + option, add_special_tokens=False)["input_ids"]
        logits = chat_pair.receiver.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        expected = sum(logits[place - 1, whole[place]].item() for place in range(len(read), len(whole)))
        assert score == pytest.approx(expected, abs=1e-4)


def test_a_model_without_a_chat_template_is_refused_in_chats_with_the_remedy(pair) -> None:
    with pytest.raises(RefusedError, match="--prompts plain"):
        prompting.check_prompts("chat", [pair.receiver])
    with pytest.raises(RefusedError, match="chat template"):
        SingleModel(pair.receiver).apply_chat_template([{"role": "user", "content": "what"}])
    prompting.check_prompts("plain", [pair.receiver])


@pytest.mark.parametrize("chat", [True, False])
def test_private_text_is_read_by_the_sharer_alone(chat_methods, chat, monkeypatch) -> None:
    def of(private: str) -> list[Question]:
        return [each if chat else replace(each, messages=()) for each in chats("choice", private)]

    scores = {}
    for private in ("", PRIVATE):
        for name in ("receiver", "sharer", "c2c", "c2c_deranged", "c2c_zeroed"):
            answers = ask(chat_methods[name], of(private), 10_000)
            scores[name, private] = torch.tensor([answer.choice_scores for answer in answers])
            if private:
                assert all((PRIVATE in answer.prompt_read) == (name == "sharer") for answer in answers)
    for name in ("receiver", "c2c_zeroed"):
        torch.testing.assert_close(scores[name, ""], scores[name, PRIVATE])
    for name in ("sharer", "c2c", "c2c_deranged"):
        assert not torch.allclose(scores[name, ""], scores[name, PRIVATE], atol=1e-4)


def test_the_deranged_sharer_reads_the_other_question_with_its_own_private_text(chat_methods) -> None:
    reader = chat_methods["c2c_deranged"].reader
    questions = [replace(each, doc={**each.doc, "private": f"{PRIVATE} {each.number}"}) for each in chats("free")]
    reader.prepare(questions, 1000)
    for question in questions:
        aligned, other = reader.sharer.sharer_prompt(question)
        assert other is not None and other.number != question.number
        assert aligned.sharer_ids == reader.sharer.align(other).sharer_ids
        assert f"{PRIVATE} {other.number}" in reader.sharer.pair.sharer.tokenizer.decode(aligned.sharer_ids)


def test_t2t_gives_private_text_only_through_the_request(chat_methods, chat_pair) -> None:
    question = chats("free", PRIVATE)[0]
    told = replace(question, t2t_question="{{private}} and {{question}}")
    for each, shown in ((question, False), (told, True)):
        assert (PRIVATE in SingleReader(chat_pair.sharer).text(prompting.message_question(each))) == shown
    (answer,) = ask(chat_methods["t2t"], [replace(question, messages=())], 1)
    assert PRIVATE not in answer.prompt_read
