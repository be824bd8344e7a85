"""Answers kept while a run goes on, so that a killed run repeats and loses none (design §6)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from c2c.evaluation.answering import Answer, Question


class AnswerStore:
    """Shards of JSON lines in a folder; each shard is one batch and appears whole or not at all.

    Args:
        folder: Made for exactly one run: its name must depend on every setting that changes an answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[tuple[str, str, str, str], Answer] = {}
        folder.mkdir(parents=True, exist_ok=True)
        shards = sorted(folder.glob("*.jsonl"))
        for shard in shards:
            for line in shard.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._known[tuple(row["key"])] = Answer(**row["answer"])
        # A run that was killed while it removed its shards may have left any of them.
        self._next = 1 + max((int(shard.stem) for shard in shards), default=-1)

    @staticmethod
    def _key(method: str, question: Question) -> tuple[str, str, str, str]:
        return method, question.benchmark, str(question.doc["id"]), question.prompt

    def get(self, method: str, question: Question) -> Answer | None:
        """The kept answer, if there is one."""
        return self._known.get(self._key(method, question))

    def put(self, method: str, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Keep the answers of one batch."""
        rows = [
            json.dumps({"key": self._key(method, question), "answer": asdict(answer)})
            for question, answer in zip(questions, answers, strict=True)
        ]
        unfinished = self.folder / "unfinished"
        unfinished.write_text("\n".join(rows) + "\n", encoding="utf-8")
        unfinished.replace(self.folder / f"{self._next:06d}.jsonl")
        self._next += 1
        self._known.update({self._key(method, q): answer for q, answer in zip(questions, answers, strict=True)})

    def forget(self) -> None:
        """Remove all shards; call it when the records are safe."""
        shutil.rmtree(self.folder, ignore_errors=True)
