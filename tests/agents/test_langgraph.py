"""A hand-over as a graph of LangGraph gives the same answers, and its state holds references instead of tensors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from c2c import RefusedError
from c2c.agents import Agent, HandOver, TextPrompts
from c2c.agents.langgraph import HandOverState, build_graph, receiver_node, sender_node
from c2c.checkpoints.sharer_cache import STATES
from tests.agents.conftest import QUESTION, Trio

KEY = b"k" * 32
TOKENS = 6
SHORT = TextPrompts(request="{facts} {question}", tokens=4)


@pytest.fixture
def hand_over(trio: Trio) -> HandOver:
    return trio.hand_over()


def test_a_graph_answers_as_the_hand_over_does(hand_over, tmp_path) -> None:
    graph = build_graph(hand_over, tmp_path, key=KEY, max_new_tokens=TOKENS).compile()
    state = graph.invoke({"question": QUESTION})
    assert state["answer"] == hand_over(QUESTION, max_new_tokens=TOKENS).text
    assert state["reasons"] == {}


def test_the_state_holds_references_to_files_and_neither_tensors_nor_the_key(hand_over, tmp_path) -> None:
    state = build_graph(hand_over, tmp_path, key=KEY, max_new_tokens=TOKENS).compile().invoke({"question": QUESTION})
    text = json.dumps(state)
    assert KEY.decode() not in text and KEY.hex() not in text
    assert len(text) < 4000 < sum(path.stat().st_size for path in tmp_path.rglob(STATES))
    for name in ("alice", "bob"):
        reference = state["messages"][name]
        assert (Path(reference["place"]) / STATES).is_file()
        assert len(reference["sha256"]) == len(reference["signature"]) == 64


def test_senders_of_texts_come_first_and_the_state_says_why_they_write(trio: Trio, tmp_path) -> None:
    hand_over = HandOver(trio.carol, [trio.alice, trio.bob], {"bob": trio.fusers["bob"]}, prompts=SHORT)
    graph = build_graph(hand_over, tmp_path, key=KEY, max_new_tokens=TOKENS).compile()
    steps = [next(iter(step)) for step in graph.stream({"question": QUESTION}, stream_mode="updates")]
    assert steps == ["alice", "bob", "carol"]
    state = graph.invoke({"question": QUESTION})
    assert state["answer"] == hand_over(QUESTION, max_new_tokens=TOKENS).text
    assert state["reasons"] == {"alice": hand_over.reasons["alice"]}


def test_an_altered_cache_and_an_unsigned_one_stop_the_graph(hand_over, tmp_path) -> None:
    def forge(state: HandOverState) -> dict:
        (reference,) = [sender_node(hand_over, "alice", tmp_path / "forged")(state)["messages"]["alice"]]
        return {"messages": {"alice": reference}}

    graph = StateGraph(HandOverState)
    for name in ("alice", "bob"):
        graph.add_node(name, sender_node(hand_over, name, tmp_path, key=KEY))
        graph.add_edge(START, name)
    graph.add_node("mallory", forge)
    graph.add_node("carol", receiver_node(hand_over, key=KEY, max_new_tokens=TOKENS))
    graph.add_edge(["alice", "bob"], "mallory")
    graph.add_edge("mallory", "carol")
    graph.add_edge("carol", END)
    with pytest.raises(RefusedError, match="must be signed where a key is given"):
        graph.compile().invoke({"question": QUESTION})


def test_a_second_question_of_a_thread_is_answered_with_its_own_messages(hand_over, tmp_path) -> None:
    graph = build_graph(hand_over, tmp_path, key=KEY, max_new_tokens=TOKENS).compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    graph.invoke({"question": QUESTION}, thread)
    state = graph.invoke({"question": "what is oslo?"}, thread)
    assert state["answer"] == hand_over("what is oslo?", max_new_tokens=TOKENS).text
    assert len(state["messages"]) == 2


def test_an_agent_named_like_a_key_of_the_state_is_refused(trio: Trio, tmp_path) -> None:
    hand_over = HandOver(trio.carol, [Agent("answer", trio.alice.model)], {})
    with pytest.raises(RefusedError, match="must not have the name of a key of its state"):
        build_graph(hand_over, tmp_path)


def test_without_langgraph_the_refusal_names_the_extra(hand_over, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "langgraph.graph", None)
    with pytest.raises(RefusedError, match=r"pip install 'cache-to-cache\[agents\]'"):
        build_graph(hand_over, tmp_path)
