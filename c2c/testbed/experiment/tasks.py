"""The tasks of an experiment: generated ones in the words that both vocabularies have, and the user's questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from c2c.errors import RefusedError
from c2c.models.hub import resolve
from c2c.testbed.experiment.questions import own_splits, read_questions, with_training
from c2c.testbed.experiment.settings import QUESTIONS, Experiment
from c2c.testbed.items import Item, check_item, write_items
from c2c.testbed.tasks.make import stock_of
from c2c.testbed.tasks.tasks import TASKS, build_items
from c2c.testbed.tasks.values import CODE_PLACEHOLDER, SPLITS
from c2c.testbed.tasks.vocabularies import Vocabularies

TITLES = {
    "redacted_word": "A word that only the Sharer reads",
    "redacted_code": "A code of four digits that only the Sharer reads",
    "unredacted_word": "A word that both models read",
    QUESTIONS: "Your questions",
}
HEADS = 25
"""Training texts that differ in their values alone."""
CODES = 10_000
"""Codes of four digits, one of which is right."""
FEWEST_CODES = 100
"""Different codes of a split, or the task is left out."""


@dataclass
class TaskFolders:
    """Folders of items by task and seed, and why a task was left out."""

    folders: dict[tuple[str, int], Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        """The tasks, in their order."""
        return list(dict.fromkeys(task for task, _ in self.folders))


def make_tasks(experiment: Experiment) -> TaskFolders:
    """Write the items of all tasks and seeds; the same settings give the same files.

    Raises:
        RefusedError: If a line of the user's questions breaks a rule, or no task can be made.
    """
    vocabularies = Vocabularies.load([resolve(model) for model in (experiment.receiver, experiment.sharer)])
    result = TaskFolders()
    questions = read_questions(experiment.data, vocabularies) if experiment.data else []
    for seed in experiment.seeds:
        splits = {}
        for task in experiment.amount.tasks:
            try:
                splits[task] = generate(task, vocabularies, experiment, seed)
            except RefusedError as refusal:
                note = f"The task {task} was left out, since the vocabularies lack its values ({refusal.rule})"
                result.warnings = list(dict.fromkeys([*result.warnings, note]))
        if questions:
            splits[QUESTIONS] = question_splits(questions, splits.get("redacted_word"), seed)
        for task, its_splits in splits.items():
            result.folders[task, seed] = experiment.output / "items" / task / f"seed{seed}"
            for split, items in its_splits.items():
                write_items(result.folders[task, seed] / f"{split}.jsonl", items)
    if not result.folders:
        rule = "The vocabularies of both models must share words of one token"
        raise RefusedError(rule, result.warnings, "Pass --data with questions in their words, or see --example")
    return result


def generate(task: str, vocabularies: Vocabularies, experiment: Experiment, seed: int) -> dict[str, list[Item]]:
    """The splits of a generated task.

    Raises:
        RefusedError: If the vocabularies have too few values of as many tokens as the placeholder.
    """
    values, amount = stock_of(TASKS[task], vocabularies, seed), experiment.amount
    if TASKS[task].placeholder == CODE_PLACEHOLDER and len(values.codes["test"]) < FEWEST_CODES:
        rule = f"There must be {FEWEST_CODES} codes with as many tokens as {CODE_PLACEHOLDER!r}"
        raise RefusedError(rule, len(values.codes["test"]), "Choose other models")
    splits = {}
    for split in SPLITS:
        heads = HEADS if split == "train" else 1
        splits[split] = build_items(TASKS[task], values.material(split), getattr(amount, split), heads)
        for item in splits[split]:
            check_item(item, item.id)
    return splits


def question_splits(
    questions: Sequence[Item], generated: Mapping[str, Sequence[Item]] | None, seed: int
) -> dict[str, list[Item]]:
    """The splits of the user's questions.

    Channels are trained on generated texts where the questions have a hidden text and there are such texts; else on a
    part of the questions.
    """
    if questions[0].need and generated is not None:
        return with_training(questions, generated)
    return own_splits(questions, seed)
