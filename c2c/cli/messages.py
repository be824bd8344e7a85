"""Commands about messages: agents hand over caches, and a saved cache is checked, with a key its signature too."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from c2c.cli.flags import ContractFlags, DtypeFlags, OptionalPath, OptionalText, Texts, one_of
from c2c.errors import RefusedError
from c2c.types import FUSIONS

Agents = Annotated[Texts, arg(metavar="NAME=MODEL [NAME=MODEL ...]")]


@dataclass(frozen=True, kw_only=True)
class KeyFlags:
    """A signing key; the flag's value names where the key is, so that no key is on a command line."""

    key: Annotated[str | None, arg(metavar="PLACE")] = None
    """signing key: env:NAME (an environment variable) or a file that its owner alone can read"""


@dataclass(frozen=True, kw_only=True)
class CheckCache(KeyFlags):
    """Check a saved cache: whole, signed with a key, of the right model. What it holds is printed as JSON."""

    folder: Positional[Path]
    """folder of a Sharer's cache"""
    sender: str = ""
    """refuse a message with another sender"""
    receiver: str = ""
    """refuse a message with another receiver"""
    contract: str = ""
    """refuse a message with another contract"""
    subject: str = ""
    """refuse a message with another subject"""
    fuser: OptionalPath = None
    """refuse a cache of another model than these Fusers were trained for"""

    def run(self) -> None:
        """Check, and print what the cache is."""
        from c2c.checkpoints.sharer_cache import SharerCache
        from c2c.checkpoints.signing import Envelope

        envelope = Envelope(sender=self.sender, receiver=self.receiver, contract=self.contract, subject=self.subject)
        cache = SharerCache.load(self.folder, key=self.key, envelope=envelope)
        if self.fuser:
            cache.check_fusers(self.fuser)
        about = {
            "model": cache.sharer.get("id") or "unknown",
            "rows": len(cache.input_ids),
            "tokens": int(cache.attention_mask.sum()),
            **{name: value for name, value in cache.envelope.to_dict().items() if value},
            "signature_checked": self.key is not None,
        }
        print(json.dumps(about))


def by_name(flag: str, arguments: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` arguments of a flag.

    Raises:
        RefusedError: If one has another form, or a name comes twice.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if not separator or not name or name in values:
            rule = f"{flag} must have the form NAME=VALUE, each name once"
            raise RefusedError(rule, argument, "Write the agent's name, =, and the value")
        values[name] = value
    return values


@dataclass(frozen=True, kw_only=True)
class HandOverCommand(KeyFlags, DtypeFlags, ContractFlags):
    """Let agents hand their caches to another one, which answers."""

    receiver: Annotated[str, arg(metavar="NAME=MODEL")]
    """the agent that answers"""
    senders: Agents
    """agents that are asked"""
    question: str
    """what the receiver is asked"""
    facts: Annotated[Texts, arg(metavar="[NAME=FILE ...]")] = ()
    """text that a sender alone reads"""
    fusers: Annotated[Texts, arg(metavar="[NAME=FOLDER ...]")] = ()
    """Fusers of a sender and the receiver; a sender without them, or of another model, writes a text"""
    fusion: Annotated[str, one_of(FUSIONS)] = "parallel"
    """of several caches"""
    plain: bool = False
    """plain text, even if all models have chat templates"""
    max_new_tokens: int = 256
    """longest answer, in tokens"""
    messages: OptionalPath = None
    """folder in which the caches are saved, to be read from there"""
    device: OptionalText = None
    """where the models run, such as cuda"""

    def run(self) -> None:
        """Print the answer."""
        from c2c.agents import Agent, AgentMessage, HandOver
        from c2c.storage.formats import read_text

        if self.key and self.messages is None:
            remedy = "Name a folder of messages"
            raise RefusedError("A key must have messages to sign", "--key without --messages", remedy)
        senders, fusers = by_name("--senders", self.senders), by_name("--fusers", self.fusers)
        facts = by_name("--facts", self.facts)
        if strangers := sorted(facts.keys() - senders.keys()):
            raise RefusedError("Facts must be those of a sender", strangers, f"Name one of: {', '.join(senders)}")
        # A model that several agents name is loaded once.
        place: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        ((name, model),) = by_name("--receiver", [self.receiver]).items()
        receiver = Agent(name, model, **place)
        models = {model: receiver.model}
        agents = []
        for sender, source in senders.items():
            text = read_text(Path(facts[sender]), "Correct the path").strip() if sender in facts else ""
            agents.append(Agent(sender, models.get(source, source), text, **place))
            models[source] = agents[-1].model
        # Messages, by file where a folder is named, and the answer
        chat, override = False if self.plain else None, self.accept_difference
        hand_over = HandOver(receiver, agents, fusers, fusion=self.fusion, chat=chat, override=override)
        for sender, reason in hand_over.reasons.items():
            print(f"c2c hand-over: {sender} hands over a text: {reason}", file=sys.stderr)
        messages = hand_over.send(self.question)
        if self.messages is not None:
            references = [message.save(self.messages, key=self.key) for message in messages]
            messages = [AgentMessage.load(reference, key=self.key) for reference in references]
        print(hand_over.receive(messages, self.question, max_new_tokens=self.max_new_tokens).text, flush=True)
