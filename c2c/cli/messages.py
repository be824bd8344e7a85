"""Commands about messages: agents hand over caches, and a saved cache is checked, with a key its signature too."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from c2c.cli.commands import Command
from c2c.cli.flags import add_accepted, add_dtype
from c2c.errors import RefusedError


def add_key(parser: argparse.ArgumentParser) -> None:
    """The flag of a signing key; its value names where the key is, so that no key is on a command line."""
    text = "signing key: env:NAME (an environment variable) or a file that its owner alone can read"
    parser.add_argument("--key", default=None, metavar="PLACE", help=text)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of a Sharer's cache")
    add_key(parser)
    for name in ("sender", "receiver", "contract", "subject"):
        parser.add_argument(f"--{name}", default="", help=f"refuse a message with another {name}")
    parser.add_argument("--fuser", type=Path, help="refuse a cache of another model than these Fusers were trained for")


def _check(options: argparse.Namespace) -> None:
    from c2c.checkpoints.sharer_cache import SharerCache
    from c2c.checkpoints.signing import Envelope

    names = ("sender", "receiver", "contract", "subject")
    envelope = Envelope(**{name: getattr(options, name) for name in names})
    cache = SharerCache.load(options.folder, key=options.key, envelope=envelope)
    if options.fuser:
        cache.check_fusers(options.fuser)
    address = {name: value for name, value in cache.envelope.to_dict().items() if value}
    tokens = int(cache.attention_mask.sum())
    model = cache.sharer.get("id") or "unknown"
    about = {
        "model": model,
        "rows": len(cache.input_ids),
        "tokens": tokens,
        **address,
        "signature_checked": options.key is not None,
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


def _add_hand_over(parser: argparse.ArgumentParser) -> None:
    from c2c.types import FUSIONS

    parser.add_argument("--receiver", required=True, metavar="NAME=MODEL", help="the agent that answers")
    parser.add_argument("--senders", nargs="+", required=True, metavar="NAME=MODEL", help="agents that are asked")
    parser.add_argument("--facts", nargs="+", default=[], metavar="NAME=FILE", help="text that a sender alone reads")
    text = "Fusers of a sender and the receiver; a sender without them, or of another model, writes a text"
    parser.add_argument("--fusers", nargs="+", default=[], metavar="NAME=FOLDER", help=text)
    parser.add_argument("--question", required=True, help="what the receiver is asked")
    parser.add_argument("--fusion", choices=FUSIONS, default="parallel", help="of several caches (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="plain text, even if all models have chat templates")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest answer, in tokens")
    parser.add_argument("--messages", type=Path, help="folder in which the caches are saved, to be read from there")
    add_key(parser)
    add_dtype(parser)
    parser.add_argument("--device", default=None, help="where the models run, such as cuda")
    add_accepted(parser)


def _hand_over(options: argparse.Namespace) -> None:
    from c2c.agents import Agent, AgentMessage, HandOver
    from c2c.storage.formats import read_text

    if options.key and options.messages is None:
        raise RefusedError("A key must have messages to sign", "--key without --messages", "Name a folder of messages")
    senders, fusers = by_name("--senders", options.senders), by_name("--fusers", options.fusers)
    facts = by_name("--facts", options.facts)
    if strangers := sorted(facts.keys() - senders.keys()):
        raise RefusedError("Facts must be those of a sender", strangers, f"Name one of: {', '.join(senders)}")
    # A model that several agents name is loaded once.
    place = {"dtype": options.dtype, "device": options.device}
    ((name, model),) = by_name("--receiver", [options.receiver]).items()
    receiver = Agent(name, model, **place)
    models = {model: receiver.model}
    agents = []
    for sender, source in senders.items():
        text = read_text(Path(facts[sender]), "Correct the path").strip() if sender in facts else ""
        agents.append(Agent(sender, models.get(source, source), text, **place))
        models[source] = agents[-1].model
    chat = False if options.plain else None
    hand_over = HandOver(receiver, agents, fusers, fusion=options.fusion, chat=chat, override=options.accept_difference)
    for sender, reason in hand_over.reasons.items():
        print(f"c2c hand-over: {sender} hands over a text: {reason}", file=sys.stderr)
    messages = hand_over.send(options.question)
    if options.messages is not None:
        references = [message.save(options.messages, key=options.key) for message in messages]
        messages = [AgentMessage.load(reference, key=options.key) for reference in references]
    print(hand_over.receive(messages, options.question, max_new_tokens=options.max_new_tokens).text, flush=True)


COMMANDS = {
    "hand-over": Command("let agents hand their caches to another one, which answers", _add_hand_over, _hand_over),
    "check-cache": Command(
        "check a saved cache: whole, signed with a key, of the right model",
        _add_check,
        _check,
    ),
}
"""Sub-commands about messages."""
