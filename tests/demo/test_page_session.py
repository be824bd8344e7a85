"""The session answers as the library does, and each column depends on its message alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2c.agents.chat_pipeline import ChatPipeline, pipeline
from c2c.demo.questions import package_questions
from c2c.demo.request import PageRequest
from c2c.demo.session import PageSession
from c2c.errors import RefusedError
from c2c.fuser.stack import FuserStack
from c2c.models.loading import LoadedModel
from c2c.types import HALVES

PROMPT, PRIVATE = "what is the zorvex color", "the zorvex color is red"
REQUEST = PageRequest(PROMPT, PRIVATE, "what is the mubilo home", "the mubilo home is oslo", 6)


@pytest.fixture(scope="module")
def answers(session):
    request = replace(REQUEST, controls=("random", "zeroed"))
    return {answer.method: answer for answer in session.answers(request)}


def probabilities(answer) -> dict[str, float]:
    return dict(answer.probabilities)


def test_every_column_answers(answers) -> None:
    assert list(answers) == ["receiver", "t2t", "c2c", "c2c_deranged", "c2c_zeroed", "c2c_random"]
    assert not any(answer.error for answer in answers.values())


def test_without_a_private_text_a_model_that_reads_itself_answers_as_it_does_alone(session) -> None:
    request = replace(REQUEST, private="")
    alone, fused = session.answer(request, "receiver"), session.answer(request, "c2c")
    assert fused.answer == alone.answer
    assert probabilities(fused) == pytest.approx(probabilities(alone), abs=1e-4)


def test_the_fused_answer_is_that_of_the_pipeline_for_plain_text(session, pipe) -> None:
    request = replace(REQUEST, private="")
    assert session.answer(request, "c2c").answer == pipe.complete(PROMPT, max_new_tokens=6).strip()


def test_each_message_gives_another_first_token(answers) -> None:
    numbers = [tuple(answer.probabilities) for answer in answers.values()]
    assert len(set(numbers)) == len(numbers)


def test_only_the_sharer_reads_the_private_text(session, answers) -> None:
    without = session.answer(replace(REQUEST, private=""), "receiver")
    assert probabilities(without) == pytest.approx(probabilities(answers["receiver"]))
    assert PRIVATE in answers["c2c"].message
    assert "oslo" in answers["c2c_deranged"].message and PRIVATE not in answers["c2c_deranged"].message


def test_the_wrong_message_is_what_the_sharer_would_send_for_the_other_question(session, answers) -> None:
    right = session.answer(PageRequest(PROMPT, REQUEST.donor_private, max_new_tokens=6), "c2c")
    same_question = replace(REQUEST, donor=PROMPT)
    assert session.answer(same_question, "c2c_deranged").probabilities == right.probabilities


def test_the_next_wrong_message_is_another_one_and_all_of_them_come_around(session) -> None:
    donors, request = [], REQUEST
    for _ in range(6):
        request = session.with_next_donor(request)
        donors.append((request.donor, request.donor_private))
    assert len(set(donors)) == 3
    assert donors[:3] == donors[3:]
    assert PROMPT not in {prompt for prompt, _ in donors}


def test_times_add_up_to_the_total(answers) -> None:
    for answer in answers.values():
        assert 0 < answer.first_token_s <= answer.total_s
        assert sum(answer.phases.values()) <= answer.total_s + 1e-9
        assert answer.first_token_s == pytest.approx(
            sum(seconds for name, seconds in answer.phases.items() if name != "receiver_decode_s")
        )
    assert set(answers["receiver"].phases) == {"receiver_prefill_s", "receiver_decode_s"}
    assert "sharer_decode_s" in answers["t2t"].phases


def test_bytes_are_those_of_the_text_or_of_the_states_that_open_fusers_read(session, answers) -> None:
    assert answers["receiver"].message_bytes == answers["c2c_zeroed"].message_bytes == 0
    assert answers["t2t"].message_bytes == len(answers["t2t"].message.encode())
    # 3 layers of keys and values without the closed one, 4 fused tokens, 2 heads of 8 numbers in float32
    assert answers["c2c"].message_bytes == (3 * 2 - 1) * 4 * 2 * 8 * 4
    closed = session.answer(replace(REQUEST, closed_layers=(2,)), "c2c")
    assert closed.message_bytes == (2 * 2 - 1) * 4 * 2 * 8 * 4


def test_the_heat_map_is_gate_times_weight_of_each_fuser(session, answers) -> None:
    heat = answers["c2c"].heat_map
    assert [token.strip() for token in heat.tokens] == PROMPT.split()[:-1]
    model, stack = session.pipe.model, session.stack
    # What the Fusers read, by the library's own steps
    aligned = session.pipe.aligner.align_text(PROMPT, PRIVATE)
    with torch.no_grad():
        receiver = model.receiver(torch.tensor([aligned.receiver_ids[:-1]]), use_cache=True).cache
        sharer = model.sharers[0](torch.tensor([aligned.sharer_ids]), use_cache=True).cache
        for layer, link in stack.links.items():
            own = (receiver.layers[layer].keys, receiver.layers[layer].values)
            source = sharer.layers[link.sharer_layer]
            states = (source.keys[:, :, aligned.token_map], source.values[:, :, aligned.token_map])
            weights = stack.fuser_of(layer).dynamic_weights(states, own)
            for half, weight in zip(HALVES, weights, strict=True):
                gate = float(stack.is_open(layer, half))
                expected = (gate * weight.mean(1)[0, :, 0]).tolist()
                assert heat.rows[half][layer] == pytest.approx(expected, abs=1e-5)
    assert set(heat.rows["key"][0]) == {0.0}


def test_a_closed_layer_adds_nothing_and_all_closed_is_the_receiver_alone(session, answers) -> None:
    one = session.answer(replace(REQUEST, closed_layers=(1,)), "c2c")
    assert one.heat_map.closed_layers == (1,)
    assert set(one.heat_map.rows["value"][1]) == {None}
    assert one.probabilities != answers["c2c"].probabilities
    every = session.answer(replace(REQUEST, closed_layers=(0, 1, 2)), "c2c")
    assert probabilities(every) == pytest.approx(probabilities(answers["receiver"]), abs=1e-4)
    assert every.message_bytes == 0
    # Afterwards all layers are open again
    assert session.answer(REQUEST, "c2c").probabilities == answers["c2c"].probabilities


def test_a_refusal_is_the_error_of_its_column_alone(session) -> None:
    request = replace(REQUEST, closed_layers=(9,))
    assert "must be one of the 3 Receiver layers with a Fuser" in session.answer(request, "c2c").error
    assert session.answer(request, "receiver").error == ""


def test_a_single_example_gives_no_wrong_message(pipe, questions) -> None:
    alone = PageSession(pipe, replace(questions, examples=questions.examples[:1]), chat=False)
    with pytest.raises(RefusedError, match="A wrong message must be about another question"):
        alone.with_donor(PageRequest(PROMPT, PRIVATE))


def test_a_chat_of_models_without_templates_is_refused(pipe, questions) -> None:
    with pytest.raises(RefusedError, match="chat template"):
        PageSession(pipe, questions, chat=True)


@pytest.fixture(scope="module")
def chat_session(tiny_model, chat_receiver, chat_sharer) -> PageSession:
    """A pair of two families, tokenizers and templates, with open gates."""
    models = {
        "receiver": tiny_model("qwen3", vocab=len(chat_receiver)),
        "sharer": tiny_model("llama", layers=4, vocab=len(chat_sharer), seed=1),
    }
    for model in models.values():
        model.config.max_position_embeddings = 1024
    torch.manual_seed(0)
    stack = FuserStack.between(models["sharer"].config, models["receiver"].config, hidden_dim=16, intermediate_dim=16)
    for fuser in stack.all_fusers():
        for half in HALVES:
            fuser.gate_logit(half).data.fill_(1.0)
            fuser.layer(half, "proj_out").weight.data.mul_(8)
    tokenizers = {"receiver": chat_receiver, "sharer": chat_sharer}
    loaded = [LoadedModel(role, model, tokenizers[role]) for role, model in models.items()]
    return PageSession(pipeline(*loaded, stack), package_questions(chat=True), chat=True)


def test_in_a_chat_only_the_words_of_the_user_are_fused_and_each_message_counts(chat_session) -> None:
    example = chat_session.questions.examples[0]
    request = PageRequest(example.prompt, example.private, max_new_tokens=3, controls=("zeroed", "random"))
    answers = {answer.method: answer for answer in chat_session.answers(request)}
    assert not any(answer.error for answer in answers.values())
    assert len({tuple(answer.probabilities) for answer in answers.values()}) == len(answers)
    heat = answers["c2c"].heat_map
    fused = [token for token, number in zip(heat.tokens, heat.rows["value"][0], strict=True) if number is not None]
    assert "".join(fused).strip() == example.prompt
    assert len(fused) < len(heat.tokens)


def test_fusers_that_were_trained_on_zeros_get_zeros_in_every_column(pipe, questions) -> None:
    adapter = ChatPipeline(pipe.pair, pipe.model, zeroed=True)
    session = PageSession(adapter, questions, chat=False)
    fused = [session.answer(REQUEST, method) for method in ("c2c", "c2c_deranged")]
    assert {answer.message for answer in fused} == {"zeros"}
    assert fused[0].probabilities == fused[1].probabilities
    assert not any(answer.message_bytes for answer in fused)
