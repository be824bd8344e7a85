"""What became of the rows of a data set: counted, printed, and noted in provenance."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from tqdm import tqdm

from benchmarks.overlap import texts_of
from benchmarks.readers import READERS
from benchmarks.readers.base import EXCLUDED_ROW, KEPT_ROW, Outcome, Row, RowPlace, exclusion
from benchmarks.sources import Source
from benchmarks.user_files import UserFile
from c2c.errors import RefusedError, check_choice

REPEATED_ROW = "it repeats an earlier row"
BENCHMARK_QUESTION = "a benchmark asks it"


@dataclass
class RowCounts:
    """Rows by group, outcome and reason."""

    rows: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Add a row with this outcome."""
        self.rows[outcome.group, outcome.outcome, outcome.why] += 1

    @property
    def exclusions(self) -> dict[str, int]:
        """Rows by the reason for leaving them out, the most frequent first."""
        reasons: Counter[str] = Counter()
        for (_, outcome, why), rows in self.rows.items():
            if outcome == EXCLUDED_ROW:
                reasons[why] += rows
        return dict(reasons.most_common())

    @property
    def kept_count(self) -> int:
        """Rows that were not left out."""
        return sum(self.rows.values()) - sum(self.exclusions.values())

    def waterfall(self) -> list[dict[str, Any]]:
        """One entry a group, outcome and reason, with its `rows`; without groups and reasons where there are none."""
        keys = ("group", "outcome", "why")
        return [
            {**{key: value for key, value in zip(keys, entry, strict=True) if value}, "rows": rows}
            for entry, rows in sorted(self.rows.items())
        ]

    def table(self, title: str) -> str:
        """The waterfall as lines of text."""
        total = sum(self.rows.values())
        lines = [f"{title}: {total} rows, {self.kept_count} kept, {total - self.kept_count} left out"]
        for (group, outcome, why), rows in sorted(self.rows.items()):
            lines.append(f"{rows:>8}  {f'{group}: ' if group else ''}{outcome}{f', since {why}' if why else ''}")
        return "\n".join(lines)

    def note(self) -> dict[str, Any]:
        """For provenance."""
        return {
            "rows": sum(self.rows.values()),
            "kept": self.kept_count,
            "left_out": self.exclusions,
            "waterfall": self.waterfall(),
        }


def read_rows(
    source: Source | UserFile,
    protocol: str,
    counts: RowCounts,
    *,
    keep_repeats: bool = False,
    without: Collection[str] = frozenset(),
) -> list[Row]:
    """The questions or conversations of a source, in its order.

    Args:
        source: Where its rows come from.
        protocol: See `c2c.evaluation.protocol`.
        counts: Counts every row.
        keep_repeats: Whether a question that stands there twice is asked twice.
        without: Folded texts (`benchmarks.overlap`); what asks one of them is left out.

    Raises:
        RefusedError: The reader is unknown, the source does not exist, or two rows share an id.
    """
    digests: set[bytes] = set()
    questions: dict[str, Row] = {}
    for place, row in _with_progress(source):
        outcome = _outcome(source, row, place, protocol)
        question = outcome.question
        # A row that repeats another one, or a question of a benchmark, is counted as such.
        if question is not None:
            digest = _digest(question)
            if digest in digests and not keep_repeats:
                outcome = exclusion(REPEATED_ROW, outcome.group)
            elif without and not texts_of(question).isdisjoint(without):
                outcome = exclusion(BENCHMARK_QUESTION, outcome.group)
            digests.add(digest)
        counts.add(outcome)
        if outcome.question is None:
            continue
        if outcome.question["id"] in questions:
            remedy = "Correct the reader, or drop the row from the data set"
            raise RefusedError(f"Rows of {source.dataset} must have different ids", outcome.question["id"], remedy)
        questions[outcome.question["id"]] = outcome.question
    return list(questions.values())


def _outcome(source: Source | UserFile, row: Row, place: RowPlace, protocol: str) -> Outcome:
    """What the reader of a source makes of a row.

    Raises:
        RefusedError: The reader is unknown, or is for rows of another form.
    """
    if isinstance(source, UserFile):
        return Outcome(KEPT_ROW, row)
    reader = READERS[check_choice("A reader", source.reader, READERS)]
    try:
        return reader(row, place, protocol)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        rule = f"Rows of {source.dataset} must have the form that the reader {source.reader} is for"
        columns = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        where = f"{place.subset + ', ' if place.subset else ''}row {place.number}"
        raise RefusedError(
            rule,
            f"{where} with {columns}: {type(error).__name__}: {error}",
            "Choose another reader, or another data set",
        ) from error


def _digest(question: Row) -> bytes:
    """Equal for equal questions: of everything that is asked, or of all turns of a conversation."""
    if "messages" in question:
        text = "\n".join(message["content"] for message in question["messages"])
    else:
        options = sorted(question.get("options", []))
        text = "\n".join([" ".join(question["question"].split()), *options, question.get("context", "")])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _with_progress(source: Source | UserFile) -> Iterator[tuple[Any, Row]]:
    bar = cast(Callable[..., Iterator[tuple[Any, Row]]], tqdm)
    yield from bar(source.rows(), unit="rows", desc=source.dataset, mininterval=1)
