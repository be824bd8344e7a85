"""Agents that answer with each other's caches: conversations to text, and hand-overs between agents."""

from c2c.agents.agent import Agent
from c2c.agents.hand_over import AgentAnswer, HandOver, TextPrompts
from c2c.agents.message import AgentMessage

__all__ = ["Agent", "AgentAnswer", "AgentMessage", "HandOver", "TextPrompts"]
