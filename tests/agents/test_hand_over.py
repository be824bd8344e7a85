"""Agents hand their caches to another one, and texts where the contract refuses the pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import c2c
from c2c import RefusedError
from c2c.agents import Agent, AgentMessage, HandOver, TextPrompts
from c2c.agents.hand_over import NO_FUSERS
from c2c.checkpoints.sharer_cache import MANIFEST, STATES
from c2c.models.loading import LoadedModel
from c2c.provenance import file_hash
from tests.agents.conftest import QUESTION, Trio, save_fusers
from tests.conftest import build_model

KEY = b"k" * 32
TOKENS = 8
SHORT = TextPrompts(request="{facts} {question}", tokens=5)
"""The tiny models have room for 128 tokens."""


def test_a_hand_over_from_one_agent_without_facts_is_the_answer_of_the_pipeline(trio: Trio) -> None:
    alice = Agent("alice", trio.alice.model)
    answer = HandOver(trio.carol, [alice], {"alice": trio.fusers["alice"]})(QUESTION, max_new_tokens=TOKENS)
    pipe = c2c.pipeline(trio.carol.model, trio.alice.model, trio.fusers["alice"])
    assert answer.text == pipe(QUESTION, max_new_tokens=TOKENS)
    assert answer.kinds == {"alice": "cache"} and answer.reasons == {}


def test_the_facts_reach_the_answer_through_the_cache_alone(trio: Trio) -> None:
    answers, prompts = set(), set()
    for facts in ("home is red", "home is blue"):
        alice = Agent("alice", trio.alice.model, facts)
        hand_over = HandOver(trio.carol, [alice], {"alice": trio.fusers["alice"]})
        answers.add(hand_over(QUESTION, max_new_tokens=TOKENS).text)
        prompts.add(hand_over.prompt(QUESTION))
    assert len(answers) == 2
    assert prompts == {QUESTION}


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_each_of_two_messages_changes_the_answer(trio: Trio, name) -> None:
    answers = set()
    for facts in ("home is red", "athens is blue", "what is the home of zorvex"):
        agents = [
            Agent(agent.name, agent.model, facts if agent.name == name else agent.facts)
            for agent in (trio.alice, trio.bob)
        ]
        answer = HandOver(trio.carol, agents, trio.fusers)(QUESTION, max_new_tokens=2 * TOKENS)
        assert answer.kinds == {"alice": "cache", "bob": "cache"}
        answers.add(answer.text)
    assert len(answers) > 1


def test_messages_are_taken_in_any_order(trio: Trio) -> None:
    hand_over = trio.hand_over(fusion="sequential")
    messages = hand_over.send(QUESTION)
    answer = hand_over.receive(messages, QUESTION, max_new_tokens=TOKENS)
    assert hand_over.receive(messages[::-1], QUESTION, max_new_tokens=TOKENS).text == answer.text
    assert [message.envelope.sender for message in answer.messages] == ["alice", "bob"]


def test_plain_text_is_read_where_a_model_has_no_chat_template(trio: Trio) -> None:
    pipe = c2c.pipeline(trio.carol.model, trio.alice.model, trio.fusers["alice"])
    alice = Agent("alice", trio.alice.model)
    plain = HandOver(trio.carol, [alice], {"alice": trio.fusers["alice"]}, chat=False)
    assert plain(QUESTION, max_new_tokens=TOKENS).text == pipe.complete(QUESTION, max_new_tokens=TOKENS)


@pytest.fixture
def stranger(trio: Trio, chat_sharer) -> Agent:
    """An agent of the name alice, whose model is another one than alice's fusers were trained for."""
    model = build_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=9)
    return Agent("alice", LoadedModel("another", model, chat_sharer), "home is red")


def test_an_agent_that_the_contract_refuses_hands_over_a_text_and_the_answer_says_why(trio: Trio, stranger) -> None:
    hand_over = HandOver(trio.carol, [stranger, trio.bob], trio.fusers, prompts=SHORT)
    answer = hand_over(QUESTION, max_new_tokens=TOKENS)
    assert answer.kinds == {"alice": "text", "bob": "cache"}
    assert "sharer.weights_sha256: expected" in answer.reasons["alice"]
    text = answer.messages[0].content
    assert hand_over.prompt(QUESTION, answer.messages) == f"{text}\n\n{QUESTION}"
    accepted = HandOver(trio.carol, [stranger], {"alice": trio.fusers["alice"]}, override=["sharer.weights_sha256"])
    assert accepted(QUESTION, max_new_tokens=2).kinds == {"alice": "cache"}


def test_agents_without_fusers_hand_over_texts_that_their_facts_and_the_question_are_in_reach_of(trio: Trio) -> None:
    answer = HandOver(trio.carol, [trio.alice, trio.bob], {}, prompts=SHORT)(QUESTION, max_new_tokens=4)
    assert answer.reasons == {"alice": NO_FUSERS, "bob": NO_FUSERS}
    other = Agent("alice", trio.alice.model, "oslo is the home of the red")
    texts = [
        HandOver(trio.carol, [agent], {}, prompts=SHORT).send(QUESTION)[0].content for agent in (trio.alice, other)
    ]
    assert texts[0] == answer.messages[0].content != texts[1]


def test_fusers_that_are_damaged_are_refused_and_no_reason_for_a_text(trio: Trio, tmp_path) -> None:
    folder = save_fusers(trio.carol.model, trio.alice.model, tmp_path / "fusers")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(RefusedError):
        HandOver(trio.carol, [trio.alice], {"alice": folder})
    with pytest.raises(RefusedError):
        HandOver(trio.carol, [trio.alice], {"alice": tmp_path / "absent"})


def test_fusers_that_were_trained_without_messages_are_refused(trio: Trio, tmp_path) -> None:
    folder = save_fusers(trio.carol.model, trio.alice.model, tmp_path / "adapter", sharer_cache="zeroed")
    with pytest.raises(RefusedError, match="must have been trained with messages"):
        HandOver(trio.carol, [trio.alice], {"alice": folder})


def test_a_message_is_read_from_its_reference_and_changes_nothing(trio: Trio, stranger, tmp_path) -> None:
    for alice in (trio.alice, stranger):
        hand_over = HandOver(trio.carol, [alice, trio.bob], trio.fusers, prompts=SHORT)
        messages = hand_over.send(QUESTION)
        references = [message.save(tmp_path / alice.model.name, key=KEY) for message in messages]
        assert json.loads(json.dumps(references)) == references
        assert max(len(json.dumps(reference)) for reference in references) < 2000
        loaded = [AgentMessage.load(reference, key=KEY) for reference in references]
        before = hand_over.receive(messages, QUESTION, max_new_tokens=TOKENS)
        after = hand_over.receive(loaded, QUESTION, max_new_tokens=TOKENS)
        assert (after.text, after.kinds, after.reasons) == (before.text, before.kinds, before.reasons)
        assert [message.size for message in loaded] == [message.size for message in messages]


def from_alice(trio: Trio, kind: str) -> HandOver:
    """Alice hands over a cache, or without fusers a text."""
    return HandOver(trio.carol, [trio.alice], {"alice": trio.fusers["alice"]} if kind == "cache" else {}, prompts=SHORT)


def alter(reference: dict) -> dict:
    """Change what a reference names, and each hash that is within reach with it."""
    if reference["kind"] == "text":
        return {**reference, "text": "home is blue"}
    place = Path(reference["place"])
    tensors = load_file(place / STATES)
    tensors["value.0"] += 1
    save_file(tensors, place / STATES)
    manifest = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({**manifest, "sha256": {STATES: file_hash(place / STATES)}}))
    return reference


@pytest.mark.parametrize("kind", ["cache", "text"])
def test_a_message_that_was_altered_on_its_way_is_refused(trio: Trio, kind, tmp_path) -> None:
    hand_over = from_alice(trio, kind)
    reference = hand_over.send(QUESTION)[0].save(tmp_path, key=KEY)
    altered = alter(reference)
    with pytest.raises(RefusedError, match="must be the one that its reference names"):
        AgentMessage.load(altered)
    # Whoever can write the state too makes the hash fit, but not the signature.
    if kind == "cache":
        digest = file_hash(Path(reference["place"]) / MANIFEST)
    else:
        digest = file_hash_of_text(altered["text"], tmp_path)
    with pytest.raises(RefusedError, match="must be as its sender signed it"):
        AgentMessage.load({**altered, "sha256": digest}, key=KEY)


def file_hash_of_text(text: str, folder: Path) -> str:
    (folder / "text").write_text(text)
    return file_hash(folder / "text")


@pytest.mark.parametrize("kind", ["cache", "text"])
def test_an_unsigned_message_is_refused_where_a_key_is_given(trio: Trio, kind, tmp_path) -> None:
    hand_over = from_alice(trio, kind)
    reference = hand_over.send(QUESTION)[0].save(tmp_path)
    assert AgentMessage.load(reference).kind == kind
    with pytest.raises(RefusedError, match="must be signed where a key is given"):
        AgentMessage.load(reference, key=KEY)


def test_a_message_about_another_question_from_or_for_another_agent_is_refused(trio: Trio) -> None:
    hand_over = trio.hand_over()
    alice, bob = hand_over.send(QUESTION)
    with pytest.raises(RefusedError, match="subject: expected"):
        hand_over.receive([alice, bob], "what is oslo?")
    dave = HandOver(Agent("dave", trio.carol.model), [trio.alice, trio.bob], trio.fusers)
    with pytest.raises(RefusedError, match="receiver: expected 'dave', found 'carol'"):
        dave.receive([alice, bob], QUESTION)
    named = replace(bob, envelope=replace(bob.envelope, sender="alice"))
    for messages in ([alice], [alice, alice], [alice, bob, bob], [alice, named]):
        with pytest.raises(RefusedError, match="There must be one message of each sender: alice, bob"):
            hand_over.receive(messages, QUESTION)


def test_a_cache_of_other_fusers_or_another_model_is_refused(trio: Trio, stranger, tmp_path) -> None:
    (alice,) = HandOver(trio.carol, [trio.alice], {"alice": trio.fusers["alice"]}).send(QUESTION)
    other = save_fusers(trio.carol.model, stranger.model, tmp_path / "other")
    with pytest.raises(RefusedError, match="contract: expected"):
        HandOver(trio.carol, [stranger], {"alice": other}).receive([alice], QUESTION, max_new_tokens=2)
    hand_over = HandOver(trio.carol, [trio.alice], {"alice": trio.fusers["alice"]})
    forged = replace(alice, content=replace(alice.content, sharer=stranger.model.description))
    with pytest.raises(RefusedError, match=r"sharer\.weights_sha256: expected"):
        hand_over.receive([forged], QUESTION, max_new_tokens=2)


def test_a_text_in_the_place_of_a_cache_is_refused(trio: Trio) -> None:
    (text,) = HandOver(trio.carol, [trio.alice], {}, prompts=SHORT).send(QUESTION)
    hand_over = HandOver(trio.carol, [trio.alice], {"alice": trio.fusers["alice"]})
    with pytest.raises(RefusedError, match="message of alice must be a cache; received 'a text"):
        hand_over.receive([text], QUESTION, max_new_tokens=2)
    (cache,) = hand_over.send(QUESTION)
    with pytest.raises(RefusedError, match="texts of all who cannot hand over a cache must be there"):
        HandOver(trio.carol, [trio.alice], {}).receive([cache], QUESTION)


def test_a_cache_is_not_sent_before_the_texts_that_it_depends_on(trio: Trio, stranger) -> None:
    hand_over = HandOver(trio.carol, [stranger, trio.bob], trio.fusers)
    with pytest.raises(RefusedError, match="none from alice"):
        hand_over.message_from("bob", QUESTION)


def absent(loaded: LoadedModel) -> LoadedModel:
    """The model as a process knows it in which it does not run."""
    return LoadedModel(loaded.name, loaded.model.config, loaded.tokenizer)


def test_sender_and_receiver_need_not_share_a_process(trio: Trio, tmp_path) -> None:
    here = trio.hand_over()
    away = HandOver(Agent("carol", absent(trio.carol.model)), [trio.alice, trio.bob], trio.fusers)
    references = [message.save(tmp_path, key=KEY) for message in away.send(QUESTION)]
    alone = HandOver(
        trio.carol,
        [Agent(agent.name, absent(agent.model)) for agent in (trio.alice, trio.bob)],
        trio.fusers,
    )
    loaded = [AgentMessage.load(reference, key=KEY) for reference in references]
    answer = alone.receive(loaded, QUESTION, max_new_tokens=TOKENS)
    assert answer.text == here(QUESTION, max_new_tokens=TOKENS).text
    with pytest.raises(RefusedError, match="must be sent where its agent's model is"):
        alone.send(QUESTION)
    with pytest.raises(RefusedError, match="must be answered where the receiver's model is"):
        away.receive(loaded, QUESTION)


def test_a_wrong_model_elsewhere_is_refused_when_its_message_arrives(trio: Trio, stranger) -> None:
    alone = HandOver(trio.carol, [Agent("alice", absent(trio.alice.model))], {"alice": trio.fusers["alice"]})
    (alice,) = HandOver(trio.carol, [trio.alice], {"alice": trio.fusers["alice"]}).send(QUESTION)
    forged = replace(alice, content=replace(alice.content, sharer=stranger.model.description))
    with pytest.raises(RefusedError, match=r"sharer\.weights_sha256"):
        alone.receive([forged], QUESTION, max_new_tokens=2)


@pytest.mark.parametrize("name", ["", "../alice", "a/b", "a b", "x" * 65])
def test_a_name_that_could_be_no_folder_is_refused(trio: Trio, name) -> None:
    with pytest.raises(RefusedError, match="The name of an agent must be"):
        Agent(name, trio.alice.model)


def test_agents_of_one_name_and_fusers_of_nobody_are_refused(trio: Trio) -> None:
    with pytest.raises(RefusedError, match="agents of different names"):
        HandOver(trio.carol, [trio.alice, trio.alice], {})
    with pytest.raises(RefusedError, match="at least one sender"):
        HandOver(trio.carol, [], {})
    with pytest.raises(RefusedError, match="Fusers must be those of a sender"):
        HandOver(trio.carol, [trio.alice], {"bob": trio.fusers["bob"]})


def test_agents_that_share_a_model_send_what_each_of_them_knows(trio: Trio) -> None:
    twins = [Agent(name, trio.alice.model, facts) for name, facts in (("one", "home is red"), ("two", "oslo is blue"))]
    fusers = {name: trio.fusers["alice"] for name in ("one", "two")}
    first, second = HandOver(trio.carol, twins, fusers).send(QUESTION)
    assert not torch.equal(first.content.layers[0][0], second.content.layers[0][0])
    assert HandOver(trio.carol, twins, fusers)(QUESTION, max_new_tokens=4).kinds == {"one": "cache", "two": "cache"}
