"""What every refusal of a bad input must be like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from c2c.errors import RefusedError

LONGEST = 4_000
"""Characters of a message that a person still reads."""


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Assert that the block refuses: a rule with "must", the value received, a remedy, in few characters.

    Args:
        words: Texts that the message must hold, such as the name of the file.
    """
    with pytest.raises(RefusedError) as caught:
        yield
    error = caught.value
    assert " must " in f" {error.rule} ", f"a rule says what must hold: {error}"
    assert error.remedy.strip(), "a refusal says what to do"
    assert len(str(error)) < LONGEST
    assert not [word for word in words if word not in str(error)], str(error)
