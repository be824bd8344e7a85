"""What is asked on the live page: its fields, its link and its command line. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from c2c.errors import RefusedError, check_choice

METHODS_OF_PAGE = ("receiver", "t2t", "c2c", "c2c_deranged")
"""Methods that answer every question."""
CONTROLS = ("zeroed", "random")
"""Messages of C2C on demand: zeros, and states with the moments of real messages."""
MOST_TOKENS = 1024


@dataclass(frozen=True)
class PageRequest:
    """A question to all columns.

    Args:
        question: What both models read: a user's message, or a text to continue.
        private: What the Sharer alone reads, before it.
        donor: The question that the wrong message is about; empty: one of the examples.
        donor_private: What the Sharer reads before that.
        max_new_tokens: Longest answer, in tokens.
        closed_layers: Receiver layers that are not fused.
        controls: Those of `CONTROLS` that are asked too.

    Raises:
        RefusedError: If the question is empty, a control unknown, or a number out of range.
    """

    question: str
    private: str = ""
    donor: str = ""
    donor_private: str = ""
    max_new_tokens: int = 24
    closed_layers: tuple[int, ...] = ()
    controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise RefusedError("A question must have characters", self.question, "Write one, or choose an example")
        if not 1 <= self.max_new_tokens <= MOST_TOKENS:
            raise RefusedError(
                f"The longest answer must have 1 to {MOST_TOKENS} tokens", self.max_new_tokens, "Choose another number"
            )
        for name in self.controls:
            check_choice("A control of the live page", name, CONTROLS)

    @property
    def columns(self) -> tuple[str, ...]:
        """The methods that answer, in the order of the page."""
        return (*METHODS_OF_PAGE, *(f"c2c_{name}" for name in CONTROLS if name in self.controls))

    def query(self) -> str:
        """The query of a link that opens the page with this question; `of_query` reads it."""
        fields = {
            "question": self.question,
            "private": self.private,
            "donor": self.donor,
            "donor_private": self.donor_private,
            "max_new_tokens": str(self.max_new_tokens),
            "closed_layers": ",".join(map(str, self.closed_layers)),
            "controls": ",".join(self.controls),
        }
        return urlencode({name: value for name, value in fields.items() if value})

    @classmethod
    def of_query(cls, query: Mapping[str, str], max_new_tokens: int) -> PageRequest | None:
        """The question of a link, or None if it names none.

        Args:
            query: Parameters of the address.
            max_new_tokens: Where the link has none.

        Raises:
            RefusedError: If a parameter does not fit.
        """
        if not query.get("question"):
            return None
        return cls(
            query["question"],
            query.get("private", ""),
            query.get("donor", ""),
            query.get("donor_private", ""),
            _number("max_new_tokens", query.get("max_new_tokens", str(max_new_tokens))),
            tuple(_number("closed_layers", layer) for layer in _list(query.get("closed_layers", ""))),
            tuple(_list(query.get("controls", ""))),
        )

    def command(self, pair_flags: Sequence[str]) -> str:
        """The command line that opens the page with this question, in one line for a POSIX shell.

        Args:
            pair_flags: Those that name the pair.
        """
        arguments = ["c2c", "demo", *pair_flags, "--question", self.question]
        texts = {"--private": self.private, "--donor": self.donor, "--donor-private": self.donor_private}
        for flag, text in texts.items():
            arguments += [flag, text] if text else []
        arguments += ["--max-new-tokens", str(self.max_new_tokens)]
        arguments += ["--closed-layers", *map(str, self.closed_layers)] if self.closed_layers else []
        arguments += ["--controls", *self.controls] if self.controls else []
        return shlex.join(arguments)


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise RefusedError(f"{name} of the link must be a whole number", text, "Copy the link again")
    return int(text)
