"""The result of a reader, and functions that several readers use.

A reader converts one row of a data set of the hub into a question in the form that all task files use, or excludes the
row with a reason. Its rows are:

* multiple choice: ``id``, ``subset``, ``question``, ``options``, ``answer`` (a letter, A to J)
* free answers: ``id``, ``subset``, ``question``, ``answer``
* conversations of training sets: ``id``, ``messages``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from c2c.types import LETTERS

Row = dict[str, Any]

KEPT_ROW, CORRECTED_ROW, EXCLUDED_ROW = "kept", "corrected", "left out"


class RowPlace(NamedTuple):
    """The place of a row in its data set: the subset (config) and the number of the row in it, from 0."""

    subset: str
    number: int


@dataclass(frozen=True)
class Outcome:
    """The result of reading one row.

    Args:
        outcome: KEPT_ROW, CORRECTED_ROW (kept with another key than the row's) or EXCLUDED_ROW.
        question: The question; None where the row is left out.
        why: The reason why it is left out.
        group: A label of the data set by which outcomes are counted.
    """

    outcome: str
    question: Row | None = None
    why: str = ""
    group: str = ""


Reader = Callable[[Row, RowPlace, str], Outcome]


def exclusion(why: str, group: str = "") -> Outcome:
    """The outcome of a row that is left out."""
    return Outcome(EXCLUDED_ROW, None, why, group)


def numbered(place: RowPlace) -> str:
    """An id made of subset and number, for a data set without ids."""
    return f"{place.subset}-{place.number:05d}" if place.subset else f"{place.number:05d}"


def choice(
    identity: object, subset: str, question: str, options: Sequence[str], key: int | None, group: str = ""
) -> Outcome:
    """A multiple-choice question whose options are lettered in their order.

    Args:
        identity: The question's id within its benchmark.
        subset: Part of the benchmark.
        question: Its text.
        options: Two to ten texts.
        key: Index of the right option; None if the row names none.
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
    """A question with an answer in free text; `solution`, the worked answer, is used by training sets only."""
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
