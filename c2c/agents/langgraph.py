"""A hand-over as a LangGraph graph: a node each agent, and in the state references to messages instead of tensors.

The state is JSON: it can be kept by any checkpointer of LangGraph, shown, and sent to another process that reaches the
folder of messages. Needs the extra ``agents`` of this package.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from c2c.agents.hand_over import HandOver
from c2c.agents.message import AgentMessage
from c2c.checkpoints.signing import Key, SigningKey
from c2c.errors import RefusedError

if TYPE_CHECKING:
    from langgraph.graph import StateGraph

Node = Callable[[Mapping[str, Any]], dict[str, Any]]
"""A node of a graph: from the state to the keys of it that change."""

RUNNING = Lock()
"""LangGraph runs nodes of one step in threads, and a model that two agents share must not run twice at once."""


class HandOverState(TypedDict, total=False):
    """The state of a graph in which agents hand over messages; a state of your own must have these keys too.

    Args:
        question: What the receiver is asked; the input of the graph.
        messages: References to messages (`AgentMessage.save`) by sender; those of an earlier question are replaced.
        answer: What the receiver wrote.
        reasons: Why senders handed over texts, by their names.
    """

    question: str
    messages: Annotated[dict[str, dict[str, Any]], operator.or_]
    answer: str
    reasons: dict[str, str]


def sender_node(hand_over: HandOver, sender: str, folder: str | Path, *, key: Key | None = None) -> Node:
    """A node that sends the message of one agent, and puts a reference to it into the state.

    Args:
        hand_over: Which agents there are, and how they are connected.
        sender: Name of the agent.
        folder: Where caches are written.
        key: Signs the messages; see `c2c.checkpoints.signing.SigningKey`. It is in no state.
    """
    signer = None if key is None else SigningKey.of(key)

    def send(state: Mapping[str, Any]) -> dict[str, Any]:
        references = state.get("messages", {})
        # A sender that writes texts needs none; one that sends a cache reads those of this question.
        needed = [] if sender in hand_over.reasons else [references[name] for name in hand_over.reasons]
        texts = [AgentMessage.load(reference, key=signer) for reference in needed]
        with RUNNING:
            message = hand_over.message_from(sender, state["question"], texts)
        return {"messages": {sender: message.save(folder, key=signer)}}

    return send


def receiver_node(hand_over: HandOver, *, key: Key | None = None, **generation: Any) -> Node:
    """A node that answers the question with the messages that the state refers to.

    Args:
        hand_over: As in `sender_node`.
        key: Each message must be signed with it.
        **generation: Options of `HandOver.receive`, such as ``max_new_tokens``.
    """
    signer = None if key is None else SigningKey.of(key)

    def receive(state: Mapping[str, Any]) -> dict[str, Any]:
        references = [state.get("messages", {}).get(name) for name in hand_over.senders]
        messages = [AgentMessage.load(reference, key=signer) for reference in references if reference is not None]
        with RUNNING:
            answer = hand_over.receive(messages, state["question"], **generation)
        return {"answer": answer.text, "reasons": answer.reasons}

    return receive


def build_graph(
    hand_over: HandOver, folder: str | Path, *, key: Key | None = None, **generation: Any
) -> StateGraph[HandOverState]:
    """A graph of one hand-over: all senders, side by side, then the receiver; a node has the name of its agent.

    Senders that write texts come before those that send caches, since these read the texts.

    Args:
        hand_over: Which agents there are, and how they are connected.
        folder: Where caches are written.
        key: Signs the messages, and is demanded of them.
        **generation: Options of `HandOver.receive`.

    Returns:
        The graph, to be extended or compiled: ``build_graph(…).compile().invoke({"question": "…"})["answer"]``.

    Raises:
        RefusedError: If LangGraph is not installed, or an agent has the name of a key of the state.
    """
    try:
        from langgraph.graph import END, START, StateGraph
    except ImportError as error:
        remedy = "Install it: pip install 'cache-to-cache[agents]'"
        raise RefusedError("LangGraph must be installed for a graph of agents", "no langgraph", remedy) from error
    receiver = hand_over.receiver.name
    keys = HandOverState.__annotations__.keys()
    if clash := sorted(keys & {receiver, *hand_over.senders}):
        raise RefusedError(
            "An agent of a graph must not have the name of a key of its state", clash, "Rename the agent"
        )
    # Its types are those of a closed set of node signatures.
    graph: Any = StateGraph(HandOverState)
    for name in hand_over.senders:
        graph.add_node(name, sender_node(hand_over, name, folder, key=key))
    graph.add_node(receiver, receiver_node(hand_over, key=key, **generation))
    # Each step waits for all nodes of the one before it.
    steps = [names for names in (list(hand_over.reasons), list(hand_over.aligners), [receiver]) if names]
    for name in steps[0]:
        graph.add_edge(START, name)
    for before, after in pairwise(steps):
        for name in after:
            graph.add_edge(before, name)
    graph.add_edge(receiver, END)
    return graph
