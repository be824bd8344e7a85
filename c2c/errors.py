"""The one way in which this project says no: the rule, the value received, the remedy."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class RefusedError(ValueError):
    """Bad input, refused before expensive work starts.

    Args:
        rule: What must hold, as a sentence without a full stop.
        received: The value that breaks the rule; shown with ``repr``.
        remedy: What the user can do about it, as a sentence without a full stop.
    """

    def __init__(self, rule: str, received: object, remedy: str) -> None:
        self.rule, self.received, self.remedy = rule, received, remedy
        super().__init__(f"{rule}; received {received!r}. {remedy}.")


def check_choice(what: str, received: str, allowed: Iterable[str]) -> str:
    """Return `received` if it is one of `allowed`.

    Raises:
        RefusedError: Otherwise, with the allowed values and the nearest of them.
    """
    choices = list(allowed)
    if received in choices:
        return received
    near = difflib.get_close_matches(str(received), choices, n=1)
    hint = f"Did you mean {near[0]!r}? Choose" if near else "Choose"
    raise RefusedError(f"{what} must be a known name", received, f"{hint} one of: {', '.join(choices)}")


def exit_code(program: str, act: Callable[[], object]) -> int:
    """Run a command: 0, or 2 where it is refused, which `program` says in one line on stderr."""
    try:
        act()
    except RefusedError as refusal:
        print(f"{program}: {refusal}", file=sys.stderr)
        return 2
    return 0
