"""The command ``c2c check-cache``: whether a saved cache is whole and, with a key, as its sender signed it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from c2c.cli.commands import Command


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


COMMANDS = {
    "check-cache": Command("check a saved cache: whole, signed with a key, of the right model", _add_check, _check)
}
"""Sub-commands about messages."""
