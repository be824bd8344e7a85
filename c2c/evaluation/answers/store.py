"""Answers on the disk while a run is at work, so that a killed run resumes without repeating or losing any."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import tokenizers
import torch
import transformers

import c2c
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.questions.question import Question
from c2c.storage.files import UNFINISHED, host, is_running, write_atomically
from c2c.storage.formats import read_json_lines
from c2c.storage.locks import locked

VERSION = 1
"""Of what a line holds: raised with every change of its fields or their meaning."""
SHARD = re.compile(r"([0-9]+)(?:-[0-9a-f]+)?\.jsonl")
BUDGET = "token_budget.txt"
Key = tuple[str, str, str, str]


class AnswerStore:
    """Shards of JSON lines in a folder; each shard is one batch and appears whole or not at all.

    A shard that is not whole, or of another version, is not used: its questions are asked again, in the same batch. How
    many there are, and which other files lie in the folder, is said on stderr.

    Args:
        folder: Made for exactly one run: its name must depend on every setting that changes an answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Key, Answer] = {}
        folder.mkdir(parents=True, exist_ok=True)
        matches = {path: SHARD.fullmatch(path.name) for path in folder.iterdir() if path.is_file()}
        numbers = {path: int(match[1]) for path, match in matches.items() if match}
        self._shards = sorted(numbers, key=lambda shard: (numbers[shard], shard.name))
        refusals: list[RefusedError] = []
        for shard in self._shards:
            try:
                self._known |= read_shard(shard)
            except RefusedError as refusal:
                refusals.append(refusal)
        self._report(refusals)
        # A run that was killed while it removed its shards may have left any of them.
        self._next = 1 + max(numbers.values(), default=-1)

    def _report(self, refusals: Sequence[RefusedError]) -> None:
        """Say what lies in the folder and is not used."""
        if refusals:
            count = f"{len(refusals)} of {len(self._shards)} kept batches are of no use"
            print(f"{self.folder.name}: {count}: their questions are asked again. {refusals[0]}"[:600], file=sys.stderr)
        others = [*self._shards, self.folder / BUDGET]
        names = sorted(path.name for path in self.folder.iterdir() if path not in others)
        if strays := [name for name in names if not UNFINISHED.fullmatch(name)]:
            count = f"{len(strays)} file(s) that hold no answers are ignored"
            print(f"{self.folder.name}: {count}, such as {strays[0]}", file=sys.stderr)

    @staticmethod
    def _key(method: str, question: Question) -> Key:
        return method, question.benchmark, str(question.doc["id"]), question.prompt

    def get(self, method: str, question: Question) -> Answer | None:
        """The kept answer, if there is one."""
        return self._known.get(self._key(method, question))

    def put(self, method: str, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Keep the answers of one batch, on the disk when this returns."""
        batch = {self._key(method, question): answer for question, answer in zip(questions, answers, strict=True)}
        about = {"version": VERSION, "batch": len(batch)}
        lines = [json.dumps({**about, "key": key, "answer": asdict(answer)}) + "\n" for key, answer in batch.items()]
        # The second part keeps apart two runs on a file system that has no locks.
        shard = self.folder / f"{self._next:06d}-{secrets.token_hex(4)}.jsonl"
        write_atomically(shard, "".join(lines))
        self._shards.append(shard)
        self._next += 1
        self._known |= batch

    def budget(self, measure: Callable[[], int]) -> int:
        """The token budget that the run has measured: its batches are the same however often it was interrupted."""
        path = self.folder / BUDGET
        text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
        if not re.fullmatch("[1-9][0-9]{0,8}", text):
            text = str(measure())
            write_atomically(path, text + "\n")
        return int(text)

    def forget(self) -> None:
        """Remove the shards that this store has read or written; call it when the records are safe."""
        for shard in self._shards:
            shard.unlink(missing_ok=True)
        (self.folder / BUDGET).unlink(missing_ok=True)
        for path in self.folder.glob(".*.unfinished"):
            match = UNFINISHED.fullmatch(path.name)
            if match and match["host"] == host() and not is_running(int(match["pid"])):
                path.unlink(missing_ok=True)
        # What another run or a person has put there stays.
        with suppress(OSError):
            self.folder.rmdir()


@contextmanager
def open_store(output: Path, fingerprint: str) -> Iterator[AnswerStore]:
    """The store of the run that writes `output`; locked in the block, and forgotten at its end if that is a good one.

    Answers that other code or other versions of the libraries gave are not used.

    Args:
        output: The records; the store is a hidden folder beside them.
        fingerprint: Hash of every setting and input that changes an answer.

    Raises:
        RefusedError: If another run writes `output`.
    """
    name = hashlib.sha256(json.dumps([fingerprint, *versions()]).encode()).hexdigest()[:16]
    with _locked(output):
        folder = output.with_name(f".{output.stem}.{name}")
        _report_unused(output, folder)
        store = AnswerStore(folder)
        yield store
        store.forget()


def check_free(output: Path) -> None:
    """Refuse an output that another run writes; for before models are loaded, since `open_store` comes after that.

    Raises:
        RefusedError: With the run that writes it, or if it is a folder.
    """
    if output.is_dir():
        raise RefusedError("Records must go into a file, where there is no folder", str(output), "Name another output")
    with _locked(output):
        pass


def _locked(output: Path) -> AbstractContextManager[None]:
    return locked(output.with_name(f".{output.name}"), "answer questions for")


def _report_unused(output: Path, folder: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(output.stem)}\.[0-9a-f]{{16}}")
    folders = [path for path in output.parent.iterdir() if pattern.fullmatch(path.name) and path != folder]
    if folders and not folder.exists():
        notice = (
            f"answers in {len(folders)} folder(s) such as {folders[0].name} are of other settings, inputs or versions"
        )
        print(f"{output.name}: {notice}, and are not used. Remove them if no such run is to resume.", file=sys.stderr)


@cache
def versions() -> tuple[str, ...]:
    """This package's version and the hash of its code, and the versions of the libraries that answer."""
    home = Path(c2c.__file__).parent
    code = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        code.update(f"{path.relative_to(home)}\n".encode() + path.read_bytes())
    libraries = (torch.__version__, transformers.__version__, tokenizers.__version__)
    return c2c.__version__, code.hexdigest(), *map(str, libraries)


def read_shard(path: Path) -> dict[Key, Answer]:
    """The answers of one batch.

    Raises:
        RefusedError: If it is cut off, is no text, or holds what `AnswerStore.put` of this version does not write.
    """
    remedy = "Ask the questions again"
    rows = [row for _, row in read_json_lines(path, remedy)]
    if not rows:
        raise RefusedError(f"{path.name} must be a whole batch", "no line", remedy)
    for row in rows:
        if row.get("version") != VERSION:
            raise RefusedError(f"{path.name} must be of version {VERSION}", row.get("version"), remedy)
        if row.get("batch") != len(rows):
            raise RefusedError(f"{path.name} must be a whole batch", f"{len(rows)} of {row.get('batch')} lines", remedy)
        if not _is_key(row.get("key")) or not _is_answer(row.get("answer")):
            raise RefusedError(f"{path.name} must hold questions and answers", row, remedy)
    return {tuple(row["key"]): Answer(**row["answer"]) for row in rows}


def _is_key(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(part, str) for part in value)


def _is_answer(value: Any) -> bool:
    kinds = get_type_hints(Answer)
    return (
        isinstance(value, dict) and set(value) == set(kinds) and all(_fits(value[name], kinds[name]) for name in kinds)
    )


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of the type that a field of `Answer` has."""
    # JSON has no types of its own: a union fits if one of its members does, a list if all its elements do.
    if isinstance(kind, UnionType):
        return any(_fits(value, member) for member in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(element, get_args(kind)[0]) for element in value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
