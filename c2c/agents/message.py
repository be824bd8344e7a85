"""What one agent hands to another: its cache, or a text where there is no cache that the other could read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c2c.checkpoints.sharer_cache import MANIFEST, SharerCache
from c2c.checkpoints.signing import Envelope, Key, SigningKey
from c2c.errors import RefusedError, check_choice
from c2c.storage.folders import current
from c2c.storage.manifests import check_keys

KINDS = ("cache", "text")
REFERENCE_KEYS = {
    "kind": str,
    "place": str,
    "text": str,
    "reason": str,
    "envelope": dict,
    "sha256": str,
    "signature": str,
}
SEND_AGAIN = "Send the message again"


@dataclass(frozen=True)
class AgentMessage:
    """A message between two agents: a cache, or a text.

    Args:
        envelope: Sender, receiver, the contract of the fusers that read a cache, and `subject_of` the prompt.
        content: The Sharer's cache, or the text.
        reason: Why it is a text; empty for a cache.
    """

    envelope: Envelope
    content: SharerCache | str
    reason: str = ""

    @property
    def kind(self) -> str:
        """``cache`` or ``text``."""
        return "text" if isinstance(self.content, str) else "cache"

    @property
    def size(self) -> int:
        """Bytes of keys and values, or of the text as UTF-8."""
        if isinstance(self.content, str):
            return len(self.content.encode())
        return sum(half.numel() * half.element_size() for layer in self.content.layers for half in layer)

    def save(self, folder: str | Path, *, key: Key | None = None) -> dict[str, Any]:
        """Write a cache to a folder of its own, and describe the message in JSON.

        Args:
            folder: Where messages are kept; a cache gets a folder in it, named after sender, receiver and subject.
                A later one of the same three takes its place; the reference to the earlier one is then refused.
            key: Signs the message; see `SharerCache.save`.

        Returns:
            A reference, small enough for the state of a graph or a log: kind, place of the cache or the text itself,
            reason, envelope, SHA-256 of the manifest or of the text, and the signature (empty without a key).
        """
        reference: dict[str, Any] = {"kind": self.kind, "reason": self.reason, "envelope": self.envelope.to_dict()}
        if isinstance(self.content, str):
            digest = hashlib.sha256(self.content.encode()).hexdigest()
            reference |= {"place": "", "text": self.content, "sha256": digest}
            return reference | {"signature": "" if key is None else SigningKey.of(key).sign(reference)}
        name = f"{self.envelope.sender}-{self.envelope.receiver}-{self.envelope.subject[:16]}"
        place = Path(folder) / name
        digest = self.content.save(place, key=key, envelope=self.envelope)
        signature = json.loads((place / MANIFEST).read_text(encoding="utf-8")).get("signature", "")
        return reference | {"place": str(place), "text": "", "sha256": digest, "signature": signature}

    @classmethod
    def load(cls, reference: Mapping[str, Any], *, key: Key | None = None, device: Any = "cpu") -> AgentMessage:
        """Read the message that a reference names.

        Args:
            reference: As `save` returned it, in any process that reaches the folder.
            key: The message must be signed with it.
            device: Where keys and values go.

        Raises:
            RefusedError: If the reference is of another form, the cache is not the one that it names, or, with a key,
                what it names was altered or not signed.
        """
        check_keys("A reference to a message", reference, REFERENCE_KEYS, remedy=SEND_AGAIN)
        check_choice("The kind of a message", reference["kind"], KINDS)
        envelope = Envelope.read(reference["envelope"])
        if reference["kind"] == "text":
            text = reference["text"]
            if key is not None:
                unsigned = {name: reference[name] for name in reference if name != "signature"}
                SigningKey.of(key).check(unsigned, reference["signature"])
            _check_hash(hashlib.sha256(text.encode()).hexdigest(), reference)
            return cls(envelope, text, reference["reason"])
        # The manifest's hash is in the reference, so a cache that was exchanged is found without a key too.
        manifest = current(Path(reference["place"])) / MANIFEST
        if not manifest.is_file():
            raise RefusedError(
                "The cache of a message must be where its reference says", reference["place"], SEND_AGAIN
            )
        _check_hash(hashlib.sha256(manifest.read_bytes()).hexdigest(), reference)
        return cls(envelope, SharerCache.load(reference["place"], device, key=key, envelope=envelope))


def _check_hash(digest: str, reference: Mapping[str, Any]) -> None:
    if digest != reference["sha256"]:
        raise RefusedError("A message must be the one that its reference names", "another hash", SEND_AGAIN)


def subject_of(prompt: str) -> str:
    """SHA-256 of the prompt that a message is about; a message about another prompt is not accepted."""
    return hashlib.sha256(prompt.encode()).hexdigest()
