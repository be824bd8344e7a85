"""Signatures of saved messages, so that a Receiver can refuse one that was altered or comes from somebody else.

A signature is an HMAC (RFC 2104) with SHA-256 over the manifest of a saved cache, as canonical JSON without the
signature itself. The manifest holds the SHA-256 of all tensors, the Sharer's lines of the contract, and the `Envelope`:
sender, receiver, contract and subject. So the signature covers all of these.

Sender and receiver share one key. Whoever has it can sign in any sender's name, and a message that was signed once stays
valid: `Envelope.subject` ties it to one conversation. A signature hides nothing: the tensors can be read without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, Self

from c2c.errors import RefusedError
from c2c.storage.manifests import check_keys

PURPOSE = b"c2c signed message, version 1\n"
"""Opens the text that is signed, so that a signature of something else under the same key does not fit."""
FEWEST_BYTES = 32
"""Shortest key; shorter than the hash, a key would be the weaker of the two (RFC 2104, section 3)."""
ENVIRONMENT = "env:"
"""Opens the name of an environment variable, where another text is the path of a file."""
MAKE_KEY = "Make one with: openssl rand -hex 32"


class SigningKey:
    """A secret that the sender and the receiver of messages share. It is never written, shown or pickled.

    Args:
        secret: At least 32 bytes, drawn at random.

    Raises:
        RefusedError: If the secret is no bytes, or too short.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) < FEWEST_BYTES:
            # Of a key, only what it is and its length are said.
            received = f"{len(secret)} bytes" if isinstance(secret, bytes) else type(secret).__name__
            raise RefusedError(f"A key must be at least {FEWEST_BYTES} bytes", received, MAKE_KEY)
        self._secret = secret

    @classmethod
    def of(cls, source: SigningKey | bytes | str | Path) -> Self | SigningKey:
        """The key in `source`: a key, its bytes, ``env:NAME`` (an environment variable), or the path of a file.

        A text in a variable or file is read as UTF-8 without the line break at its end.

        Raises:
            RefusedError: If the variable or the file is not there, the file can be read by other users, or the key is too
                short.
        """
        if isinstance(source, SigningKey):
            return source
        if isinstance(source, bytes):
            return cls(source)
        if str(source).startswith(ENVIRONMENT):
            name = str(source).removeprefix(ENVIRONMENT)
            if name not in os.environ:
                raise RefusedError("The environment variable of a key must be set", name, f"Set it. {MAKE_KEY}")
            return cls(os.environ[name].encode().rstrip(b"\r\n"))
        # As ssh does, refuse a file that others could have read.
        path = Path(source)
        if not path.is_file():
            raise RefusedError("The file of a key must be there", str(path), f"Correct the path. {MAKE_KEY}")
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            mode = f"{stat.S_IMODE(path.stat().st_mode):o}"
            raise RefusedError("The file of a key must be closed to other users", f"{path}, mode {mode}", "chmod 600")
        return cls(path.read_bytes().rstrip(b"\r\n"))

    def __repr__(self) -> str:
        return "SigningKey(…)"

    def __reduce__(self) -> NoReturn:
        raise RefusedError("A key must stay in its process", "a request to pickle it", "Read it where it is needed")

    def sign(self, manifest: Mapping[str, Any]) -> str:
        """The signature of a manifest; 64 hexadecimal digits."""
        return hmac.new(self._secret, PURPOSE + canonical(manifest), hashlib.sha256).hexdigest()

    def check(self, manifest: Mapping[str, Any], signature: str | None) -> None:
        """Refuse a manifest that was not signed with this key as it is now; compared in constant time.

        Raises:
            RefusedError: If there is no signature, or another one.
        """
        if not signature:
            raise RefusedError("A message must be signed where a key is given", "no signature", "Save it with this key")
        # As bytes, since compare_digest takes no text with other than ASCII characters.
        if not hmac.compare_digest(self.sign(manifest).encode(), signature.encode()):
            raise RefusedError(
                "A message must be as its sender signed it",
                "a signature that does not fit",
                "Do not use it: it was altered, or signed with another key",
            )


Key = SigningKey | bytes | str | Path
"""A key, or where it is; see `SigningKey.of`."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """From whom a message is, for whom, for which fusers, and about what. Fields that are empty say nothing.

    Args:
        sender: Name of the agent that sends it.
        receiver: Name of the agent that it is for.
        contract: `contract_hash` of the fusers that read it.
        subject: What it is about, such as the id of a conversation, so that it is not accepted in another one.
    """

    sender: str = ""
    receiver: str = ""
    contract: str = ""
    subject: str = ""

    @classmethod
    def read(cls, content: Any) -> Envelope:
        """The envelope that a manifest holds.

        Raises:
            RefusedError: If a key is missing, unknown or no text.
        """
        check_keys("An envelope", content, {field.name: str for field in fields(cls)}, remedy="Write the message again")
        return cls(**content)

    def to_dict(self) -> dict[str, str]:
        """All fields, as JSON has them."""
        return asdict(self)

    def check(self, expected: Envelope) -> None:
        """Refuse this envelope if it differs from a field of `expected` that is not empty.

        Raises:
            RefusedError: With each field that differs.
        """
        differences = [
            f"{name}: expected {value!r}, found {getattr(self, name)!r}"
            for name, value in expected.to_dict().items()
            if value and getattr(self, name) != value
        ]
        if differences:
            raise RefusedError(
                "A message must come from the expected sender and be for this receiver, contract and subject",
                differences,
                "Read the message that was sent here",
            )


def contract_hash(contract: Mapping[str, Any]) -> str:
    """SHA-256 of a contract as `c2c.models.contract` makes it; 64 hexadecimal digits."""
    return hashlib.sha256(canonical(contract)).hexdigest()


def canonical(content: Mapping[str, Any]) -> bytes:
    """JSON in one form only: sorted keys, no blanks, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
