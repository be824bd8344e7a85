"""What a reader returns, and what the readers of this folder share.

A reader turns one row of a data set, as its hub has it, into a question in the form that all task files read, or says
why the row is left out:

* multiple choice: ``id``, ``subset``, ``question``, ``options``, ``answer`` (a letter, A to J)
* free answers: ``id``, ``subset``, ``question``, ``answer``
* conversations to learn from: ``id``, ``messages``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from c2c.types import LETTERS

Row = dict[str, Any]

KEPT_ROW, CORRECTED_ROW, EXCLUDED_ROW = "kept", "corrected", "left out"


class Place(NamedTuple):
    """Where a row stands: its subset (config of the data set) and its number in there, from 0."""

    subset: str
    number: int


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Args:
        outcome: KEPT_ROW, CORRECTED_ROW (kept with another key than the row's) or EXCLUDED_ROW.
        question: The question; None where the row is left out.
        why: The reason for leaving it out.
        group: What the data set says of the row, where outcomes are counted by it.
    """

    outcome: str
    question: Row | None = None
    why: str = ""
    group: str = ""


Reader = Callable[[Row, Place, str], Outcome]


def exclusion(why: str, group: str = "") -> Outcome:
    """A row that is no question."""
    return Outcome(EXCLUDED_ROW, None, why, group)


def numbered(place: Place) -> str:
    """An id for a data set that has none: subset and number."""
    return f"{place.subset}-{place.number:05d}" if place.subset else f"{place.number:05d}"


def choice(
    identity: object, subset: str, question: str, options: Sequence[str], key: int | None, group: str = ""
) -> Outcome:
    """A multiple-choice question, lettered by the place of its options.

    Args:
        identity: The question's id within its benchmark.
        subset: Part of the benchmark.
        question: Its text.
        options: Two to ten texts.
        key: Place of the right option, or None if the row names none.
        group: See `Outcome`.
    """
    # A row that cannot be asked is left out, with the first reason that applies.
    texts = [str(option).strip() for option in options]
    if not question.strip():
        return exclusion("the question is empty", group)
    if not 2 <= len(texts) <= len(LETTERS):
        return exclusion(f"it has not 2 to {len(LETTERS)} options", group)
    if not all(texts):
        return exclusion("an option is empty", group)
    if key is None or not 0 <= key < len(texts):
        return exclusion("the key names no option", group)
    # Options keep their order, and the key becomes a letter.
    return Outcome(
        KEPT_ROW,
        {
            "id": str(identity),
            "subset": subset,
            "question": question.strip(),
            "options": texts,
            "answer": LETTERS[key],
        },
        group=group,
    )


def free(identity: object, subset: str, question: str, answer: str, solution: str) -> Outcome:
    """A question that is answered in free text; `solution` is the worked answer, which training sets alone use."""
    if not question.strip():
        return exclusion("the question is empty")
    if not answer.strip():
        return exclusion("there is no answer")
    return Outcome(
        KEPT_ROW,
        {
            "id": str(identity),
            "subset": subset,
            "question": question.strip(),
            "answer": answer.strip(),
            "solution": solution.strip(),
        },
    )
