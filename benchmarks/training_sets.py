"""Training sets: what is learned of each question or conversation, what is held out, and what a benchmark asks too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.overlap import asked_in
from benchmarks.prompts import PromptFormat
from benchmarks.readers import CHATS
from benchmarks.readers.base import Row
from benchmarks.rows import RowCounts, read_rows
from benchmarks.sources import Source
from benchmarks.user_files import UserFile
from c2c.errors import RefusedError
from c2c.evaluation.protocol import CORRECTED
from c2c.provenance import stamp
from c2c.storage.formats import write_json_lines


@dataclass(frozen=True)
class TrainingSet:
    """What a training set is made of.

    Args:
        sources: Where its rows come from, in this order.
        validation: How many examples are held out.
        asked_as: ``letter``, ``text`` or ``math`` for questions; empty for conversations and for prompts of a file.
        tasks: Folder of task files, whose wordings questions are asked in.
        without: Prepared benchmarks; what they ask is left out.
        protocol: With ``released``, questions are asked and answered in the words of the released code.
    """

    sources: tuple[Source | UserFile, ...]
    validation: int
    asked_as: str = ""
    tasks: Path = Path("benchmarks/tasks")
    without: tuple[Path, ...] = ()
    protocol: str = CORRECTED

    def __post_init__(self) -> None:
        chats = [source.reader in CHATS for source in self.sources if isinstance(source, Source)]
        if any(isinstance(source, UserFile) for source in self.sources) and not chats:
            return
        if not chats or any(chats) != all(chats) or all(chats) == bool(self.asked_as):
            rule = "A training set must be made of questions, with asked_as, or of conversations, without"
            received = f"readers {', '.join(source.reader for source in self.sources)}, asked_as {self.asked_as!r}"
            raise RefusedError(rule, received, "Correct its row in config/training_sets.tsv")

    def examples(self) -> tuple[list[Row], RowCounts]:
        """All examples, with ids that differ, and what became of the rows.

        Raises:
            RefusedError: A source does not exist or gives nothing that can be asked.
        """
        outcomes, tested = RowCounts(), asked_in(self.without)
        prompt_format = PromptFormat.load(self.tasks, self.asked_as, self.protocol) if self.asked_as else None
        rows: list[Row] = []
        for source in self.sources:
            counts = RowCounts()
            for row in read_rows(source, CORRECTED, counts, without=tested):
                identity = f"{source.dataset}/{source.subset or 'default'}/{row['id']}"
                rows.append({**_example(row, prompt_format), "id": identity})
            print(counts.table(f"{source.dataset}, {source.subset or 'default'}, {source.split}"))
            outcomes.rows.update(counts.rows)
        return rows, outcomes


def _example(row: Row, prompt_format: PromptFormat | None) -> Row:
    """A question in the words of the tasks; a conversation as it is; a prompt with its answer."""
    if "prompt" in row:
        return {"id": row["id"], "prompt": row["prompt"], "response": row["answer"]}
    if prompt_format is None and "question" in row:
        rule = "A training set of questions must say how they are asked"
        raise RefusedError(rule, "an empty asked_as", "Fill asked_as: letter for options, text for bare answers")
    return row if prompt_format is None else prompt_format.example(row)


def prompt_of(row: Row) -> str:
    """What an example asks, as text: its prompt, or its messages but the last."""
    return row["prompt"] if "prompt" in row else json.dumps(row["messages"][:-1], ensure_ascii=False)


def hold_out(rows: list[Row], count: int) -> tuple[list[Row], list[Row]]:
    """Training and validation rows: the `count` rows with the lowest hash of their prompt are held out.

    The choice depends on nothing but the rows themselves. Rows with the same prompt stay on one side.

    Raises:
        RefusedError: No training row would be left.
    """
    if not 0 <= count < len(rows):
        rule = f"Of {len(rows)} examples some must be left for training, and none or more be held out"
        raise RefusedError(rule, count, "Correct --validation")
    ranks = [hashlib.sha256(prompt_of(row).encode()).hexdigest() for row in rows]
    bound = sorted(ranks)[count]
    training = [row for row, rank in zip(rows, ranks, strict=True) if rank >= bound]
    return training, [row for row, rank in zip(rows, ranks, strict=True) if rank < bound]


def prepare_training_set(training_set: TrainingSet, train: Path, validation: Path) -> None:
    """Write a training set and what is held out of it.

    Raises:
        RefusedError: See `TrainingSet.examples` and `hold_out`.
    """
    settings = {
        "sources": [asdict(source) for source in training_set.sources],
        "validation": training_set.validation,
        "asked_as": training_set.asked_as,
        "protocol": training_set.protocol,
    }
    outputs: Sequence[Path] = (train, validation)
    with ExitStack() as stack:
        notes = [stack.enter_context(stamp(path, inputs=training_set.without, settings=settings)) for path in outputs]
        examples, outcomes = training_set.examples()
        parts = hold_out(examples, training_set.validation)
        for rows, path, note in zip(parts, outputs, notes, strict=True):
            write_json_lines(path, rows)
            note.update(data=[source.note() for source in training_set.sources], examples=len(rows), **outcomes.note())
        print(f"{len(parts[0])} examples to train on, {len(parts[1])} held out")
