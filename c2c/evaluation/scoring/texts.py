r"""Where the answer stands in a generated text: without thoughts and further questions, and inside of boxes."""

from __future__ import annotations

import re

FURTHER_QUESTION = re.compile(
    r"(?<=\S)\s+(?:Question|Problem)\s*\d*\s*[:：]|(?<=\S)\s*\n\s*(?:Q|问题|题目)\s*\d*\s*[:：]"
)
BOX = re.compile(r"\\boxed\s*\{")
BRACES_TWICE = re.compile(r"\{\{([^{}]*)\}\}")


def own_part(text: str) -> str:
    """The text behind a model's thoughts, up to a further question that it writes itself."""
    # A prompt may have opened the thoughts itself; what never ends them has no answer.
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    further = FURTHER_QUESTION.search(text)
    return text[: further.start()] if further else text


def boxes(text: str) -> list[str]:
    r"""What stands in each ``\boxed{}``, in order; a box inside another one is part of its content."""
    contents = []
    place = 0
    while box := BOX.search(text, place):
        # The brace that closes the box is the one at which the depth returns to zero.
        depth, end = 1, box.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:
            place = box.end()
            continue
        contents.append(BRACES_TWICE.sub(r"{\1}", BOX.sub("{", text[box.end() : end - 1])))
        place = end
    return contents
