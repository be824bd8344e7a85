"""Reads a docstring's ``Returns`` as prose: the type stands in the signature, and a colon in the text is a colon."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Function

SECTION = re.compile(r"^((?:Returns|Yields):\n\s+)(?=\S)", flags=re.MULTILINE)


class PlainReturns(Extension):
    """Puts an empty type before the text, so that Griffe takes the type from the signature."""

    def on_function_instance(self, *, func: Function, **_: Any) -> None:
        """Change the docstring of one function before it is parsed."""
        if func.docstring:
            func.docstring.value = SECTION.sub(r"\1: ", func.docstring.value)
