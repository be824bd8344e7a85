"""The answering job of every kind: methods, questions, and the files that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workflow.settings import Settings


@dataclass(frozen=True)
class AnswerJob:
    """One job of ``c2c generate``. All paths lie below the results folder of the scale.

    Args:
        kind: Name of the kind, under which the plan counts the job.
        path: The records, without ``.parquet``.
        name: Id of the pair or the group in the records.
        pairs: The pairs whose models answer: one, or those of a group in the order of its Sharers.
        methods: Methods, each of which answers every question.
        tasks: Tasks, in the config's order.
        questions: The prepared questions of each task.
        receiver: Manifest of the Receiver.
        sharers: Manifests of the Sharers, in the order of `pairs`.
        subject: Who answers, as the message of the rule names it.
        fusers: What ``--fuser`` takes, one place a Sharer; empty for methods without Fusers.
        fuser_files: Files that must exist before the Fusers can be read.
        router: Folder of a trained router, or None.
        options: Further flags: ``recipe``, ``alignment``, ``seed``, ``fusion``.
        most_questions: How many questions of a task there are at most, or None.
    """

    kind: str
    path: str
    name: str
    pairs: tuple[str, ...]
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    questions: tuple[str, ...]
    receiver: str
    sharers: tuple[str, ...]
    subject: str
    fusers: tuple[str, ...] = ()
    fuser_files: tuple[str, ...] = ()
    router: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    most_questions: int | None = None

    @property
    def inputs(self) -> dict[str, list[str]]:
        """The files that the job reads below the results folder, by the name of the rule's input."""
        router = [f"{self.router}/{file}" for file in ("router.safetensors", "router.json")] if self.router else []
        return {
            "receiver": [self.receiver],
            "sharers": [*self.sharers],
            "fusers": [*self.fuser_files],
            "router": router,
            "questions": [*self.questions],
        }

    def memory_mb(self, settings: Settings) -> int:
        """Memory that the job asks for, in MB: that of both models of each pair."""
        return sum(map(settings.answering_mb, self.pairs))


def answer_job(
    settings: Settings, kind: str, path: str, pairs: Sequence[str], methods: Sequence[str], **fields: Any
) -> AnswerJob:
    """A job in which the models of `pairs` answer the tasks of the first of them, unless `fields` has others.

    Args:
        settings: The scale.
        kind: As in `AnswerJob`.
        path: As in `AnswerJob`.
        pairs: As in `AnswerJob`.
        methods: As in `AnswerJob`.
        **fields: Any other field of `AnswerJob`; `subject` has no default.
    """
    rows = [settings.pairs[pair] for pair in pairs]
    tasks = fields.pop("tasks", settings.tasks(pairs[0]))
    defaults = {
        "name": pairs[0],
        "questions": tuple(f"data/benchmarks/{settings.data.benchmark_of[task]}.jsonl" for task in tasks),
        "receiver": f"models/{rows[0]['receiver']}.json",
        "sharers": tuple(f"models/{row['sharer']}.json" for row in rows),
    }
    return AnswerJob(kind, path, pairs=tuple(pairs), methods=tuple(methods), tasks=tuple(tasks), **defaults | fields)


def checkpoint_files(folders: Sequence[str]) -> tuple[str, ...]:
    """The files of Fusers in each of some folders that ``c2c train`` wrote."""
    return tuple(f"{folder}/{file}" for folder in folders for file in CHECKPOINT)


CHECKPOINT = ("manifest.json", "model.safetensors", "config.json")
"""Files of a folder of trained Fusers that answering reads."""
