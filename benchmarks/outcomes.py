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
from benchmarks.readers.base import LEFT_OUT, Read, Row, left_out
from benchmarks.sources import Source
from c2c.errors import RefusedError, check_choice

REPEATED = "it repeats an earlier row"
ASKED = "a benchmark asks it"


@dataclass
class Outcomes:
    """Rows by group, outcome and reason."""

    rows: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def count(self, read: Read) -> None:
        """Add a row with this outcome."""
        self.rows[read.group, read.outcome, read.why] += 1

    @property
    def left_out(self) -> dict[str, int]:
        """Rows by the reason for leaving them out, the most frequent first."""
        reasons: Counter[str] = Counter()
        for (_, outcome, why), rows in self.rows.items():
            if outcome == LEFT_OUT:
                reasons[why] += rows
        return dict(reasons.most_common())

    @property
    def kept(self) -> int:
        """Rows that were not left out."""
        return sum(self.rows.values()) - sum(self.left_out.values())

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
        lines = [f"{title}: {total} rows, {self.kept} kept, {total - self.kept} left out"]
        for (group, outcome, why), rows in sorted(self.rows.items()):
            lines.append(f"{rows:>8}  {f'{group}: ' if group else ''}{outcome}{f', since {why}' if why else ''}")
        return "\n".join(lines)

    def note(self) -> dict[str, Any]:
        """For provenance."""
        return {
            "rows": sum(self.rows.values()),
            "kept": self.kept,
            "left_out": self.left_out,
            "waterfall": self.waterfall(),
        }


def read_rows(
    source: Source,
    protocol: str,
    outcomes: Outcomes,
    *,
    keep_repeats: bool = False,
    without: Collection[str] = frozenset(),
) -> list[Row]:
    """The questions or conversations of a source, in its order.

    Args:
        source: Where its rows come from.
        protocol: See `c2c.evaluation.protocol`.
        outcomes: Counts every row.
        keep_repeats: Whether a question that stands there twice is asked twice.
        without: Folded texts (`benchmarks.overlap`); what asks one of them is left out.

    Raises:
        RefusedError: The reader is unknown, the source does not exist, or two rows share an id.
    """
    reader = READERS[check_choice("A reader", source.reader, READERS)]
    seen: set[bytes] = set()
    found: dict[str, Row] = {}
    for place, row in _shown(source):
        read = reader(row, place, protocol)
        if read.question is not None:
            text = _digest(read.question)
            if text in seen and not keep_repeats:
                read = left_out(REPEATED, read.group)
            elif without and not texts_of(read.question).isdisjoint(without):
                read = left_out(ASKED, read.group)
            seen.add(text)
        outcomes.count(read)
        if read.question is None:
            continue
        if read.question["id"] in found:
            remedy = "Correct the reader, or drop the row from the data set"
            raise RefusedError(f"Rows of {source.dataset} must have different ids", read.question["id"], remedy)
        found[read.question["id"]] = read.question
    return list(found.values())


def _digest(question: Row) -> bytes:
    """Equal for equal questions: of everything that is asked, or of all turns of a conversation."""
    if "messages" in question:
        text = "\n".join(message["content"] for message in question["messages"])
    else:
        options = sorted(question.get("options", []))
        text = "\n".join([" ".join(question["question"].split()), *options, question.get("context", "")])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _shown(source: Source) -> Iterator[tuple[Any, Row]]:
    shown = cast(Callable[..., Iterator[tuple[Any, Row]]], tqdm)
    yield from shown(source.rows(), unit="rows", desc=source.dataset, mininterval=1)
